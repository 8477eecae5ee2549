"""Where a file is being read in sequence, what of it to bring before it is asked for, and who brings it.

No input or output here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from vfs.model.ids import ChunkId

FIRST_BYTES = 256 * 1024
"""Reading from a file's start makes a sequence after this many bytes: more than a look at a header."""
RUN_BYTES = 2 * 1024 * 1024
"""Reading from anywhere else does after this many, one after the other: more than a program reads at a random place."""
WINDOW_BYTES = 4 * 1024 * 1024
"""How far ahead of the reader the bytes are that were asked for, at most."""

JOB_BYTES_MAX = 1024 * 1024
JOB_CHUNKS_MAX = 512
"""What is brought as one job, at most: plain bytes, and chunks."""


class Extent(NamedTuple):
    """Blocks that lie side by side in a pack: its key, where they begin, the length of each. Worth one read."""

    pack: str
    offset: int
    sizes: Sequence[int]


class ChunksAhead(Protocol):
    """Brings chunks into memory beside its user, for any thread."""

    def holds(self, object_id: ChunkId) -> bool:
        """Says whether a chunk is here or on its way."""
        ...

    def bring(self, chunks: Sequence[ChunkId], extents: list[Extent]) -> None:
        """Begins to bring one job's chunks, which lie in these extents; may do nothing."""
        ...

    def get(self, object_id: ChunkId) -> memoryview | None:
        """Returns a chunk that is here, read-only and checked, waiting a moment for one that is nearly; else None."""
        ...


class AccessPattern:
    """Follows the reads of one open file."""

    __slots__ = ("_ahead", "_next", "_start")

    def __init__(self) -> None:
        self._start = self._next = self._ahead = 0

    def note(self, offset: int, end: int, size: int) -> tuple[int, int] | None:
        """Takes note of a read of [offset, end) in a file of `size`; returns the stretch to bring now, if any.

        What is brought grows with what was read in sequence, so a sequence that ends wastes no more than it used.
        """
        if offset != self._next:
            self._start = self._ahead = offset
        self._next = end
        run = end - self._start
        if run < (FIRST_BYTES if self._start == 0 else RUN_BYTES):
            return None
        first = max(end, self._ahead)
        last = min(end + min(run, WINDOW_BYTES), size)
        if first >= last:
            return None
        self._ahead = last
        return first, last
