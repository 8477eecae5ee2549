"""A directory becomes a tree: the pipeline of an import, without commits or locks.

One thread walks, compares and stores; workers read, cut, hash and compress batches of small files and pieces of large
ones. What the workers make is stored in the order of the walk, so that neighbours in a directory are neighbours in a
pack. The bytes in flight are bounded. Rules: decision 20.
"""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, cast

import msgspec

from vfs.errors import VfsError
from vfs.model.chunking import IngestParams
from vfs.model.ids import NodeId
from vfs.model.names import join_path
from vfs.model.objects import ChunkRef, Content, Entry, Form, Kind, content_of
from vfs.repo.file_metadata import entry_from_status, member_path, read_xattrs
from vfs.repo.ingest.directory_walk import Found, Left, Problem, Scan, SourceDirectory, problem_of
from vfs.repo.ingest.source_reader import (
    LARGE_BYTES,
    BatchRead,
    FileRead,
    LargeRead,
    Piece,
    SourceReader,
    Target,
)
from vfs.repo.ingest.stat_cache import Row, StatCache, is_settled, row_of
from vfs.repo.ingest.stat_cache_blocks import Known
from vfs.store.object_store import ObjectSource, ObjectStore
from vfs.store.object_writer import ObjectWriter, PreparedBatch
from vfs.store.progress_callbacks import FileProgress
from vfs.store.trees.content_writer import content_from_refs, tiny_content
from vfs.store.trees.directories import edit_directory, file_content
from vfs.store.trees.hard_links import set_linked

_BATCH_BYTES = 2 * 1024 * 1024
"""What a thread reads before it hashes and compresses: of more, less is still in the processor's caches."""
_BATCH_FILES = 256
_IN_FLIGHT_BYTES = 48 * 1024 * 1024
_OPEN_DIRECTORIES_MAX = 128
_EDITS_MAX = 20_000
"""A directory's edits are stored this many at a time, so that a million names are never in memory at once."""
_QUEUE_MAX = 20_000
_CHECKPOINT_S = 60.0
"""Each checkpoint writes most pages of the index (ids are random), beside the pages that it replaces."""


class Tree(msgspec.Struct, frozen=True):
    """A tree that an import made: the root's entry, and the paths below it that are hard links of each other."""

    root: Entry
    groups: list[list[bytes]]


class Tally(msgspec.Struct):
    """The counts of an import: all files, those that had to be read, and the paths with problems.

    `ignored`: names that the rules left out, directories with all in them. `vanished` went away meanwhile, `unstable`
    kept changing while they were read: they are kept as read last.
    """

    files: int = 0
    size_bytes: int = 0
    files_read: int = 0
    read_bytes: int = 0
    ignored: int = 0
    vanished: list[bytes] = []
    unstable: list[bytes] = []


class _Group:
    """Names of one inode. The first one's entry and tiny bytes stand for all of them, also in a race."""

    __slots__ = ("names", "place")

    def __init__(self) -> None:
        self.names: list[tuple[bytes, bool]] = []
        self.place: tuple[Entry, Callable[[], bytes]] | None = None


class _Batch:
    """Small files that are read together."""

    __slots__ = ("future", "refs", "size", "targets")

    def __init__(self) -> None:
        self.targets: list[Target] = []
        self.size = 0
        self.future: Future[BatchRead] | None = None
        self.refs: list[list[ChunkRef]] | None = None


class _Small(NamedTuple):
    """A file that is read in a batch."""

    found: Found
    group: _Group | None
    batch: _Batch
    place: int


class _Alias(NamedTuple):
    """A further name of an inode whose first name is ahead in the queue."""

    found: Found
    group: _Group


class _Part(NamedTuple):
    """A piece of a large file: chunks in flight, or a hole."""

    future: Future[PreparedBatch] | None
    sizes: list[int]
    refs: list[ChunkRef]


class _Large(NamedTuple):
    """A large file whose pieces are all ahead in the queue."""

    found: Found
    group: _Group | None
    read: FileRead
    refs: list[ChunkRef]


