"""What a daemon leaves to the next one, should it be killed: which inodes and files the kernel knows, by its numbers.

The kernel goes on using these numbers, so the next daemon has to find what they stand for. They are kept in memory that
has no name (a memfd), which the process guard has open as well: it lives as long as one of both does, and no disk is
written. A record is written before the kernel gets the answer that it describes.

When most records are of inodes that the kernel has forgotten, or of closed files, those that count are written anew
behind the others, which are then released. The record that begins them has their length: without all of them it does
not count.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
from dataclasses import dataclass, field

from vfs.overlay.journal.fallocate import punch_hole

log = logging.getLogger(__name__)

BYTES_MAX = 256 << 20
"""Above this, no further inodes are recorded; after a takeover the kernel looks their paths up again."""

_RECORD = struct.Struct("<BQQH")
"""Kind, two numbers, the length of the bytes that follow."""
_HANDSHAKE, _INODE, _OPENED, _CLOSED, _ANEW = range(1, 6)
_PAGE = 4096
_ANEW_BYTES = 8 << 20
"""With less, no records are written anew."""
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


class Legacy:
    """The memory of one mount. One thread writes it."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Makes a new one, or takes one over by its descriptor, which it owns."""
        self.descriptor = os.memfd_create("vfs-legacy", os.MFD_CLOEXEC) if descriptor is None else descriptor
        self.left = Left()
        self._start = 0
        self._bytes = 0
        self._anew_from = _ANEW_BYTES
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
            self.left = self._load()
            # The last record is torn where the daemon was killed while it wrote.
            end = self._start + self._bytes
            os.ftruncate(self.descriptor, end)
            os.lseek(self.descriptor, end, os.SEEK_SET)
        self._known = set(self.left.inodes)

    def _load(self) -> Left:
        """Reads all records, and finds where they begin and end."""
        size = os.fstat(self.descriptor).st_size
        self._start = os.lseek(self.descriptor, 0, os.SEEK_DATA) if size else 0
        data = os.pread(self.descriptor, size - self._start, self._start)
        left = Left()
        place = 0
        while place + _RECORD.size <= len(data):
            kind, first, second, length = _RECORD.unpack_from(data, place)
            end = place + _RECORD.size + length
            if not kind:
                # Nothing, up to the end of a page; then comes what was written anew.
                place = place // _PAGE * _PAGE + _PAGE
                continue
            if end > len(data) or (kind == _ANEW and end + first > len(data)):
                break
            if kind == _ANEW:
                left = Left()
            else:
                _replay(left, kind, first, second, data[place + _RECORD.size : end])
            place = end
        self._bytes = min(place, len(data))
        return left

    def _write(self, record: bytes) -> None:
        try:
            if self._bytes > self._anew_from:
                self.write_anew()
            self._bytes += os.write(self.descriptor, record)
        except OSError as error:
            # Memory is full: this request is answered all the same, and what it is about is stale after a takeover.
            log.warning("a takeover will not know all that is open: %s", error)

    def write_anew(self) -> None:
        """Writes the records that count behind all others, and releases those."""
        left = self._load()
        records = [_handshake(left.handshake)]
        records += [_inode(ino, *place) for ino, place in left.inodes.items() if ino in self._known]
        records += [_opened(fh, handle) for fh, handle in left.handles.items()]
        body = b"".join(records)
        end = self._start + self._bytes
        start = -(-end // _PAGE) * _PAGE
        anew = _RECORD.pack(_ANEW, len(body), 0, 0) + body
        self._anew_from = max(_ANEW_BYTES, 3 * len(anew))
        try:
            written = os.pwrite(self.descriptor, anew, start)
            if written < len(anew):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.lseek(self.descriptor, start + len(anew), os.SEEK_SET)
        except OSError:
            os.ftruncate(self.descriptor, end)
            self._anew_from += self._bytes
            return
        punch_hole(self.descriptor, 0, start)
        self._start, self._bytes = start, len(anew)

    def shook_hands(self, message: bytes) -> None:
        """Records the kernel's first message, which it sends once."""
        self._write(_handshake(message))

    def told(self, ino: int, parent: int, name: bytes) -> None:
        """Records that the kernel is told of an inode, at a name in a directory."""
        if ino not in self._known and self._bytes < BYTES_MAX:
            self._known.add(ino)
            self._write(_inode(ino, parent, name))

    def moved(self, ino: int) -> None:
        """Has the next name that the kernel is told for an inode recorded again."""
        self._known.discard(ino)

    def opened(self, fh: int, ino: int, flags: int, *, is_directory: bool) -> None:
        """Records a handle that the kernel gets."""
        self._write(_opened(fh, OpenHandle(ino, flags, is_directory)))

    def closed(self, fh: int) -> None:
        """Records that the kernel has no handle of this number any more."""
        self._write(_RECORD.pack(_CLOSED, fh, 0, 0))


def _replay(left: Left, kind: int, first: int, second: int, rest: bytes) -> None:
    if kind == _HANDSHAKE:
        left.handshake = rest
    elif kind == _INODE:
        left.inodes[first] = second, rest
    elif kind == _OPENED:
        flags, is_directory = _FLAGS.unpack(rest)
        left.handles[first] = OpenHandle(second, flags, bool(is_directory))
    elif kind == _CLOSED:
        left.handles.pop(first, None)


def _handshake(message: bytes) -> bytes:
    return _RECORD.pack(_HANDSHAKE, 0, 0, len(message)) + message


def _inode(ino: int, parent: int, name: bytes) -> bytes:
    return _RECORD.pack(_INODE, ino, parent, len(name)) + name


def _opened(fh: int, handle: OpenHandle) -> bytes:
    rest = _FLAGS.pack(handle.flags & 0xFFFFFFFF, _DIRECTORY if handle.is_directory else 0)
    return _RECORD.pack(_OPENED, fh, handle.ino, len(rest)) + rest
