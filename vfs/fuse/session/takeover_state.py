"""What a daemon leaves to the next one, should it be killed: which inodes and files the kernel knows, by its numbers.

The kernel goes on using these numbers, so the next daemon has to find what they stand for. They are kept in memory that
has no name (a memfd), which the process guard has open as well: it lives as long as one of both does, and no disk is
written. A record is written before the kernel gets the answer that it describes.

When most records are of inodes that the kernel has forgotten, or of closed files, those that count are rewritten
behind the others, which are then released. The record that begins them has their length: without all of them it does
not count.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from vfs.overlay.journal.fallocate import punch_hole

log = logging.getLogger(__name__)

BYTES_MAX = 256 << 20
"""Above this, no further inodes are recorded; after a takeover the kernel looks their paths up again."""

_RECORD = struct.Struct("<BQQH")
"""Kind, two numbers, the length of the bytes that follow."""
_HANDSHAKE, _INODE, _OPENED, _CLOSED, _ANEW = range(1, 6)
_PAGE = 4096
_INODE_BYTES_MAX = _RECORD.size + 255
_SCAN_BYTES = 1 << 20
_ANEW_BYTES = 8 << 20
"""With less, no records are rewritten."""
_FLAGS = struct.Struct("<IB")
_DIRECTORY = 1


@dataclass(slots=True)
class OpenHandle:
    """An open file or directory: its inode, and the flags of `open`."""

    ino: int
    flags: int
    is_directory: bool


@dataclass(slots=True)
class Left:
    """What a killed daemon left. `inodes`: by number, the directory's number and the name that lead there."""

    handshake: bytes = b""
    inodes: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    handles: dict[int, OpenHandle] = field(default_factory=dict)


class _Record(NamedTuple):
    """A record, and where it begins and ends."""

    kind: int
    first: int
    second: int
    rest: bytes
    place: int
    end: int


class NativeRecords(Protocol):
    """The inodes whose names the native session layer writes to the same file, and knows where."""

    def record_of(self, ino: int) -> int:
        """Returns where the name of a number is recorded, -1 if it is not."""
        ...

    def set_record(self, ino: int, place: int) -> bool:
        """Sets that, -1 for nowhere; returns False for a number that is not its."""
        ...

    def records_bytes(self, descriptor: int, start: int, end: int) -> int:
        """Returns how many bytes the recorded names take that lie in a part of the file. Raises OSError."""
        ...

    def write_records(self, descriptor: int, start: int, end: int, to: int) -> None:
        """Writes these to another place of the file, where they are recorded from then on. Raises OSError."""
        ...

    def record_names(self, descriptor: int, until: int) -> None:
        """Has names written to a file, as long as its position is below `until`; below 0 for no file, none."""
        ...


