"""Bringing files before they are asked for: into the kernel's page cache where it can be, else into the store's cache.

A small file is given to the kernel with its first open, which saves the request to read it. Where files are opened one
after the other in the order of their names, as an epoch of training, `cp -r` and `grep -r` do, worker threads bring
the next ones: neighbours in a directory lie side by side in their pack, so many arrive with one disk read. Random
order brings nothing ahead (docs/decisions/0040-read-ahead-within-and-across-files.md).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

from vfs.errors import VfsError
from vfs.fuse.inodes import InodeTable
from vfs.fuse.versions import VersionDirectory, VersionFile, Versions
from vfs.model.ids import Buffer, ChunkId
from vfs.model.objects import ChunkRef, Entry, Form, Kind, content_of
from vfs.store.directories import content_ids
from vfs.store.files import FileReader
from vfs.store.objectstore import ObjectStore

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
_STEP_FILES = 4
"""What a worker reads at once of a batch, before it looks which files were opened meanwhile."""
_GAP = 2
_SEQUENCES_MAX = 16
_OTHERS_MAX = 64
_LOOKED_UP_MAX = 16
"""Files that were looked up and may yet be opened: more than programs read at the same time, as a rule."""
TRUST_MIN, _TRUST_MAX = 4, 8
"""Opens after a look-up, less look-ups without an open: from how many on, and how many count."""
_IN_CHUNKS = (Form.CHUNK, Form.LIST)


class _Sequence:
    """Opens that may be of one file after the other, and what was brought of the files that follow."""

    def __init__(self, directory: VersionDirectory, following: Iterator[Entry]) -> None:
        self.directory = directory
        self.opened = 1
        self.batch_files = NEIGHBOURS_MIN
        # The files behind the last one opened, as far as they were looked up; the first `brought` of them are on
        # their way or here.
        self.upcoming: list[Entry] = []
        self.brought = 0
        self._following = following

    def look(self, count: int) -> None:
        """Looks `count` files ahead, where there are as many."""
        self.upcoming.extend(islice(self._following, max(0, count - len(self.upcoming))))

    def advance(self, name: bytes) -> None:
        """Moves behind the file of a name, which is among those ahead."""
        at = next(number for number, entry in enumerate(self.upcoming) if entry.name == name) + 1
        del self.upcoming[:at]
        self.brought = max(0, self.brought - at)
        self.opened += 1


class _Wanted(NamedTuple):
    """A file to bring; `file` is None where the kernel would not take it."""

    entry: Entry
    file: VersionFile | None


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

    `push` is None where there is no kernel: then files are brought into the store's cache alone.
    """

    def __init__(self, store: ObjectStore, versions: Versions, table: InodeTable, push: Push | None) -> None:
        self._store = store
        self._versions = versions
        self._table = table
        self._push = push
        self._buffer = bytearray(2 * PUSH_BYTES_MAX)
        self._local = threading.local()
        self._sequences: OrderedDict[int, _Sequence] = OrderedDict()
        self._expected: dict[tuple[bytes, bytes], int] = {}
        self._last = 0
        self._habit = _Habit()

    def opened(self, file: VersionFile, reader: FileReader) -> None:
        """Takes note of an open: gives a small file to the kernel, and sends workers ahead in a sequence."""
        self._habit.opened(file.ino)
        if not file.pushed:
            file.pushed = True
            if self._push is not None and 0 < reader.size <= PUSH_BYTES_MAX:
                _give(self._push, file.ino, self._content(file.entry, reader))
        if file.entry.form in _IN_CHUNKS and not file.entry.linked:
            self._follow(file.directory, file.entry.name)

    def looked_up(self, file: VersionFile) -> None:
        """Takes note of a file's look-up: where programs open what they look up, the disk begins to read its bytes."""
        if not file.pushed and self._habit.looked_up(file.ino):
            with suppress(VfsError, OSError):
                self._store.will_need(content_ids(self._store, file.directory.entry, file.entry))

    def _content(self, entry: Entry, reader: FileReader) -> Buffer:
        """Returns a small file's bytes; none where it is damaged, which whoever reads it hears."""
        try:
            if entry.form == Form.TINY:
                return reader.read(0, reader.size)
            refs = _refs(reader)
            return _join(entry, refs, self._store.read_chunks(_ids(refs), self._buffer))
        except (VfsError, OSError):
            return b""

    def _follow(self, directory: VersionDirectory, name: bytes) -> None:
        number = self._expected.get((directory.path, name), 0)
        sequence = self._sequences.get(number)
        if sequence is None or sequence.directory.version.id != directory.version.id:
            self._last = number = self._last + 1
            sequence = self._sequences[number] = _Sequence(directory, _files(self._versions, directory, name))
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
            self._expected[directory.path, entry.name] = number

    def _forget(self, number: int, sequence: _Sequence) -> None:
        for entry in sequence.upcoming[:_GAP]:
            key = (sequence.directory.path, entry.name)
            if self._expected.get(key) == number:
                del self._expected[key]

    def _bring_next(self, sequence: _Sequence) -> None:
        sequence.batch_files = min(2 * sequence.batch_files, BATCH_FILES)
        sequence.look(sequence.brought + sequence.batch_files)
        batch: list[_Wanted] = []
        size = 0
        for entry in sequence.upcoming[sequence.brought : sequence.brought + sequence.batch_files]:
            size += entry.size
            if size > BATCH_BYTES and batch:
                break
            batch.append(self._wanted(sequence.directory, entry))
        sequence.brought += len(batch)
        if batch:
            self._store.work(lambda: self._bring(batch))

    def _wanted(self, directory: VersionDirectory, entry: Entry) -> _Wanted:
        if self._push is None or entry.linked or entry.size > PUSH_BYTES_MAX:
            return _Wanted(entry, None)
        file = self._versions.child(directory, entry)
        return _Wanted(entry, file if isinstance(file, VersionFile) and self._table.find(file.ino) is file else None)

    def _bring(self, batch: list[_Wanted]) -> None:
        """Runs in a worker thread. Damage is told to whoever reads the file; nobody waits for this."""
        try:
            contents = [(file, entry, _refs(FileReader(self._store, content_of(entry)))) for entry, file in batch]
            self._store.prefetch(_ids(ref for file, _, refs in contents if file is None for ref in refs))
            given = [(file, entry, refs) for file, entry, refs in contents if file is not None]
            for start in range(0, len(given), _STEP_FILES):
                self._bring_step(given[start : start + _STEP_FILES])
        except (VfsError, OSError):
            return

    def _bring_step(self, files: list[tuple[VersionFile, Entry, list[ChunkRef]]]) -> None:
        # Whoever reads fast has opened some of them by now.
        wanted = [(file, entry, refs) for file, entry, refs in files if not file.pushed]
        chunks = self._store.read_chunks(_ids(ref for _, _, refs in wanted for ref in refs), self._step_buffer())
        for file, entry, refs in wanted:
            # An inode that the kernel has forgotten meanwhile has no number any more that is sure to be its own.
            if self._push is not None and not file.pushed and file.lookups:
                file.pushed = True
                _give(self._push, file.ino, _join(entry, refs, chunks))

    def _step_buffer(self) -> bytearray:
        """Returns this thread's buffer: touching fresh memory takes longer than reading into it."""
        buffer: bytearray | None = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = self._local.buffer = bytearray((_STEP_FILES + 1) * PUSH_BYTES_MAX)
        return buffer


def _files(versions: Versions, directory: VersionDirectory, after: bytes) -> Iterator[Entry]:
    """Yields the files whose bytes lie in chunks of their own; tiny ones come with their directory.

    It ends where too many others lie between: looking for the next file must not cost more than bringing it saves.
    """
    others = 0
    for entry in versions.entries(directory, after):
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
