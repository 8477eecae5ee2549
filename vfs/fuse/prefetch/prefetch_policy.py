"""The prefetch policy of a mount: which files to prefetch, into the kernel's page cache if possible, else into memory.

The first open of a small file populates the page cache (notify_store), which saves the request to read it. Where a
program opens files in the order of their names, as an epoch of training, `cp -r` and `grep -r` do, worker processes
prefetch the next ones: neighbours in a directory are adjacent in their pack, so one disk read gets many. Opens in
random order prefetch nothing (decision 40).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

from vfs.errors import VfsError
from vfs.fuse.inodes import InodeTable
from vfs.fuse.prefetch.chunk_places import ChunkPlaces
from vfs.fuse.prefetch.open_predictor import ConfidencePredictor, OpenPredictor
from vfs.fuse.prefetch.streams import GAP, IN_CHUNKS, NEIGHBOURS_MIN, OTHERS_MAX, Stream, files_in_chunks
from vfs.fuse.prefetch.tiny_contents import TinyContents
from vfs.fuse.prefetch.worker_pool import WorkerPool
from vfs.fuse.view.version_inodes import VersionDirectory, VersionFile, VersionInodes
from vfs.model.ids import Buffer, ChunkId
from vfs.model.objects import ChunkRef, Entry, Form, Kind, content_of
from vfs.native.session import FirstRead, Found, FoundFile, NativeSession, Prepared, ReadKind
from vfs.store.object_store import ObjectStore
from vfs.store.remote_blocks import NotLocal
from vfs.store.trees.directories import content_ids, numbered_entries
from vfs.store.trees.file_reader import FileReader

Push = Callable[[int, int, Any], None]
"""(inode, offset, bytes): puts bytes into the kernel's page cache; raises OSError if it does not know the inode."""

PUSH_BYTES_MAX = 256 * 1024
"""Larger files are left to read requests, since a program may read only a part. No chunk is larger."""
BATCH_FILES = 32
BATCH_BYTES = 2 * 1024 * 1024
"""The most that is prefetched at a time. A stream begins with twice as many files as were opened, and doubles with each
batch. At most two batches of a stream are prefetched and not yet opened."""
_JOB_FILES = 8
"""Files of a batch in one job: small jobs let another worker, or a request, take the rest."""
_STREAMS_MAX = 16
_BEGINS_MAX = 16
"""Opens that may each be the first one of a stream. So many that no stream expected end one that has not moved."""
_REQUESTS_MAX = 4096
"""The most requests that are recorded: of files in the page cache, or in flight, that no program has opened yet."""