class Legacy:
    """The memory of one mount. One thread writes it, where the descriptor's position is."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Makes a new one, or takes one over by its descriptor, which it owns."""
        self._native: NativeRecords | None = None
        self.descriptor = os.memfd_create("vfs-legacy", os.MFD_CLOEXEC) if descriptor is None else descriptor
        self.left = Left()
        self._start = 0
        self._anew_from = _ANEW_BYTES
        self._handshake = b""
        self._known: dict[int, int] = {}
        """Where the record of each inode is that the kernel knows, but for those that the native layer keeps."""
        self._open: dict[int, bytes] = {}
        """The records of open handles."""
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
            self._load()

    def _load(self) -> None:
        """Reads all records, and finds where they begin and end."""
        size = os.fstat(self.descriptor).st_size
        self._start = os.lseek(self.descriptor, 0, os.SEEK_DATA) if size else 0
        end = self._start
        for record in self._scan(self._start, size):
            if record.kind == _ANEW:
                self.left = Left()
                self._known, self._open = {}, {}
            elif record.kind == _HANDSHAKE:
                self.left.handshake = self._handshake = record.rest
            elif record.kind == _INODE:
                self.left.inodes[record.first] = record.second, record.rest
                self._known[record.first] = record.place
            elif record.kind == _OPENED:
                flags, is_directory = _FLAGS.unpack(record.rest)
                self.left.handles[record.first] = OpenHandle(record.second, flags, bool(is_directory))
                self._open[record.first] = _opened(record.first, self.left.handles[record.first])
            elif record.kind == _CLOSED:
                self.left.handles.pop(record.first, None)
                self._open.pop(record.first, None)
            end = record.end
        # The last record is torn where the daemon was killed while it wrote.
        os.ftruncate(self.descriptor, end)
        os.lseek(self.descriptor, end, os.SEEK_SET)

    def share(self, native: NativeRecords) -> None:
        """Lets the native session layer write names too."""
        self._native = native
        self._allow_native()

    def _allow_native(self) -> None:
        if self._native is not None:
            is_full = self._bytes >= BYTES_MAX
            until = self._start + min(self._anew_from, BYTES_MAX)
            self._native.record_names(-1 if is_full else self.descriptor, until)

    @property
    def _bytes(self) -> int:
        return os.lseek(self.descriptor, 0, os.SEEK_CUR) - self._start

    def _scan(self, place: int, end: int) -> Iterator[_Record]:
        """Yields the whole records between two places; a MiB of them is in memory at a time."""
        data, base = b"", place
        while place + _RECORD.size <= end:
            if place + _RECORD.size > base + len(data):
                data, base = os.pread(self.descriptor, min(_SCAN_BYTES, end - place), place), place
            kind, first, second, length = _RECORD.unpack_from(data, place - base)
            if not kind:
                # Nothing, up to the end of a page; then comes what was written anew.
                place = place // _PAGE * _PAGE + _PAGE
                if place > base + len(data):
                    data, base = b"", place
                continue
            stop = place + _RECORD.size + length
            if stop > end or (kind == _ANEW and stop + first > end):
                return
            if stop > base + len(data):
                data, base = os.pread(self.descriptor, min(_SCAN_BYTES, end - place), place), place
            yield _Record(kind, first, second, data[place - base + _RECORD.size : stop - base], place, stop)
            place = stop

    def _write(self, record: bytes) -> int:
        """Returns where the record is, -1 where it could not be written."""
        try:
            place = os.lseek(self.descriptor, 0, os.SEEK_CUR)
            if place - self._start > self._anew_from:
                self.write_anew()
                place = os.lseek(self.descriptor, 0, os.SEEK_CUR)
            if os.write(self.descriptor, record) < len(record):
                os.ftruncate(self.descriptor, place)
                os.lseek(self.descriptor, place, os.SEEK_SET)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            # Memory is full: this request is answered all the same, and what it is about is stale after a takeover.
            log.warning("a takeover will not know all that is open: %s", error)
            return -1
        return place

    def write_anew(self) -> None:
        """Writes the records that count behind all others, and releases those."""
        end = self._start + self._bytes
        others = [_handshake(self._handshake), *self._open.values()]
        place = start = -(-end // _PAGE) * _PAGE
        known: dict[int, int] = {}
        try:
            natives = 0 if self._native is None else self._native.records_bytes(self.descriptor, self._start, end)
            size = sum(map(len, others)) + sum(len(record) for _, record in self._inode_records(end)) + natives
            self._anew_from = max(_ANEW_BYTES, 3 * size)
            piece = bytearray(_RECORD.pack(_ANEW, size, 0, 0)) + b"".join(others)
            for ino, record in self._inode_records(end):
                known[ino] = place + len(piece)
                piece += record
                if len(piece) > _SCAN_BYTES:
                    place = self._write_at(place, piece)
                    piece.clear()
            place = self._write_at(place, piece)
            if self._native is not None:
                self._native.write_records(self.descriptor, self._start, end, place)
        except OSError:
            os.ftruncate(self.descriptor, end)
            self._anew_from += self._bytes
            self._allow_native()
            return
        os.lseek(self.descriptor, place + natives, os.SEEK_SET)
        self._start, self._known = start, known
        self._allow_native()
        if start:
            punch_hole(self.descriptor, 0, start)

    def _inode_records(self, end: int) -> Iterator[tuple[int, bytes]]:
        """Yields the records of the inodes that the kernel knows, but for those that the native layer keeps."""
        for ino, place in self._known.items():
            record = os.pread(self.descriptor, min(_INODE_BYTES_MAX, end - place), place) if place >= 0 else b""
            if len(record) >= _RECORD.size:
                kind, first, _, length = _RECORD.unpack_from(record)
                if (kind, first) == (_INODE, ino):
                    yield ino, record[: _RECORD.size + length]

    def _write_at(self, place: int, data: bytearray) -> int:
        if os.pwrite(self.descriptor, data, place) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return place + len(data)

    def shook_hands(self, message: bytes) -> None:
        """Records the kernel's first message, which it sends once."""
        self._handshake = message
        self._write(_handshake(message))

    def told(self, ino: int, parent: int, name: bytes) -> None:
        """Records that the kernel is told of an inode, at a name in a directory."""
        if ino in self._known or self._native_place(ino) >= 0:
            return
        if self._bytes >= BYTES_MAX:
            self._allow_native()
            return
        place = self._write(_inode(ino, parent, name))
        if not self._set_native(ino, place):
            self._known[ino] = place

    def moved(self, ino: int) -> None:
        """Has the next name that the kernel is told for an inode recorded again."""
        self._known.pop(ino, None)
        self._set_native(ino, -1)

    def _native_place(self, ino: int) -> int:
        return -1 if self._native is None else self._native.record_of(ino)

    def _set_native(self, ino: int, place: int) -> bool:
        return self._native is not None and self._native.set_record(ino, place)

    def opened(self, fh: int, ino: int, flags: int, *, is_directory: bool) -> None:
        """Records a handle that the kernel gets."""
        record = self._open[fh] = _opened(fh, OpenHandle(ino, flags, is_directory))
        self._write(record)

    def closed(self, fh: int) -> None:
        """Records that the kernel has no handle of this number any more."""
        self._open.pop(fh, None)
        self._write(_RECORD.pack(_CLOSED, fh, 0, 0))


def _handshake(message: bytes) -> bytes:
    return _RECORD.pack(_HANDSHAKE, 0, 0, len(message)) + message


def _inode(ino: int, parent: int, name: bytes) -> bytes:
    return _RECORD.pack(_INODE, ino, parent, len(name)) + name


def _opened(fh: int, handle: OpenHandle) -> bytes:
    rest = _FLAGS.pack(handle.flags & 0xFFFFFFFF, _DIRECTORY if handle.is_directory else 0)
    return _RECORD.pack(_OPENED, fh, handle.ino, len(rest)) + rest
