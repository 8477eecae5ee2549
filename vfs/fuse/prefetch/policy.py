"""Bringing files before they are asked for: into the kernel's page cache where it can be, else into memory.

A small file is given to the kernel with its first open, which saves the request to read it. Where files are opened one
after the other in the order of their names, as an epoch of training, `cp -r` and `grep -r` do, other processes bring
the next ones: neighbours in a directory lie side by side in their pack, so many arrive with one disk read. Random
order brings nothing ahead (docs/decisions: 40 and 68).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Protocol

from vfs.errors import VfsError
from vfs.fuse.inodes import InodeTable
from vfs.fuse.view.version_inodes import VersionDirectory, VersionFile, Versions
from vfs.model.ids import Buffer, ChunkId
from vfs.model.objects import ChunkRef, Entry, Form, Kind, content_of
from vfs.store.access_pattern import Extent
from vfs.store.object_store import ObjectStore
from vfs.store.remote_blocks import NotLocal
from vfs.store.trees.directories import content_ids, entries
from vfs.store.trees.file_reader import FileReader

Push = Callable[[int, int, Any], None]
"""(inode, offset, bytes): puts bytes into the kernel's page cache; raises OSError where it does not know the inode."""

PUSH_BYTES_MAX = 256 * 1024
"""Larger files are read by requests: of them a program may want a part only. One chunk is not larger either."""
NEIGHBOURS_MIN = 4
"""A sequence is this many opens that were each of one of the next `_GAP` files. Random opens among 200 files of one
directory begin such a sequence once in 1,500, in larger ones hardly ever (simulated)."""
BATCH_FILES = 32
BATCH_BYTES = 2 * 1024 * 1024
"""What is brought at a time, at most; a sequence begins with twice as many files as were opened and doubles from batch
to batch. At most two batches of a sequence are brought and not yet opened."""
_JOB_FILES = 4
"""What one process is given at once of a batch: another one, or whoever opens files, need not wait for the rest."""
_GAP = 2
_SEQUENCES_MAX = 16
_OTHERS_MAX = 64
_LOOKED_UP_MAX = 16
"""Files that were looked up and may yet be opened: more than programs read at the same time, as a rule."""
TRUST_MIN, _TRUST_MAX = 4, 8
"""Opens after a look-up, less look-ups without an open: from how many on, and how many count."""
_TICKETS_MAX = 4096
"""Files that were pushed and not opened yet, of which that is remembered."""
_IN_CHUNKS = (Form.CHUNK, Form.LIST)


class _Sequence:
    """Opens that may be of one file after the other, and what was brought of the files that follow.

    `place` tells their directory from others; `directory` is None in a working layer.
    """

    def __init__(
        self,
        place: bytes,
        name: bytes,
        following: Callable[[bytes], Iterator[Entry]],
        directory: VersionDirectory | None,
    ) -> None:
        """`following` gives the files behind the one of a name; `name`: the first one opened."""
        self.place = place
        self.directory = directory
        self.opened = 1
        self.batch_files = NEIGHBOURS_MIN
        # The files behind the last one opened, as far as they were looked up; the first `brought` of them are on
        # their way or here.
        self.upcoming: list[Entry] = []
        self.brought = 0
        self._start = following
        self._following = following(name)
        self._seen = name

    def look(self, count: int) -> None:
        """Looks `count` files ahead, where there are as many and their directory is local that far."""
        try:
            for entry in islice(self._following, max(0, count - len(self.upcoming))):
                self.upcoming.append(entry)
                self._seen = entry.name
        except NotLocal as missing:
            missing.prefetch()
            self._following = self._start(self._seen)

    def advance(self, name: bytes) -> None:
        """Moves behind the file of a name, which is among those ahead."""
        at = next(number for number, entry in enumerate(self.upcoming) if entry.name == name) + 1
        del self.upcoming[:at]
        self.brought = max(0, self.brought - at)
        self.opened += 1


class _BestEffort:
    """Leaves errors to the requests that meet them again, and begins to fetch what is not local."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, NotLocal):
            error.prefetch()
        return isinstance(error, (NotLocal, VfsError, OSError))


_BEST_EFFORT = _BestEffort()


class PageCachePopulator(Protocol):
    """Who puts files into the kernel's page cache without being waited for."""

    def push(self, files: Sequence[tuple[int, list[ChunkId]]], extents: list[Extent]) -> list[int]:
        """Begins to push files, given as (inode, chunks); returns a ticket for each, or none for all."""
        ...

    def cancel(self, ticket: int) -> bool:
        """Takes a file back; says whether that came in time."""
        ...