class Ingest:
    """One import's pipeline; for one thread, used once."""

    def __init__(
        self,
        store: ObjectStore,
        writer: ObjectWriter,
        cache: StatCache,
        params: IngestParams,
        *,
        jobs: int,
        progress: FileProgress | None,
    ) -> None:
        self._store = store
        self._writer = writer
        self._cache = cache
        self._params = params
        self._reader = SourceReader(params, writer.prepare_chunks)
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="import")
        self._progress = progress
        # In the order of the walk: a directory is left after all that is in it.
        self._queue: deque[_Small | _Alias | _Part | _Large | Left] = deque()
        self._batch = _Batch()
        self._in_flight = 0
        self._open_directories = 0
        self._groups: dict[tuple[int, int], _Group] = {}
        self._rows: list[Row] = []
        self._checkpoint_due = time.monotonic() + _CHECKPOINT_S
        self._root: Entry | None = None
        self._files_done = 0
        self._bytes_done = 0
        # Of a large file that is being stored.
        self._part_bytes = 0
        self.tally = Tally()
        self.problems: list[Problem] = []

    def run(self, scan: Scan) -> Tree:
        """Stores the scanned directory and flushes the writer; unreadable paths are in `problems`, not in the tree."""
        try:
            for event in scan.events():
                if isinstance(event, Left):
                    self._leave(event)
                else:
                    self._process(event)
                self._drain()
            while self._queue:
                self._complete_next()
        finally:
            self._pool.shutdown(cancel_futures=True)
            self._close_directories()
        self.problems.extend(scan.problems)
        self.tally.ignored = scan.ignored
        tree = self._finish()
        self._checkpoint()
        return tree

    # What the walk finds is completed at once, or queued.

    def _process(self, found: Found) -> None:
        status = found.status
        self.tally.files += 1
        group = None
        if status.st_nlink > 1:
            key = (status.st_dev, status.st_ino)
            group = self._groups.get(key)
            if group is not None:
                self._enqueue(_Alias(found, group))
                return
            group = self._groups[key] = _Group()
        if not stat.S_ISREG(status.st_mode):
            self._take_special(found, group)
            return
        self.tally.size_bytes += status.st_size
        known = self._known(found)
        if known is not None and self._take_known(found, group, known):
            return
        if status.st_size > LARGE_BYTES:
            self._read_large(found, group)
        else:
            self._read_small(found, group)

    def _known(self, found: Found) -> Known | None:
        base = found.base
        known = self._cache.find(found.status, base)
        if known is None:
            return None
        status = self._reader.filesystems.current_status(found.directory.descriptor, found.name, found.status)
        return known if status is found.status else self._cache.find(status, base) if status is not None else None

    def _enqueue(self, item: _Small | _Alias | _Large) -> None:
        item.found.directory.pending += 1
        self._queue.append(item)

    def _take_special(self, found: Found, group: _Group | None) -> None:
        directory, name = found.directory.descriptor, found.name
        try:
            target = os.readlink(name, dir_fd=directory) if stat.S_ISLNK(found.status.st_mode) else b""
            xattrs = read_xattrs(member_path(directory, name))
        except (OSError, VfsError) as error:
            self._fail(found, None if isinstance(error, FileNotFoundError) else error)
            return
        entry = entry_from_status(name, found.status, xattrs, target=target, linked=_guess_linked(found))
        self._place(found, group, entry, _no_tiny)

    def _take_known(self, found: Found, group: _Group | None, known: Known) -> bool:
        """Adds a file whose content is known; returns False where it has to be read nevertheless."""
        base, directory = found.base, found.directory
        load_tiny = _no_tiny
        if known.form == Form.TINY:
            if base is None or directory.base is None:
                return False
            content = content_of(base)
            load_tiny = partial(_tiny_of, self._store, directory.base, base)
        else:
            content = Content(known.form, known.id, found.status.st_size, known.hole_bytes)
            if known.form != Form.EMPTY and not _is_content_of(base, known) and not self._store.has(NodeId(known.id)):
                return False
        entry = entry_from_status(found.name, found.status, known.xattrs, content=content, linked=_guess_linked(found))
        self._place(found, group, entry, load_tiny)
        return True

    def _read_small(self, found: Found, group: _Group | None) -> None:
        batch = self._batch
        self._enqueue(_Small(found, group, batch, len(batch.targets)))
        batch.targets.append(Target(found.directory.descriptor, found.name))
        batch.size += found.status.st_size
        if batch.size >= _BATCH_BYTES or len(batch.targets) >= _BATCH_FILES:
            self._submit_batch()

    def _submit_batch(self) -> None:
        batch, self._batch = self._batch, _Batch()
        self._in_flight += batch.size
        batch.future = self._pool.submit(self._reader.read_batch, batch.targets)

    def _read_large(self, found: Found, group: _Group | None) -> None:
        large = LargeRead(Target(found.directory.descriptor, found.name), self._params)
        for piece in large.pieces():
            self._queue_piece(piece, large.refs)
        if large.read.status is None:
            self._fail(found, large.read.error)
            return
        self._enqueue(_Large(found, group, large.read, large.refs))

    def _queue_piece(self, piece: Piece, refs: list[ChunkRef]) -> None:
        if piece.hole_bytes:
            self._queue.append(_Part(None, [piece.hole_bytes], refs))
            return
        sizes = list(map(len, piece.buffers))
        self._in_flight += sum(sizes)
        self._queue.append(_Part(self._pool.submit(self._reader.prepare, piece.buffers), sizes, refs))
        self._drain()

    def _leave(self, left: Left) -> None:
        directory = left.directory
        if directory.pending:
            self._open_directories += 1
        else:
            directory.close()
        self._queue.append(left)

    # Settling: the queue's head, as soon as its bytes are there.

    def _drain(self) -> None:
        """Completes items that are ready, and waits only where too many bytes are in flight."""
        while self._queue and self._is_ready(self._queue[0]):
            self._complete_next()
        while (
            self._in_flight > _IN_FLIGHT_BYTES
            or self._open_directories > _OPEN_DIRECTORIES_MAX
            or len(self._queue) > _QUEUE_MAX
        ):
            self._complete_next()

    @staticmethod
    def _is_ready(item: _Small | _Alias | _Part | _Large | Left) -> bool:
        if isinstance(item, _Small):
            batch = item.batch
            # Asking a future takes a lock, which would be for each file.
            return batch.refs is not None or (batch.future is not None and batch.future.done())
        return not isinstance(item, _Part) or item.future is None or item.future.done()

    def _complete_next(self) -> None:
        item = self._queue.popleft()
        if isinstance(item, Left):
            self._complete_directory(item.directory)
            return
        if isinstance(item, _Part):
            self._complete_part(item)
            return
        if isinstance(item, _Small):
            self._complete_small(item)
        elif isinstance(item, _Large):
            self._part_bytes = 0
            self._complete_read(item.found, item.group, item.read, item.refs)
        else:
            self._complete_alias(item)
        item.found.directory.pending -= 1
        self._checkpoint_if_due()

    def _complete_part(self, part: _Part) -> None:
        if part.future is None:
            part.refs.append(ChunkRef(b"", part.sizes[0]))
            return
        ids = self._writer.add_prepared(part.future.result())
        part.refs.extend(map(ChunkRef, ids, part.sizes))
        self._in_flight -= sum(part.sizes)
        self._part_bytes += sum(part.sizes)
        if self._progress is not None:
            self._progress(self._files_done, self._bytes_done + self._part_bytes, None)

    def _complete_small(self, item: _Small) -> None:
        batch = item.batch
        if batch.future is None:
            self._submit_batch()
        read = cast("Future[BatchRead]", batch.future).result()
        if batch.refs is None:
            batch.refs = self._store_chunks(read)
            self._in_flight -= batch.size
        self._complete_read(item.found, item.group, read.files[item.place], batch.refs[item.place])

    def _store_chunks(self, read: BatchRead) -> list[list[ChunkRef]]:
        """Stores a batch's chunks and returns each file's runs."""
        ids = iter(self._writer.add_prepared(read.chunks) if read.chunks is not None else ())
        return [
            [ChunkRef(next(ids), size) if size > 0 else ChunkRef(b"", -size) for size in file.runs]
            for file in read.files
        ]

    def _complete_read(self, found: Found, group: _Group | None, read: FileRead, refs: list[ChunkRef]) -> None:
        status = read.status
        if status is None:
            self._fail(found, read.error)
            return
        content = content_from_refs(self._writer, refs) if refs else tiny_content(read.tiny)
        self.tally.files_read += 1
        self.tally.read_bytes += content.size
        if not read.is_stable:
            self.tally.unstable.append(join_path(found.directory.path, found.name))
        elif read.is_stamped and is_settled(status, read.started_ns):
            self._rows.append(row_of(status, content, read.xattrs))
        entry = entry_from_status(found.name, status, read.xattrs, content=content, linked=_guess_linked(found))
        self._place(found, group, entry, lambda: content.tiny)

    def _complete_alias(self, item: _Alias) -> None:
        found, group = item
        if group.place is None:
            # The first name went away, or could not be read, before its bytes came: this one stands for the inode.
            if stat.S_ISREG(found.status.st_mode):
                read = self._reader.read_batch([Target(found.directory.descriptor, found.name)])
                self._complete_read(found, group, read.files[0], self._store_chunks(read)[0])
            else:
                self._take_special(found, group)
            return
        first, load_tiny = group.place
        entry = msgspec.structs.replace(first, name=found.name, linked=_guess_linked(found))
        self._place(found, group, entry, load_tiny)

    def _place(self, found: Found, group: _Group | None, entry: Entry, load_tiny: Callable[[], bytes]) -> None:
        directory = found.directory
        if group is not None:
            group.place = group.place or (entry, load_tiny)
            group.names.append((join_path(directory.path, found.name), entry.linked))
        if entry != found.base:
            directory.edits[found.name] = (entry, load_tiny())
            if len(directory.edits) >= _EDITS_MAX:
                self._store_edits(directory)
        if self._progress is not None:
            self._files_done += 1
            self._bytes_done += entry.size if entry.kind == Kind.FILE else 0
            self._progress(self._files_done, self._bytes_done, None)

    def _fail(self, found: Found, error: OSError | VfsError | None) -> None:
        path = join_path(found.directory.path, found.name)
        if error is None:
            self.tally.vanished.append(path)
        else:
            self.problems.append(problem_of(path, error))
        if found.base is not None:
            found.directory.edits[found.name] = None

    def _complete_directory(self, directory: SourceDirectory) -> None:
        if directory.descriptor >= 0:
            directory.close()
            self._open_directories -= 1
        self._store_edits(directory)
        entry = directory.entry()
        if directory.parent is None:
            self._root = entry
        elif entry != directory.base:
            directory.parent.edits[directory.name] = (entry, b"")

    def _store_edits(self, directory: SourceDirectory) -> None:
        if directory.edits:
            directory.store(edit_directory(self._writer, directory.stored, directory.edits))

    # Ends and checkpoints.

    def _finish(self) -> Tree:
        groups = [[path for path, _ in group.names] for group in self._groups.values() if len(group.names) > 1]
        wrong = {
            path: not guess
            for group in self._groups.values()
            for path, guess in group.names
            if guess != (len(group.names) > 1)
        }
        root = cast("Entry", self._root)
        if wrong:
            root = set_linked(self._writer, root, wrong)
        return Tree(root, groups)

    def _checkpoint_if_due(self) -> None:
        if time.monotonic() > self._checkpoint_due:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Makes what is stored so far durable and remembers it, so that it need not be read again after a crash."""
        self._writer.flush()
        self._cache.remember(self._rows)
        self._rows = []
        self._checkpoint_due = time.monotonic() + _CHECKPOINT_S

    def _close_directories(self) -> None:
        for item in self._queue:
            if isinstance(item, Left):
                item.directory.close()


def _guess_linked(found: Found) -> bool:
    """Returns the `linked` flag to begin with; whether a second name lies in the directory shows at the end.

    A file with several links keeps the flag that it had, so that an unchanged directory is met unchanged.
    """
    if found.status.st_nlink < 2:
        return False
    return found.base.linked if found.base is not None else True


def _is_content_of(base: Entry | None, known: Known) -> bool:
    return base is not None and base.kind == Kind.FILE and base.form == known.form and base.content == known.id


def _no_tiny() -> bytes:
    return b""


def _tiny_of(source: ObjectSource, directory: Entry, entry: Entry) -> bytes:
    return file_content(source, directory, entry).tiny
