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
from itertools import chain
from typing import NamedTuple

from vfs.overlay.journal.fallocate import punch_hole

log = logging.getLogger(__name__)

BYTES_MAX = 256 << 20
"""Above this, no further inodes are recorded; after a takeover the kernel looks their paths up again."""

_RECORD = struct.Struct("<BQQH")
"""Kind, two numbers, the length of the bytes that follow."""
_HANDSHAKE, _INODE, _OPENED, _CLOSED, _ANEW = range(1, 6)
_PAGE = 4096
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


class Legacy:
    """The memory of one mount. One thread writes it."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Makes a new one, or takes one over by its descriptor, which it owns."""
        self.descriptor = os.memfd_create("vfs-legacy", os.MFD_CLOEXEC) if descriptor is None else descriptor
        self.left = Left()
        self._start = 0
        self._bytes = 0
        self._anew_from = _ANEW_BYTES
        self._handshake = b""
        self._known: dict[int, int] = {}
        """Where the record of each inode is that the kernel knows."""
        self._open: dict[int, bytes] = {}
        """The records of open handles."""
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
            self._load()
            # The last record is torn where the daemon was killed while it wrote.
            end = self._start + self._bytes
            os.ftruncate(self.descriptor, end)
            os.lseek(self.descriptor, end, os.SEEK_SET)

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
        self._bytes = end - self._start

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
            if self._bytes > self._anew_from:
                self.write_anew()
            place = self._start + self._bytes
            self._bytes += os.write(self.descriptor, record)
        except OSError as error:
            # Memory is full: this request is answered all the same, and what it is about is stale after a takeover.
            log.warning("a takeover will not know all that is open: %s", error)
            return -1
        return place

    def write_anew(self) -> None:
        """Writes the records that count behind all others, and releases those."""
        end = self._start + self._bytes
        others = [_handshake(self._handshake), *self._open.values()]
        size = sum(map(len, others)) + sum(map(len, self._inode_records(end)))
        start = -(-end // _PAGE) * _PAGE
        self._anew_from = max(_ANEW_BYTES, 3 * size)
        place = start
        piece = bytearray(_RECORD.pack(_ANEW, size, 0, 0))
        try:
            for record in chain(others, self._inode_records(end)):
                piece += record
                if len(piece) > _SCAN_BYTES:
                    place = self._write_at(place, piece)
                    piece.clear()
            place = self._write_at(place, piece)
        except OSError:
            os.ftruncate(self.descriptor, end)
            self._anew_from += self._bytes
            return
        os.lseek(self.descriptor, place, os.SEEK_SET)
        punch_hole(self.descriptor, 0, start)
        self._start, self._bytes = start, place - start
        for found in self._scan(start, place):
            if found.kind == _INODE:
                self._known[found.first] = found.place

    def _inode_records(self, end: int) -> Iterator[bytes]:
        for found in self._scan(self._start, end):
            if found.kind == _INODE and self._known.get(found.first) == found.place:
                yield _inode(found.first, found.second, found.rest)

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
        if ino not in self._known and self._bytes < BYTES_MAX:
            self._known[ino] = self._write(_inode(ino, parent, name))

    def moved(self, ino: int) -> None:
        """Has the next name that the kernel is told for an inode recorded again."""
        self._known.pop(ino, None)

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