class _Habit:
    """Whether programs open the files that they look up, or look at them only."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, None] = OrderedDict()
        self._trust = 0

    def looked_up(self, ino: int) -> bool:
        """Takes note of a look-up, and says whether the file will probably be opened at once."""
        self._waiting[ino] = None
        if len(self._waiting) > _LOOKED_UP_MAX:
            self._waiting.popitem(last=False)
            self._trust = max(0, self._trust - 1)
        return self._trust >= TRUST_MIN

    def opened(self, ino: int) -> None:
        """Takes note of an open."""
        if ino in self._waiting:
            del self._waiting[ino]
            self._trust = min(_TRUST_MAX, self._trust + 1)


class ReadAhead:
    """What one mount brings ahead. All methods belong to the event loop's thread.

    `push` is None where there is no kernel: then files are brought into memory alone, as they are without `pushers`.
    """

    def __init__(
        self,
        store: ObjectStore,
        versions: Versions,
        table: InodeTable,
        push: Push | None,
        pushers: PageCachePopulator | None = None,
    ) -> None:
        self._store = store
        self._versions = versions
        self._table = table
        self._push = push
        self._pushers = pushers
        self._buffer = bytearray(2 * PUSH_BYTES_MAX)
        # By inode, those that were given to the pushers and not opened since.
        self._tickets: OrderedDict[int, int] = OrderedDict()
        self._sequences: OrderedDict[int, _Sequence] = OrderedDict()
        # By place and name: which sequence an open of that file would continue.
        self._expected: dict[tuple[bytes, bytes], int] = {}
        self._last = 0
        self._habit = _Habit()

    def opened(self, file: VersionFile, reader: FileReader) -> None:
        """Takes note of an open: gives a small file to the kernel, and has the next ones brought in a sequence."""
        self._habit.opened(file.ino)
        entry = file.entry
        if not (file.pushed or self._is_on_its_way(file)):
            file.pushed = True
            if self._push is not None and 0 < reader.size <= PUSH_BYTES_MAX:
                _give(self._push, file.ino, self._content(entry, reader))
        if entry.form in _IN_CHUNKS and not entry.linked:
            # Damage of what lies ahead is told to whoever goes there.
            with _BEST_EFFORT:
                directory = file.directory
                self._follow(directory.version.id + directory.path, directory.entry, entry.name, directory)

    def opened_unchanged(self, directory: Entry, entry: Entry) -> None:
        """Takes note of an open of a working layer's file that is as its directory in a version has it.

        The next ones come into memory only: what the kernel has of files that may be written is for requests to say.
        """
        if entry.form in _IN_CHUNKS and not entry.linked:
            with _BEST_EFFORT:
                self._follow(b"w" + directory.content, directory, entry.name)

    def looked_up(self, file: VersionFile) -> None:
        """Takes note of a look-up: where programs open what they look up, the disk begins to read a file's bytes."""
        entry = file.entry
        if entry.kind != Kind.FILE or file.pushed or file.ino in self._tickets:
            return
        if self._habit.looked_up(file.ino):
            with _BEST_EFFORT:
                self._store.hint_readahead(content_ids(self._store, file.directory.entry, entry))

    def entered(self, directory: VersionDirectory) -> None:
        """Takes note of a directory's look-up or opening: the disk begins to read what comes next."""
        content = directory.entry.content
        if content:
            with _BEST_EFFORT:
                self._store.hint_readahead([content])

    def _is_on_its_way(self, file: VersionFile) -> bool:
        """Says whether a process has pushed a file or does just now; if it has not begun, it does not any more."""
        ticket = self._tickets.pop(file.ino, None)
        if ticket is None or self._pushers is None or self._pushers.cancel(ticket):
            return False
        file.pushed = True
        return True

    def _content(self, entry: Entry, reader: FileReader) -> Buffer:
        """Returns a small file's bytes; none where it is damaged, which whoever reads it hears."""
        try:
            if entry.form == Form.TINY:
                return reader.read(0, reader.size)
            refs = _refs(reader)
            return _join(entry, refs, self._store.read_chunks(_ids(refs), self._buffer))
        except NotLocal:
            # The kernel is given only what is at hand: this open does not wait for it.
            return b""
        except (VfsError, OSError):
            return b""

    def _follow(
        self, place: bytes, directory: Entry, name: bytes, version_directory: VersionDirectory | None = None
    ) -> None:
        number = self._expected.get((place, name), 0)
        sequence = self._sequences.get(number)
        if sequence is None:
            self._last = number = self._last + 1
            sequence = _Sequence(
                place, name, lambda after: _files(entries(self._store, directory, after)), version_directory
            )
            self._sequences[number] = sequence
            if len(self._sequences) > _SEQUENCES_MAX:
                self._forget(*self._sequences.popitem(last=False))
        else:
            self._forget(number, sequence)
            sequence.advance(name)
            self._sequences.move_to_end(number)
            if sequence.opened > NEIGHBOURS_MIN and sequence.brought <= sequence.batch_files // 2:
                self._bring_next(sequence)
        sequence.look(_GAP)
        for entry in sequence.upcoming[:_GAP]:
            self._expected[place, entry.name] = number

    def _forget(self, number: int, sequence: _Sequence) -> None:
        for entry in sequence.upcoming[:_GAP]:
            key = (sequence.place, entry.name)
            if self._expected.get(key) == number:
                del self._expected[key]

    def _bring_next(self, sequence: _Sequence) -> None:
        sequence.batch_files = min(2 * sequence.batch_files, BATCH_FILES)
        sequence.look(sequence.brought + sequence.batch_files)
        batch = sequence.upcoming[sequence.brought : sequence.brought + sequence.batch_files]
        ids: list[ChunkId] = []
        files: list[tuple[VersionFile, list[ChunkRef]]] = []
        size = 0
        are_local = True
        for entry in batch:
            # A larger one is a sequence of its own, if it is read as one.
            is_small = entry.size <= BATCH_BYTES
            size += entry.size if is_small else 0
            if size > BATCH_BYTES:
                break
            try:
                runs = self._runs(entry) if is_small else []
            except NotLocal as missing:
                # The next open looks at this one and those behind it again.
                missing.prefetch()
                are_local = False
                continue
            sequence.brought += are_local
            file = self._pushable(sequence.directory, entry) if is_small else None
            if file is None:
                ids += _ids(runs)
            elif not (file.pushed or file.ino in self._tickets):
                files.append((file, runs))
        self._store.read_ahead(ids)
        for start in range(0, len(files), _JOB_FILES):
            self._give_to_pushers(files[start : start + _JOB_FILES])

    def _pushable(self, directory: VersionDirectory | None, entry: Entry) -> VersionFile | None:
        """Returns a file that the kernel knows and that is small enough to be given to it; else None."""
        if directory is None or self._pushers is None or entry.linked or entry.size > PUSH_BYTES_MAX:
            return None
        file = self._versions.child(directory, entry)
        return file if isinstance(file, VersionFile) and self._table.find(file.ino) is file else None

    def _runs(self, entry: Entry) -> list[ChunkRef]:
        """Returns a file's chunks and holes; none where its list is damaged or is not as long as it should be."""
        try:
            refs = _refs(FileReader(self._store, content_of(entry)))
        except (VfsError, OSError):
            return []
        return refs if sum(ref.size for ref in refs) == entry.size else []

    def _give_to_pushers(self, files: Sequence[tuple[VersionFile, list[ChunkRef]]]) -> None:
        # A hole has no chunk: a file with one is left to its open.
        whole = [
            (file.ino, [ChunkId(ref.id) for ref in runs])
            for file, runs in files
            if runs and all(ref.id for ref in runs)
        ]
        if not whole or self._pushers is None:
            return
        extents = self._store.extents([chunk for _, chunks in whole for chunk in chunks])
        tickets = self._pushers.push(whole, extents)
        self._tickets.update(zip((ino for ino, _ in whole), tickets, strict=False))
        while len(self._tickets) > _TICKETS_MAX:
            self._tickets.popitem(last=False)


