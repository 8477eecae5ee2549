"""Journals: files of checksummed records, appended to and replayed. Layout and reasons: docs/format.md.

Invariant: a journal is a heading and a prefix of the records appended to it, whatever happened; what follows the last
whole record is cut off when it is opened. An append is one system call, and all or nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from vfs.errors import Corrupt, Unsupported
from vfs.model.ids import Buffer, digest64
from vfs.overlay.records import TYPE_OF, Record, RecordType, Synced, decode_record, encode_record

FILE_MAGIC = b"VFSJRNL\x01"
FORMAT = 1

_FILE_HEAD = struct.Struct("<8sIIQ")
"""Magic, bytes of the heading, zero, checksum of the heading."""
_RECORD_HEAD = struct.Struct("<2sBBIIIQQQ")
"""Magic, type, flags, bytes of meta, bytes of data, zero, sequence number, durable position, checksum of the data."""
_SUM = struct.Struct("<Q")
_RECORD_MAGIC = b"VJ"
_HEAD_BYTES = _RECORD_HEAD.size + _SUM.size
_CONTINUES = 1
"""Flag of a record that counts only together with the next one."""
_HEADING_BYTES_MAX = 64 * 1024
_META_BYTES_MAX = 1 << 30
_WINDOW_BYTES = 256 * 1024
_CHECK_BYTES = 1024 * 1024
_MARK_BYTES = 1024 * 1024
"""After a sync of so much a Synced record follows: it costs nothing then, and saves checking all that after a kill."""
_SYNCED_BYTES = _HEAD_BYTES + len(encode_record(Synced()))

OnStep = Callable[[str], None]
"""Called with a step's name just before it makes something durable; tests raise from it."""


class Heading(msgspec.Struct, frozen=True, array_like=True):
    """What a journal's first bytes say of it.

    `generation`: its number; 0 for the base file. `base`: the commit that the layers below stood on when it was made.
    `first_seq`: its first record's sequence number, which continues that of the generation before.
    """

    format: int
    branch: str
    generation: int
    base: bytes
    first_seq: int


class Found(NamedTuple):
    """A record as it lies in the file."""

    type: int
    continues: bool
    seq: int
    durable: int
    meta: bytes
    data_position: int
    data_bytes: int
    data_sum: int
    end: int

    def decode(self) -> Record:
        """Returns the record; raises Unsupported where its bytes, although whole, mean nothing to this program."""
        try:
            return decode_record(self.type, self.meta)
        except (msgspec.DecodeError, ValueError) as error:
            raise Unsupported(
                f"record {self.seq} of the working layer's journal cannot be read: {error}",
                hint="Use a program at least as new as the one that wrote it.",
            ) from error


