"""What a daemon leaves to the next one, should it be killed: which inodes and files the kernel knows, by its numbers.

The kernel goes on using these numbers, so the next daemon has to find what they stand for. They are kept in memory that
has no name (a memfd), which the process guard has open as well: it lives as long as one of both does, and no disk is
written. A record is written before the kernel gets the answer that it describes.
"""

from __future__ import annotations

import logging
import os
import struct
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

BYTES_MAX = 256 << 20
"""Above this, no further inodes are recorded; after a takeover the kernel looks their paths up again."""

_RECORD = struct.Struct("<BQQH")
"""Kind, two numbers, the length of the bytes that follow."""
_HANDSHAKE, _INODE, _OPENED, _CLOSED = range(1, 5)
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
        self._bytes = 0
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
            self._load()
        self._known = set(self.left.inodes)

    def _load(self) -> None:
        size = os.fstat(self.descriptor).st_size
        data = os.pread(self.descriptor, size, 0)
        place = 0
        while place + _RECORD.size <= size:
            kind, first, second, length = _RECORD.unpack_from(data, place)
            end = place + _RECORD.size + length
            if end > size:
                break
            self._replay(kind, first, second, data[place + _RECORD.size : end])
            place = end
        # The last record is torn where the daemon was killed while it wrote.
        os.ftruncate(self.descriptor, place)
        os.lseek(self.descriptor, place, os.SEEK_SET)
        self._bytes = place

    def _replay(self, kind: int, first: int, second: int, rest: bytes) -> None:
        if kind == _HANDSHAKE:
            self.left.handshake = rest
        elif kind == _INODE:
            self.left.inodes[first] = second, rest
        elif kind == _OPENED:
            flags, is_directory = _FLAGS.unpack(rest)
            self.left.handles[first] = OpenHandle(second, flags, bool(is_directory))
        elif kind == _CLOSED:
            self.left.handles.pop(first, None)

    def _write(self, record: bytes) -> None:
        try:
            self._bytes += os.write(self.descriptor, record)
        except OSError as error:
            # Memory is full: this request is answered all the same, and what it is about is stale after a takeover.
            log.warning("a takeover will not know all that is open: %s", error)

    def shook_hands(self, message: bytes) -> None:
        """Records the kernel's first message, which it sends once."""
        self._write(_RECORD.pack(_HANDSHAKE, 0, 0, len(message)) + message)

    def told(self, ino: int, parent: int, name: bytes) -> None:
        """Records that the kernel is told of an inode, at a name in a directory."""
        if ino not in self._known and self._bytes < BYTES_MAX:
            self._known.add(ino)
            self._write(_RECORD.pack(_INODE, ino, parent, len(name)) + name)

    def moved(self, ino: int) -> None:
        """Has the next name that the kernel is told for an inode recorded again."""
        self._known.discard(ino)

    def opened(self, fh: int, ino: int, flags: int, *, is_directory: bool) -> None:
        """Records a handle that the kernel gets."""
        rest = _FLAGS.pack(flags & 0xFFFFFFFF, _DIRECTORY if is_directory else 0)
        self._write(_RECORD.pack(_OPENED, fh, ino, len(rest)) + rest)

    def closed(self, fh: int) -> None:
        """Records that the kernel has no handle of this number any more."""
        self._write(_RECORD.pack(_CLOSED, fh, 0, 0))
