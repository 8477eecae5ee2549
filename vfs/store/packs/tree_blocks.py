"""TreeBlock: a block of nodes and commits in memory, decompressed, each of which is checked when it is first asked for.

A block has some hundred small chunk lists, or the nodes of a directory, of which a reader wants a few.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate

from vfs.errors import REBUILD_HINT
from vfs.model.ids import Buffer
from vfs.store.packs.blocks import BadBlock, DamagedObject, object_id_of, read_records
from vfs.store.packs.compression import BadFrame, Codec, Compression
from vfs.store.packs.node_payload import NodePayload

_OBJECT_BYTES = 130
"""What an object costs beside its bytes: its id, its places in two tuples and in the cache's map (tracemalloc)."""
_BLOCK_BYTES = 1000


class TreeBlock:
    """Objects by their ids; they share one buffer. Safe for several threads."""

    __slots__ = ("_checked", "_ends", "_plain", "cost", "ids")

    def __init__(self, ids: Sequence[bytes], sizes: Sequence[int], plain: Buffer) -> None:
        self.ids = ids
        self._plain = memoryview(plain)
        self._ends = tuple(accumulate(sizes))
        # Of each object the type that its bytes were found to be of, 0 before that.
        self._checked = bytearray(len(ids))
        self.cost = len(plain) + len(ids) * _OBJECT_BYTES + _BLOCK_BYTES

    def get(self, object_id: bytes, kind: int) -> memoryview | None:
        """Returns an object that the block has, checked; None if its bytes are not those of this type and id."""
        at = self.ids.index(object_id)
        view = self._plain[self._ends[at - 1] if at else 0 : self._ends[at]]
        if self._checked[at] == kind:
            return view
        if object_id_of(kind, view) == object_id:
            self._checked[at] = kind
            return view
        return self._other_copy(object_id, kind)

    def packed(self) -> tuple[bytes, bytes, bytes]:
        """Returns all ids one behind the other, where each object ends, as uint32, and the bytes, none checked."""
        return b"".join(self.ids), array("I", self._ends).tobytes(), bytes(self._plain)

    def _other_copy(self, object_id: bytes, kind: int) -> memoryview | None:
        """Returns a right copy of an object that the block has more than once, as fsck takes it."""
        for at, each in enumerate(self.ids):
            view = self._plain[self._ends[at - 1] if at else 0 : self._ends[at]]
            if each == object_id and object_id_of(kind, view) == object_id:
                return view
        return None


def open_tree_block(raw: Buffer, wanted: bytes, pack: str, compression: Compression) -> TreeBlock:
    """Returns a block with an object, and with the others that were decompressed with it; none is checked yet.

    Raises DamagedObject, which names the id that was wanted and the pack.
    """
    try:
        head, records = read_records(raw)
        _, sizes, ids = zip(*records, strict=True)
        if head.block_bytes != len(raw) or wanted not in ids:
            raise DamagedObject(wanted, pack, "the index points at another block", hint=REBUILD_HINT)
        payload = memoryview(raw)[head.header_bytes :]
        if head.codec != Codec.NODES:
            return TreeBlock(ids, sizes, compression.decompress(head.codec, payload, head.plain_bytes))
        nodes = NodePayload(payload, list(zip(sizes, ids, strict=True)), compression)
        found = sorted(nodes.unpack([ids.index(wanted)]).items())
        plains = [plain for _, plain in found]
        return TreeBlock([ids[number] for number, _ in found], list(map(len, plains)), b"".join(plains))
    except (BadBlock, BadFrame) as error:
        raise DamagedObject(wanted, pack, error.message) from error
