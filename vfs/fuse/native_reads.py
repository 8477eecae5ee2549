"""Reads that the native session layer answers: where the bytes lie, and what becomes of those that it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import trio
from pyfuse3 import FUSEError

from vfs.fuse.prefetch.chunk_places import ChunkPlaces
from vfs.fuse.prefetch.prefetch_policy import PrefetchPolicy
from vfs.fuse.prefetch.tiny_contents import TinyContents
from vfs.fuse.request_handlers import VfsOperations
from vfs.fuse.view.version_inodes import VersionFile, VersionInodes
from vfs.native.session import HANDLE, NativeSession, Place, ReturnedRead
from vfs.store.object_store import StoredChunk


class NativeReads:
    """Tells the native layer where files of versions lie. Used by the event loop's thread."""

    def __init__(
        self,
        places: ChunkPlaces,
        contents: TinyContents,
        versions: VersionInodes,
        policy: PrefetchPolicy,
        native: NativeSession,
    ) -> None:
        self._places = places
        self._contents = contents
        self._versions = versions
        self._policy = policy
        self._native = native
        self._located: Sequence[StoredChunk] = ()
        self._read: VersionFile | None = None

    def locate(self, ino: int, offset: int, size: int) -> Place | None:
        """Returns where the answer to a read lies, None where the request handler has to answer. Raises nothing."""
        try:
            file = self._versions.file(ino)
            if file is None:
                return None
            found = self._places.find(file, offset, offset + size)
            if found is None:
                self._contents.give(file, file.entry)
                return None
            self._read = file if not offset else None
        except Exception:  # noqa: BLE001 - the request handler meets the same, and has its error boundary
            return None
        # The packs have to stay open until the library has them open itself.
        place, self._located = found
        return place

    def located(self) -> None:
        """Records the first read of a file, once it is begun: what follows is prefetched beside it. Raises nothing."""
        file, self._read = self._read, None
        self.record_first_reads()
        if file is not None:
            # A request handler meets the same, and has its error boundary.
            with suppress(Exception):
                self._policy.read(file)

    def record_first_reads(self) -> None:
        """Records the first reads of files whose place or content the layer was given before. Raises nothing."""
        for read in self._native.take_first_reads():
            # As above.
            with suppress(Exception):
                self._policy.read_natively(read)

    def drop(self) -> None:
        """Drops the places that are kept, here and by the layer: they keep packs open."""
        self._located = ()
        self._native.drop_places()


async def answer_returned(native: NativeSession, event: int, operations: VfsOperations) -> None:
    """Answers the reads that the native layer gives back, as the request handler does, which logs the damage."""
    async with trio.open_nursery() as nursery:
        while True:
            await trio.lowlevel.wait_readable(event)
            for read in native.take_returned():
                # One may wait for a remote.
                nursery.start_soon(_answer, native, read, operations)


async def _answer(native: NativeSession, read: ReturnedRead, operations: VfsOperations) -> None:
    try:
        data = bytes(await operations.read(read.ino | HANDLE, read.offset, read.size))
    except FUSEError as error:
        native.answer(read.unique, error.errno)
    else:
        native.answer(read.unique, 0, data)
