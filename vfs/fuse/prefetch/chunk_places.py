"""Where the chunks of versions' files lie on local disks: for readahead, and for reads that are answered natively."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence

from vfs.fuse.prefetch.leaf_places import LeafPlaces
from vfs.fuse.view.version_inodes import VersionFile
from vfs.model.ids import ChunkId
from vfs.model.objects import ChunkRef, Entry, Form, Kind
from vfs.native.session import NO_POSITION, PIECES_MAX, WINDOW_BYTES, Piece, Place, Prepared
from vfs.store.object_store import ObjectStore, StoredChunk
from vfs.store.remote_blocks import NotLocal
from vfs.store.trees.chunk_lists import list_leaf

FILE_BYTES_MAX = 256 * 1024
"""The largest file that is read whole: of larger ones a program may read only a part."""
_WINDOWS_MAX = 128
"""Windows of larger files that were read: all their chunks are looked up at the second read."""
_LOOK_EVERY = 4
"""How many reads of a remote's window pass before it is looked at again whether all of it has come."""
_AHEAD_BYTES = 1024 * 1024
"""Of the next window, so much is looked at: what has it fetched is the rest of the pack's window."""

Prepare = Callable[[int, Place, int, int], bool]
"""As NativeSession.prepare."""
Located = tuple[Place, Sequence[StoredChunk]]
"""A place, and what keeps its packs open."""


class ChunkPlaces:
    """The places of files that are looked up and read. Used by one thread."""

    def __init__(self, store: ObjectStore, prepare: Prepare, leaves: LeafPlaces | None = None) -> None:
        """`leaves`: looks up the places of a leaf's files at once."""
        self._store = store
        self._prepare = prepare
        self.leaves = leaves
        self._windows: OrderedDict[tuple[int, int], int] = OrderedDict()

    def prepare(self, file: VersionFile, entry: Entry, prepared: int = Prepared.NO) -> bool:
        """Gives the native layer the place of a small file before it is read; False where it has none.

        `prepared`: what the layer says of it, a Prepared.
        """
        if self.leaves is not None and self.leaves.prepare(file, prepared):
            return True
        found = self._located(entry, 0, entry.size) if entry.size <= FILE_BYTES_MAX else None
        if found is None:
            return False
        position = NO_POSITION if entry.linked else file.position
        return self._prepare(file.ino, found[0], file.directory.ino, position)

    def find(self, file: VersionFile, offset: int, end: int) -> Located | None:
        """Returns where [offset, end) of a file lies; None where it has holes or no chunks, or where one is missing."""
        entry = file.entry
        if entry.size <= FILE_BYTES_MAX:
            return self._located(entry, 0, entry.size)
        key = file.ino, offset // WINDOW_BYTES
        reads = self._windows[key] = self._windows.get(key, 0) + 1
        if len(self._windows) > _WINDOWS_MAX:
            self._windows.popitem(last=False)
        start = offset - offset % WINDOW_BYTES
        if reads > 1 and self._may_be_here(entry, start, reads):
            window = self._located(entry, start, max(end, start + WINDOW_BYTES), is_kept=True)
            if window is not None:
                self._windows[key] = 1
                self._fetch_ahead(entry, start + WINDOW_BYTES)
                return window
        # While a remote's window is on its way, the file's reader has to know how far the program is.
        return self._located(entry, offset, end) if reads == 1 or self._store.remote is None else None

    def _may_be_here(self, entry: Entry, start: int, reads: int) -> bool:
        """Returns False if a window at a remote is not all here, or was looked at a moment ago; True otherwise."""
        if self._store.remote is None:
            return True
        end = min(start + WINDOW_BYTES, entry.size)
        return reads % _LOOK_EVERY == 2 and self._located(entry, end - 1, end) is not None

    def _fetch_ahead(self, entry: Entry, start: int) -> None:
        """Begins to fetch the next window of a file at a remote, whose reader does not see the reads of this one."""
        end = start + _AHEAD_BYTES
        if self._store.remote is None or start >= entry.size:
            return
        try:
            if self._located(entry, start, end) is None:
                refs = self._refs(entry, start, min(end, entry.size))[1]
                self._store.hint_readahead([ref.id for ref in refs if ref.id])
        except NotLocal as missing:
            # A part of the file's list of chunks: the window that was asked for is here.
            missing.prefetch()

    def _located(self, entry: Entry, offset: int, end: int, *, is_kept: bool = False) -> Located | None:
        if entry.kind != Kind.FILE or entry.hole_bytes:
            return None
        end = min(end, entry.size)
        if entry.form == Form.CHUNK:
            start, refs = 0, [ChunkRef(entry.content, entry.size)]
        elif entry.form == Form.LIST:
            start, refs = self._refs(entry, offset, end)
        else:
            return None
        if len(refs) > PIECES_MAX:
            return None
        chunks = self._store.stored_chunks([ChunkId(ref.id) for ref in refs])
        if [chunk.size for chunk in chunks] != [ref.size for ref in refs]:
            return None
        return Place(start, entry.size, [_piece(chunk) for chunk in chunks], is_kept), chunks

    def _refs(self, entry: Entry, offset: int, end: int) -> tuple[int, list[ChunkRef]]:
        """Returns the chunks with bytes of [offset, end), and where the first begins."""
        first = offset
        refs: list[ChunkRef] = []
        while offset < end:
            starts, leaf = list_leaf(self._store, entry.content, offset)
            at = bisect_right(starts, offset) - 1
            if not refs:
                first = starts[at]
            refs += leaf[at : bisect_left(starts, end)]
            offset = starts[-1]
        return first, refs


def _piece(chunk: StoredChunk) -> Piece:
    file, offset, rest_offset, rest_bytes = chunk.place
    return Piece(offset, chunk.block_bytes, chunk.size, chunk.pack, file.descriptor, chunk.id, rest_offset, rest_bytes)
