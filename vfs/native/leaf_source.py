"""What the native session layer asks for to look up where the small files of a leaf lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class NodeBlock(NamedTuple):
    """Nodes in one buffer: their ids one behind the other, where each ends, as uint32; `nodes` counts them."""

    ids: bytes
    ends: bytes
    nodes: int
    plain: bytes
    plain_bytes: int


class LeafSource(Protocol):
    """Finds the chunks of a leaf's small files."""

    @property
    def is_partial(self) -> bool:
        """True if a list that can be read was left out, since it takes too long now."""
        ...

    def read_block(self, list_id: bytes) -> NodeBlock | None:
        """Returns a block of nodes with a chunk list, none of them checked; None for a list that is left out."""
        ...

    def read_list(self, list_id: bytes) -> bytes:
        """Returns a list that a block has, and is large or has more nodes, as one leaf; nothing if it is left out."""
        ...

    def find(self, ids: list[bytes]) -> tuple[bytes, Sequence[tuple[int, int]]]:
        """Returns the index's rows of chunks, and number and descriptor of the packs that these name."""
        ...