class Journal:
    """One journal file, open for appending and reading.

    Appends need a lock of the caller; reads and `sync` need none. `end` is the position behind the last record, `seq`
    the next one's number; a Synced record has the number of the one that follows it. `was_closed`: it was durable to
    its last byte when it was opened.
    """

    def __init__(self, path: Path, fd: int, heading: Heading, start: int, *, on_step: OnStep | None) -> None:
        self.path = path
        self.heading = heading
        self.start = start
        self.end = start
        self.seq = heading.first_seq
        self.was_cut = False
        self.was_closed = True
        self._fd = fd
        self._durable = 0
        self._marked = start
        self._has_torn_tail = False
        self._syncing = threading.Lock()
        self._has_failed_sync = False
        self._on_step = on_step
        self._readers = 0
        self._is_retired = False
        self._is_stopped = False
        self.is_removed = False

    @property
    def generation(self) -> int:
        """Its number."""
        return self.heading.generation

    @classmethod
    def create(cls, path: Path, heading: Heading, *, on_step: OnStep | None = None) -> Self:
        """Makes a journal without records; it is durable, with its name, on return."""
        encoded = msgspec.msgpack.encode(heading)
        head = _FILE_HEAD.pack(FILE_MAGIC, len(encoded), 0, digest64(encoded)) + encoded
        temporary = path.with_name(path.name + ".new")
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _step(on_step, f"write {path.name}")
            _write_all(fd, [head], 0)
            os.fsync(fd)
            temporary.rename(path)
            _step(on_step, f"sync directory of {path.name}")
            sync_directory(path.parent)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        journal = cls(path, fd, heading, len(head), on_step=on_step)
        journal._durable = len(head)
        return journal

    @classmethod
    def open(cls, path: Path, *, on_step: OnStep | None = None) -> Self:
        """Opens a journal, checks it and cuts off what is not whole; `was_cut` says whether that was anything.

        Data is checked too, unless a record written later says that it was durable by then. Raises Corrupt where not
        even the heading is whole, Unsupported for one of a newer format.
        """
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            heading, start = _read_heading(fd, path, size)
            journal = cls(path, fd, heading, start, on_step=on_step)
            journal.was_closed = _ends_synced(fd, start, size) is not None
            journal.end, journal.seq = _check(fd, heading, start, size)
            if journal.end < size:
                journal.was_cut = True
                _step(on_step, f"cut {path.name}")
                os.ftruncate(fd, journal.end)
            os.fsync(fd)
            journal._durable = journal._marked = journal.end
        except BaseException:
            os.close(fd)
            raise
        return journal

    def append(self, record: Record, data: Buffer = b"") -> int:
        """Appends one record and returns the position of its data; raises OSError with nothing appended."""
        meta = encode_record(record)
        position = self.end + _HEAD_BYTES + len(meta)
        size = len(data)
        head = _RECORD_HEAD.pack(
            _RECORD_MAGIC,
            TYPE_OF[type(record)],
            0,
            len(meta),
            size,
            0,
            self.seq,
            self._durable,
            digest64(data) if size else 0,
        )
        self._put([head, _SUM.pack(digest64(head + meta)), meta, data], position + size - self.end, 1)
        return position

    def append_all(self, records: Sequence[Record]) -> None:
        """Appends records without data, all or none of them."""
        parts = bytearray()
        for number, record in enumerate(records):
            meta = encode_record(record)
            flags = _CONTINUES if number + 1 < len(records) else 0
            head = _RECORD_HEAD.pack(
                _RECORD_MAGIC, TYPE_OF[type(record)], flags, len(meta), 0, 0, self.seq + number, self._durable, 0
            )
            parts += head + _SUM.pack(digest64(head + meta)) + meta
        self._put([parts], len(parts), len(records))

    def stop(self) -> None:
        """Refuses every append from now on: the journal lacks what others would stand on."""
        self._is_stopped = True

    def _put(self, parts: Sequence[Buffer], size: int, records: int) -> None:
        if self._is_stopped:
            raise OSError(errno.EROFS, "the working layer has to be opened again")
        if self._has_torn_tail:
            # What an earlier failed append left behind must be gone first: a record after it could end where one of
            # its records starts, and the next replay would take that for the one that follows (durability, W2).
            os.ftruncate(self._fd, self.end)
            self._has_torn_tail = False
        try:
            written = os.pwritev(self._fd, parts, self.end)
            if written != size:
                _write_all(self._fd, [memoryview(b"".join(parts))[written:]], self.end + written)
        except BaseException:
            self._has_torn_tail = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.end)
                self._has_torn_tail = False
            raise
        self.end += size
        self.seq += records

    def read(self, position: int, size: int) -> bytes:
        """Returns bytes of a record's data; raises Corrupt where the file has become shorter."""
        data = os.pread(self._fd, size, position)
        while len(data) < size:
            more = os.pread(self._fd, size - len(data), position + len(data))
            if not more:
                raise Corrupt(f"the working layer's journal {self.path.name} is shorter than it was")
            data += more
        return data

    def sync(self) -> None:
        """Makes everything appended so far durable; after an OSError, what was not durable before may not be."""
        end = self.end
        # One at a time: the kernel tells of a failed write once, and whoever did not hear of it must not believe that
        # all is well (durability, W4).
        with self._syncing:
            if end <= self._durable:
                return
            if self._has_failed_sync:
                self._write_again(self._durable, end)
            self._has_failed_sync = True
            _step(self._on_step, f"sync {self.path.name}")
            os.fdatasync(self._fd)
            self._has_failed_sync = False
            self._durable = end

    def _write_again(self, position: int, end: int) -> None:
        """Hands bytes to the kernel once more: those that it could not write it takes for written afterwards."""
        while position < end:
            data = self.read(position, min(_CHECK_BYTES, end - position))
            _write_all(self._fd, [data], position)
            position += len(data)

    def damaged_data(self) -> list[tuple[int, int]]:
        """Reads the data of all records; returns the [start, end) positions of what is not as it was written."""
        return [
            (found.data_position, found.data_position + found.data_bytes)
            for found in _scan(self._fd, self.start, self.end)
            if not _is_data_whole(self._fd, found)
        ]

    def records(self) -> Iterator[Found]:
        """Yields the records up to the end; raises Corrupt for damage among what was durable."""
        position = self.start
        for found in _scan(self._fd, self.start, self.end):
            position = found.end
            yield found
        if position != self.end:
            raise Corrupt(
                f"the working layer's journal {self.path.name} is damaged at byte {position}",
                hint="Move the file away to go on without the uncommitted changes that are in it.",
            )

    def mark_synced(self, bytes_min: int = _MARK_BYTES) -> None:
        """Records that everything is durable if so much is that no record says it of; for after `sync`."""
        if self.end == self._durable and self.end - self._marked >= bytes_min:
            self.append(Synced())
            # It has the number of the next record: the heading of the next generation says where this one ends.
            self.seq -= 1
            self._marked = self._durable = self.end

    def finish(self) -> None:
        """Makes everything durable, records that, so that the next opening has nothing to check, and closes."""
        try:
            self.sync()
            self.mark_synced(0)
            os.fdatasync(self._fd)
        finally:
            self.close()

    def remove(self) -> None:
        """Removes the file; its bytes can be read until it is closed."""
        _step(self._on_step, f"remove {self.path.name}")
        self.path.unlink(missing_ok=True)
        self.is_removed = True

    # Closing while others read: each reader counts itself in and out under the overlay's lock.

    def hold(self) -> None:
        """Keeps the file open for one reader."""
        self._readers += 1

    def release(self) -> None:
        """Takes one `hold` back."""
        self._readers -= 1
        if self._is_retired and not self._readers:
            self._close_now()

    def close(self) -> None:
        """Closes the file, once nobody holds it."""
        self._is_retired = True
        if not self._readers:
            self._close_now()

    def _close_now(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def check_file(path: Path) -> str:
    """Returns what is wrong with a journal, or nothing; changes nothing, also while a mount appends to it.

    What a crash may leave, an unfinished end that was never said to be durable, is not wrong.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        try:
            heading, position = _read_heading(fd, path, size)
        except (Corrupt, msgspec.DecodeError) as error:
            return str(error)
        durable = size if _ends_synced(fd, position, size) is not None else position
        seq = heading.first_seq
        for found in _scan(fd, position, size):
            durable = max(durable, found.durable)
            if found.seq != seq or (found.end <= durable and not _is_data_whole(fd, found)):
                break
            seq += found.type != RecordType.SYNCED
            position = found.end
        return f"{path} is damaged at byte {position}" if position < durable else ""
    finally:
        os.close(fd)


def read_records(path: Path) -> Iterator[Found]:
    """Yields the records of a journal that may be another process's, which goes on appending; changes nothing.

    Raises Corrupt where something that was durable cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        _, position = _read_heading(fd, path, size)
        durable = size if _ends_synced(fd, position, size) is not None else position
        for found in _scan(fd, position, size):
            durable = max(durable, found.durable)
            position = found.end
            yield found
        if position < durable:
            raise Corrupt(f"{path} is damaged at byte {position}", hint="`vfs fsck` says more.")
    finally:
        os.close(fd)


def make_directory(path: Path) -> None:
    """Makes a directory, and those above it, where they are not there; durable on return (durability, rule 2)."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _step(on_step: OnStep | None, name: str) -> None:
    if on_step is not None:
        on_step(name)


def _write_all(fd: int, parts: Sequence[Buffer], position: int) -> None:
    for part in parts:
        view = memoryview(part)
        while view:
            written = os.pwrite(fd, view, position)
            view = view[written:]
            position += written


def _read_heading(fd: int, path: Path, size: int) -> tuple[Heading, int]:
    head = os.pread(fd, _FILE_HEAD.size, 0)
    if len(head) < _FILE_HEAD.size or not head.startswith(FILE_MAGIC):
        raise Corrupt(f"{path} is not a journal of a working layer")
    _, length, _, checksum = _FILE_HEAD.unpack(head)
    if length > min(size, _HEADING_BYTES_MAX):
        raise Corrupt(f"the heading of {path} is damaged")
    encoded = os.pread(fd, length, _FILE_HEAD.size)
    if digest64(encoded) != checksum:
        raise Corrupt(f"the heading of {path} is damaged")
    heading = msgspec.msgpack.decode(encoded, type=Heading)
    if heading.format != FORMAT:
        raise Unsupported(f"{path} has format {heading.format}; this program knows {FORMAT}")
    return heading, _FILE_HEAD.size + length


def _scan(fd: int, start: int, size: int) -> Iterator[Found]:
    """Yields whole records from a position on; data is not looked at. Stops at the first that is not whole."""
    window = b""
    base = start
    position = start
    seq: int | None = None
    while position + _HEAD_BYTES <= size:
        at = position - base
        if at + _HEAD_BYTES > len(window):
            window, base, at = os.pread(fd, _WINDOW_BYTES, position), position, 0
        head = window[at : at + _RECORD_HEAD.size]
        if len(window) - at < _HEAD_BYTES:
            return
        magic, number, flags, meta_bytes, data_bytes, _, found_seq, durable, data_sum = _RECORD_HEAD.unpack(head)
        end = position + _HEAD_BYTES + meta_bytes + data_bytes
        if magic != _RECORD_MAGIC or end > size or meta_bytes > _META_BYTES_MAX:
            return
        if at + _HEAD_BYTES + meta_bytes > len(window):
            window, base, at = os.pread(fd, max(_WINDOW_BYTES, _HEAD_BYTES + meta_bytes), position), position, 0
        meta = window[at + _HEAD_BYTES : at + _HEAD_BYTES + meta_bytes]
        (checksum,) = _SUM.unpack_from(window, at + _RECORD_HEAD.size)
        if digest64(head + meta) != checksum or (seq is not None and found_seq != seq):
            return
        data_position = position + _HEAD_BYTES + meta_bytes
        continues = bool(flags & _CONTINUES)
        yield Found(number, continues, found_seq, durable, meta, data_position, data_bytes, data_sum, end)
        seq = found_seq if number == RecordType.SYNCED else found_seq + 1
        position = end
        if position - base > len(window):
            window, base = b"", position


def _ends_synced(fd: int, start: int, size: int) -> Found | None:
    """Returns the record that says that everything before it was durable, if the file ends with it."""
    last = next(_scan(fd, size - _SYNCED_BYTES, size), None) if size - start >= _SYNCED_BYTES else None
    return last if last is not None and last.type == RecordType.SYNCED and last.end == size else None


def _check(fd: int, heading: Heading, start: int, size: int) -> tuple[int, int]:
    """Returns the end of the last whole record and the next sequence number."""
    last = _ends_synced(fd, start, size)
    if last is not None:
        return size, last.seq
    durable = start
    for found in _scan(fd, start, size):
        durable = max(durable, found.durable)
    end, seq = start, heading.first_seq
    expected = seq
    for found in _scan(fd, start, size):
        if found.seq != expected or (found.end > durable and not _is_data_whole(fd, found)):
            break
        expected += found.type != RecordType.SYNCED
        if not found.continues:
            end, seq = found.end, expected
    return end, seq


def _is_data_whole(fd: int, found: Found) -> bool:
    if not found.data_bytes:
        return True
    data = bytearray()
    while len(data) < found.data_bytes:
        piece = os.pread(fd, min(_CHECK_BYTES, found.data_bytes - len(data)), found.data_position + len(data))
        if not piece:
            return False
        data += piece
    return digest64(data) == found.data_sum
