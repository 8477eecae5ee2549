"""Where small files lie uncompressed in local packs: looked up once, for readahead and for the read that follows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from vfs.fuse.view.version_inodes import VersionFile
from vfs.model.ids import ChunkId
from vfs.model.objects import Form, Kind
from vfs.native.session import Piece, Place
from vfs.store.object_store import ObjectStore, RawChunk
from vfs.store.trees.chunk_lists import list_leaf

FILE_BYTES_MAX = 256 * 1024
"""The largest file that is read whole: of larger ones a program may read only a part."""
_KEPT_MAX = 64
"""Files that were looked up and are not read yet. Their packs stay open."""


class RawFile(NamedTuple):
    """A file's chunks in their order, all of them; together `size` bytes."""

    size: int
    chunks: Sequence[RawChunk]


class RawPlaces:
    """The places of files that were looked up. Used by one thread."""

    def __init__(self, store: ObjectStore, hint: Callable[[Place], None]) -> None:
        """`hint` has the disk begin to read."""
        self._store = store
        self._hint = hint
        self._kept: OrderedDict[int, RawFile] = OrderedDict()

    def prepare(self, file: VersionFile) -> bool:
        """Has the disk begin to read a file, and keeps its place for `take`; False where it does not lie so."""
        found = self._find(file)
        if found is None:
            return False
        self._hint(place_of(found.chunks, 0, found.size))
        self._kept[file.ino] = found
        if len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        return True

    def take(self, file: VersionFile) -> RawFile | None:
        """Returns where a file lies; None where a chunk is compressed, shares a block, is in memory or is missing."""
        return self._kept.pop(file.ino, None) or self._find(file)

    def _find(self, file: VersionFile) -> RawFile | None:
        entry = file.entry
        if entry.kind != Kind.FILE or entry.size > FILE_BYTES_MAX:
            return None
        if entry.form == Form.CHUNK:
            ids, sizes = [ChunkId(entry.content)], [entry.size]
        elif entry.form == Form.LIST:
            refs = list_leaf(self._store, entry.content, 0)[1]
            ids, sizes = [ChunkId(ref.id) for ref in refs], [ref.size for ref in refs]
        else:
            return None
        chunks = self._store.raw_chunks(ids)
        if sum(sizes) != entry.size or [chunk.size for chunk in chunks] != sizes:
            return None
        return RawFile(entry.size, chunks)


def place_of(chunks: Sequence[RawChunk], offset: int, end: int) -> Place:
    """Returns the chunks that have bytes of [offset, end)."""
    pieces: list[Piece] = []
    start = skipped = 0
    for chunk in chunks:
        if start < end and start + chunk.size > offset:
            if not pieces:
                skipped = offset - start
            pieces.append(Piece(chunk.offset, chunk.size, chunk.file.descriptor, chunk.id))
        start += chunk.size
    return Place(skipped, end - offset, pieces)