class _BestEffort:
    """Leaves errors to the requests that meet them again, and starts to fetch blocks that are not local."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, NotLocal):
            error.prefetch()
        return isinstance(error, (NotLocal, VfsError, OSError))


_BEST_EFFORT = _BestEffort()


class PrefetchPolicy:
    """What one mount prefetches. All methods run in the event loop's thread.

    `push` is None without a kernel: then files are prefetched into memory only, as they are without `populator`.
    """

    def __init__(
        self,
        store: ObjectStore,
        versions: VersionInodes,
        table: InodeTable,
        push: Push | None,
        populator: WorkerPool | None = None,
        places: ChunkPlaces | None = None,
        contents: TinyContents | None = None,
        native: NativeSession | None = None,
    ) -> None:
        """`places`: where files lie that are read natively. `contents`: what gives the native layer tiny ones."""
        self._store = store
        self._places = places
        self._contents = contents
        self._versions = versions
        self._table = table
        self._files = table.files
        # A file is marked when its bytes were given to the kernel, as far as they are ever given. Where processes push
        # it at the same time the kernel gets the same bytes twice.
        self._pushed = table.files.is_marked
        self._mark_pushed = table.files.mark
        self._push = push
        self._populator = populator
        self._buffer = bytearray(2 * PUSH_BYTES_MAX)
        # By inode, the request ids of files that no program has opened since.
        self._requests: OrderedDict[int, int] = OrderedDict()
        self._streams: OrderedDict[int, Stream] = OrderedDict()
        # By place and name: the stream that an open of the file would continue.
        self._expected: dict[tuple[bytes, bytes], int] = {}
        # Opens that no stream expected, oldest first, by directory and position.
        self._begins: OrderedDict[tuple[int, int], VersionFile] = OrderedDict()
        self._begun = 0
        self._last = 0
        self._native = native
        self._natively_begun = 0
        if native is not None:
            native.forget_first_reads()
        self._predictor: OpenPredictor = ConfidencePredictor() if native is None else native

    def opened(self, file: VersionFile, reader: FileReader) -> None:
        """Records an open: populates the page cache with a small file, and prefetches the next ones of a stream."""
        self._predictor.opened(file.ino)
        entry = file.entry
        if not (self._pushed(file.ino) or self._is_in_flight(file.ino)):
            self._mark_pushed(file.ino)
            if self._push is not None and 0 < reader.size <= PUSH_BYTES_MAX:
                _notify_store(self._push, file.ino, self._content(entry, reader))
        if entry.form in IN_CHUNKS and not entry.linked:
            # The request that reads a damaged file reports it.
            with _BEST_EFFORT:
                self._follow_file(file, entry)

    def read(self, file: VersionFile) -> None:
        """Records the first read of a file whose open was not a request here.

        Its pages come with the answers: populating the page cache would wait for a page that the request holds.
        """
        self._predictor.opened(file.ino)
        self._is_in_flight(file.ino)
        self._mark_pushed(file.ino)
        if not self._is_far(file):
            self._follow_read(file)

    def _is_far(self, file: VersionFile) -> bool:
        """Returns True, and records the open, if it cannot continue a stream, nor be the second one of one."""
        ino, position = file.directory.ino, file.position
        if self._expected:
            for stream in self._streams.values():
                if stream.directory is not None and stream.directory.ino == ino:
                    return False
        for begin in self._begins:
            if begin[0] == ino and 0 < position - begin[1] <= OTHERS_MAX:
                return False
        self._begin(file)
        return True

    def read_natively(self, read: FirstRead) -> None:
        """Records a first read that the native layer has answered."""
        if read.begun != self._natively_begun:
            self._count_begun(read.begun - self._natively_begun & 0xFFFFFFFF)
            self._natively_begun = read.begun
        if not read.ino:
            return
        self._is_in_flight(read.ino)
        self._mark_pushed(read.ino)
        if read.kind in (ReadKind.SECOND, ReadKind.WATCHED):
            file = self._versions.file(read.ino)
            if file is not None:
                is_second = True if read.kind == ReadKind.SECOND else None
                self._follow_read(file, is_second=is_second)

    def _follow_read(self, file: VersionFile, *, is_second: bool | None = None) -> None:
        entry = file.entry
        if entry.form in IN_CHUNKS and not entry.linked:
            with _BEST_EFFORT:
                self._follow_file(file, entry, are_opens_seen=False, is_second=is_second)

    def opened_unchanged(self, directory: Entry, entry: Entry) -> None:
        """Records an open of a working layer's file that is unchanged from its directory in a version.

        The next ones are prefetched into memory only: pages of a file that may be written come from requests alone.
        """
        if entry.form in IN_CHUNKS and not entry.linked:
            with _BEST_EFFORT:
                self._follow(b"w" + directory.content, directory, entry.name)

    def looked_up(self, file: VersionFile) -> None:
        """Records a lookup: if an open is likely to follow, hints readahead of the file's bytes to the disk."""
        entry = file.entry
        if self._is_unread(file, entry) and self._predictor.looked_up(file.ino):
            self._prepare(file, entry)

    def prepare(self, file: VersionFile, prepared: int) -> None:
        """Prepares a file for the open that is likely to follow; `prepared`, a Prepared: what the native layer did."""
        entry = file.entry
        if self._is_unread(file, entry):
            self._prepare(file, entry, prepared)

    def _is_unread(self, file: VersionFile, entry: Entry) -> bool:
        return entry.kind == Kind.FILE and not self._has_pages(file.ino)

    def _prepare(self, file: VersionFile, entry: Entry, prepared: int = Prepared.NO) -> None:
        with _BEST_EFFORT:
            if self._contents is not None and self._contents.give(file, entry):
                return
            if self._places is None or not self._places.prepare(file, entry, prepared):
                self._store.hint_readahead(content_ids(self._store, file.directory.entry, entry))

    def entered(self, directory: VersionDirectory) -> None:
        """Records a lookup or an open of a directory: hints readahead of its first node to the disk."""
        content = directory.entry.content
        if content:
            with _BEST_EFFORT:
                self._store.hint_readahead([content])

    def _is_in_flight(self, ino: int) -> bool:
        """Returns True if a worker has populated the cache with a file or is doing so; else cancels the request."""
        request_id = self._requests.pop(ino, None)
        if request_id is None or self._populator is None or self._populator.cancel(request_id):
            return False
        self._mark_pushed(ino)
        return True

    def _content(self, entry: Entry, reader: FileReader) -> Buffer:
        """Returns a small file's bytes; none if it is damaged, which the read request reports."""
        try:
            if entry.form == Form.TINY:
                return reader.read(0, reader.size)
            refs = _refs(reader)
            return _join(entry, refs, self._store.read_chunks(_ids(refs), self._buffer))
        except NotLocal:
            # This open must not wait for a fetch.
            return b""
        except (VfsError, OSError):
            return b""

    def _follow_file(
        self, file: VersionFile, entry: Entry, *, are_opens_seen: bool = True, is_second: bool | None = None
    ) -> None:
        """`is_second`: whether it may be the second one of a stream, None where that is not known yet."""
        directory = file.directory
        place = b"d%d" % directory.ino
        if (place, entry.name) not in self._expected and is_second is None:
            is_second = self._is_second(file, entry.name)
        if (place, entry.name) in self._expected or is_second:
            self._follow(place, directory.entry, entry.name, directory, are_opens_seen=are_opens_seen)

    def _is_second(self, file: VersionFile, name: bytes) -> bool:
        """Returns True for the second of two opens that may begin a stream.

        Of opens in random order few are near another one: only then the files between them are looked at.
        """
        begins, directory = self._begins, file.directory
        for begin, before in begins.items():
            if begin[0] == directory.ino and 0 < file.position - begin[1] <= OTHERS_MAX:
                first = before.entry
                following = files_in_chunks(numbered_entries(self._store, directory.entry, first.name))
                # Others are recorded too, as reading what they are takes as long as all of this.
                is_stream = first.form in IN_CHUNKS and not first.linked
                if is_stream and any(entry.name == name for _, entry in islice(following, GAP)):
                    del begins[begin]
                    return True
        self._begin(file)
        return False

    def _begin(self, file: VersionFile) -> None:
        """Records an open that may be the first one of a stream."""
        self._begins[file.directory.ino, file.position] = file
        if len(self._begins) > _BEGINS_MAX:
            self._begins.popitem(last=False)
        self._count_begun(1)

    def _count_begun(self, count: int) -> None:
        """Counts opens that may be first ones of streams, which end others that have not moved meanwhile."""
        self._begun += count
        while self._streams and self._begun - next(iter(self._streams.values())).moved_at > _BEGINS_MAX:
            self._end_oldest()

    def _end_oldest(self) -> None:
        number, stream = self._streams.popitem(last=False)
        self._forget(number, stream)
        directory = stream.directory
        if self._native is not None and directory is not None:
            is_watched = any(
                other.directory is not None and other.directory.ino == directory.ino for other in self._streams.values()
            )
            self._native.watch(directory.ino, is_watched=is_watched)

    def _follow(
        self,
        place: bytes,
        directory: Entry,
        name: bytes,
        version_directory: VersionDirectory | None = None,
        *,
        are_opens_seen: bool = True,
    ) -> None:
        number = self._expected.get((place, name), 0) or self._stream_ahead_of(place, name)
        stream = self._streams.get(number)
        if stream is None:
            self._last = number = self._last + 1
            following = partial(numbered_entries, self._store, directory)
            stream = Stream(place, name, lambda after: files_in_chunks(following(after)), version_directory)
            # A version's file is the second one that was opened.
            stream.opened += version_directory is not None
            stream.moved_at = self._begun
            self._streams[number] = stream
            if self._native is not None and version_directory is not None:
                self._native.watch(version_directory.ino, is_watched=True)
            if len(self._streams) > _STREAMS_MAX:
                self._end_oldest()
        else:
            self._forget(number, stream)
            stream.advance(name)
            stream.moved_at = self._begun
            self._streams.move_to_end(number)
            if stream.opened > NEIGHBOURS_MIN and stream.prefetched <= stream.batch_files // 2:
                self._prefetch_next(stream, are_opens_seen=are_opens_seen)
        stream.look_ahead(stream.prefetched + GAP)
        for expected in stream.expected():
            self._expected[place, expected] = number

    def _stream_ahead_of(self, place: bytes, name: bytes) -> int:
        """Returns the number of a stream in whose prefetched files a name is, 0 if there is none."""
        for number, stream in self._streams.items():
            if stream.place == place and any(entry.name == name for _, entry in stream.upcoming):
                return number
        return 0

    def _forget(self, number: int, stream: Stream) -> None:
        for name in stream.expected():
            key = (stream.place, name)
            if self._expected.get(key) == number:
                del self._expected[key]

    def _prefetch_next(self, stream: Stream, *, are_opens_seen: bool) -> None:
        stream.batch_files = min(2 * stream.batch_files, BATCH_FILES)
        stream.look_ahead(stream.prefetched + stream.batch_files)
        batch = _cut(stream.upcoming[stream.prefetched : stream.prefetched + stream.batch_files])
        taken = self._prefetch_natively(stream, batch)
        ids: list[ChunkId] = []
        files: list[tuple[VersionFile, list[ChunkRef]]] = []
        are_local = True
        for position, entry in batch:
            if position in taken:
                stream.prefetched += are_local
                continue
            # A larger one is prefetched as a stream of its own, when it is read sequentially.
            is_small = entry.size <= BATCH_BYTES
            try:
                runs = self._runs(entry) if is_small else []
            except NotLocal as missing:
                # The next open looks at this one and those behind it again.
                missing.prefetch()
                are_local = False
                continue
            stream.prefetched += are_local
            file = self._populatable(stream.directory, entry) if is_small else None
            if file is None:
                ids += _ids(runs)
            elif not self._has_pages(file.ino):
                files.append((file, runs))
        if files and not (are_opens_seen or taken):
            signal, runs = files.pop(len(files) // 2)
            stream.signals.add(signal.entry.name)
            ids += _ids(runs)
        if self._places is not None and stream.directory is not None:
            # Native reads decompress them as fast.
            self._store.hint_readahead(ids)
        else:
            self._store.start_prefetch(ids)
        for start in range(0, len(files), _JOB_FILES):
            self._populate(files[start : start + _JOB_FILES])

    def _has_pages(self, ino: int) -> bool:
        """Returns True if the kernel has a file's pages, or a worker gives them to it."""
        return self._pushed(ino) or ino in self._requests

    def _prefetch_natively(self, stream: Stream, batch: Sequence[tuple[int, Entry]]) -> set[int]:
        """Has files read and verified in the native layer's memory; returns the positions of those that are."""
        directory = stream.directory
        if directory is None or self._native is None or self._places is None or self._places.leaves is None:
            return set()
        if self._table.find(directory.ino) is not directory:
            return set()
        files: list[FoundFile] = []
        for file in self._places.leaves.find(directory, batch):
            known = self._files.check(file.ino)
            if file.found == Found.PLACE and known in (None, file.check) and not self._has_pages(file.ino):
                files.append(file if known is None else file._replace(found=Found.KNOWN))
        if not files:
            return set()
        # The read of this one tells how far the program is.
        signal = files[len(files) // 2]
        taken = {file.position for file in files[: self._native.prefetch(directory.ino, files, signal.ino)]}
        stream.signals.update(entry.name for position, entry in batch if position == signal.position in taken)
        return taken

    def _populatable(self, directory: VersionDirectory | None, entry: Entry) -> VersionFile | None:
        """Returns the inode of a small file that the kernel knows, which may populate the page cache; else None."""
        if directory is None or self._populator is None or entry.linked or entry.size > PUSH_BYTES_MAX:
            return None
        # Its number alone is asked for, not its position.
        file = self._versions.child(directory, entry, 0)
        return file if isinstance(file, VersionFile) and self._files.check(file.ino) is not None else None

    def _runs(self, entry: Entry) -> list[ChunkRef]:
        """Returns a file's chunks and holes; none if its list is damaged or has another size than the file."""
        if entry.form == Form.CHUNK:
            return [ChunkRef(entry.content, entry.size)]
        try:
            refs = _refs(FileReader(self._store, content_of(entry)))
        except (VfsError, OSError):
            return []
        return refs if sum(ref.size for ref in refs) == entry.size else []

    def _populate(self, files: Sequence[tuple[VersionFile, list[ChunkRef]]]) -> None:
        # A hole has no chunk: a file with holes is populated when it is opened.
        whole = [
            (file.ino, [ChunkId(ref.id) for ref in runs])
            for file, runs in files
            if runs and all(ref.id for ref in runs)
        ]
        if not whole or self._populator is None:
            return
        extents = self._store.extents([chunk for _, chunks in whole for chunk in chunks])
        request_ids = self._populator.push(whole, extents)
        self._requests.update(zip((ino for ino, _ in whole), request_ids, strict=False))
        while len(self._requests) > _REQUESTS_MAX:
            self._requests.popitem(last=False)


def _cut(batch: Sequence[tuple[int, Entry]]) -> Sequence[tuple[int, Entry]]:
    """Returns as many files of a batch as are prefetched at a time."""
    size = 0
    for number, (_, entry) in enumerate(batch):
        size += entry.size if entry.size <= BATCH_BYTES else 0
        if size > BATCH_BYTES:
            return batch[:number]
    return batch


def _refs(reader: FileReader) -> list[ChunkRef]:
    return [ref for _, ref in reader.refs(0, reader.size)]


def _ids(refs: Iterable[ChunkRef]) -> list[ChunkId]:
    return list(dict.fromkeys(ChunkId(ref.id) for ref in refs if ref.id))


def _join(entry: Entry, refs: Sequence[ChunkRef], chunks: Mapping[ChunkId, memoryview]) -> Buffer:
    """Returns a file's bytes; none if a chunk is missing, or a chunk or the list has another size than expected."""
    if sum(ref.size for ref in refs) != entry.size:
        return b""
    pieces: list[Buffer] = []
    for ref in refs:
        piece: Buffer = chunks.get(ChunkId(ref.id), b"") if ref.id else bytes(ref.size)
        if len(piece) != ref.size:
            return b""
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _notify_store(push: Push, ino: int, data: Buffer) -> None:
    """Puts a whole file into the kernel's page cache; does nothing without bytes."""
    if len(data):
        with suppress(OSError):
            push(ino, 0, data)
