"""Read-ahead: when files are opened in the order of their names, a worker thread brings the next ones.

That is how an epoch of training, `cp -r` and `grep -r` go through a directory, and neighbours in a directory lie side
by side in their pack, so many small files arrive with one disk read. Anything else brings nothing ahead. Within one
file the kernel's own read-ahead does (docs/decisions/0012-read-ahead.md).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from vfs.errors import VfsError
from vfs.fuse.versions import VersionDirectory
from vfs.model.ids import ChunkId
from vfs.model.objects import Entry, Form, Kind, content_of
from vfs.store.directories import entries
from vfs.store.files import FileReader
from vfs.store.objectstore import ObjectSource

ASCENDING_MIN = 6
"""Opens in ascending order that make a sequence: random order does that once in 5,040 times."""
BATCH_FILES = 16
BATCH_BYTES = 2 * 1024 * 1024
"""What is brought at a time; at most two such batches of a directory are cached and not yet read."""
_DIRECTORIES_MAX = 64
_BEHIND_ALL = b"\xff" * 256


class _Sequence:
    """How the files of one directory are being opened: the last one, and from which one on the next batch is due."""

    def __init__(self) -> None:
        self.last = b""
        self.ascending = 0
        self.brought = b""
        self.due_at = b""


class ReadAhead:
    """One mount's worker and what it follows. All methods belong to the event loop's thread."""

    def __init__(self, source: ObjectSource) -> None:
        self._source = source
        self._sequences: dict[bytes, _Sequence] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")

    def close(self) -> None:
        """Ends the worker; what it has not begun is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def opened(self, directory: VersionDirectory, entry: Entry) -> None:
        """Takes note of an open, and sends the worker ahead where files are being opened in ascending order."""
        sequence = self._sequences.get(directory.path)
        if sequence is None:
            if len(self._sequences) >= _DIRECTORIES_MAX:
                self._sequences.clear()
            sequence = self._sequences[directory.path] = _Sequence()
        name = entry.name
        if name > sequence.last:
            sequence.ascending += 1
        elif name < sequence.last:
            sequence.ascending = 0
            sequence.brought = sequence.due_at = b""
        sequence.last = name
        if sequence.ascending >= ASCENDING_MIN and name >= sequence.due_at:
            batch = self._batch_after(directory.entry, max(sequence.brought, name))
            # The next batch is due when half of this one has been opened.
            sequence.due_at = batch[len(batch) // 2].name if batch else _BEHIND_ALL
            if batch:
                sequence.brought = batch[-1].name
                self._pool.submit(self._bring, batch)

    def _batch_after(self, directory: Entry, name: bytes) -> list[Entry]:
        """Returns the next files whose bytes lie in chunks of their own; tiny ones come with their directory."""
        batch: list[Entry] = []
        size = 0
        for entry in entries(self._source, directory, name):
            if entry.kind != Kind.FILE or entry.form not in (Form.CHUNK, Form.LIST):
                continue
            size += entry.size
            if size > BATCH_BYTES or len(batch) == BATCH_FILES:
                break
            batch.append(entry)
        return batch

    def _bring(self, batch: list[Entry]) -> None:
        wanted: list[ChunkId] = []
        try:
            for entry in batch:
                refs = FileReader(self._source, content_of(entry)).refs()
                wanted.extend(ChunkId(ref.id) for _, ref in refs if ref.id)
            self._source.prefetch(wanted)
        except (VfsError, OSError):
            # Damage is told to whoever reads the file; nobody waits for this.
            return