def _files(following: Iterable[Entry]) -> Iterator[Entry]:
    """Yields those entries that are files with chunks of their own; the bytes of tiny ones come with their directory.

    It ends where too many others lie between: looking for the next file must not cost more than bringing it saves.
    """
    others = 0
    for entry in following:
        if entry.kind == Kind.FILE and entry.form in _IN_CHUNKS:
            others = 0
            yield entry
        elif (others := others + 1) > _OTHERS_MAX:
            return


def _refs(reader: FileReader) -> list[ChunkRef]:
    return [ref for _, ref in reader.refs(0, reader.size)]


def _ids(refs: Iterable[ChunkRef]) -> list[ChunkId]:
    return list(dict.fromkeys(ChunkId(ref.id) for ref in refs if ref.id))


def _join(entry: Entry, refs: Sequence[ChunkRef], chunks: Mapping[ChunkId, memoryview]) -> Buffer:
    """Returns a file's bytes; none where a chunk is missing, or it or the list is not as long as it should be."""
    if sum(ref.size for ref in refs) != entry.size:
        return b""
    pieces: list[Buffer] = []
    for ref in refs:
        piece: Buffer = chunks.get(ChunkId(ref.id), b"") if ref.id else bytes(ref.size)
        if len(piece) != ref.size:
            return b""
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _give(push: Push, ino: int, data: Buffer) -> None:
    """Puts a whole file into the kernel's cache; without bytes it is left to be read by a request."""
    if len(data):
        with suppress(OSError):
            push(ino, 0, data)
