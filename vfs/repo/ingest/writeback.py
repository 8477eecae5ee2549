"""Writing a source file's dirty pages back, so that a later store through a shared mapping shows in the file's times.

The kernel stamps a file at the first store into a page that is clean, and never while the page stays dirty. Reading a
file right after its dirty pages were written back therefore leaves no store unseen: one that was made before is in what
is read, one that comes later meets a clean page. What writes pages back depends on the filesystem; what was found by
trying is in decision 20.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
_LIBC.fstatfs.argtypes = [ctypes.c_int, ctypes.c_void_p]
_WRITE_AND_WAIT = 1 | 2 | 4
"""SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER: all dirty pages, also those that are being written."""
_STATFS_BYTES = 512
"""More than `struct statfs` of any architecture has; its first member is the filesystem's type, as long as a word."""
_OVERLAY = 0x794C7630
# linux/magic.h: ext2 to ext4, XFS, Btrfs, F2FS.
_LOCAL = frozenset({0xEF53, 0x58465342, 0x9123683E, 0xF2F52010})
# tmpfs, ramfs, hugetlbfs.
_IN_MEMORY = frozenset({0x01021994, 0x858458F6, 0x958458F6})
_VOLATILE = frozenset({b"volatile", b"fsync=volatile"})
"""What older and newer kernels call an overlay that syncs nothing."""


class Stamps(Enum):
    """How a filesystem's times follow stores through shared mappings."""

    LOCAL = auto()
    """The kernel stamps the file when a clean page is stored into; `sync_file_range` makes pages clean."""
    STACKED = auto()
    """The same, but the pages are those of a file below: `fdatasync` alone reaches them."""
    REMOTE = auto()
    """The server stamps the file when pages arrive: times may be trusted only behind an `fdatasync`."""
    NEVER = auto()
    """Nothing is ever written back, and no later store shows."""


def stamps_of(descriptor: int) -> Stamps:
    """Returns how the times of an open file follow stores; REMOTE for unknown filesystems."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _LIBC.fstatfs(descriptor, buffer):
        return Stamps.NEVER
    magic = ctypes.c_ulong.from_buffer(buffer).value & 0xFFFFFFFF
    if magic in _LOCAL:
        return Stamps.LOCAL
    if magic == _OVERLAY:
        return Stamps.NEVER if _has_volatile_overlay() else Stamps.STACKED
    return Stamps.NEVER if magic in _IN_MEMORY else Stamps.REMOTE


class Filesystems:
    """How the times of files follow stores, determined once for each filesystem; for any number of threads."""

    def __init__(self) -> None:
        self._known: dict[int, Stamps] = {}

    def of(self, descriptor: int, status: os.stat_result) -> Stamps:
        """Returns how the times of an open file with this status follow stores."""
        found = self._known.get(status.st_dev)
        if found is None:
            found = self._known[status.st_dev] = stamps_of(descriptor)
        return found

    def current_status(self, directory: int, name: bytes, status: os.stat_result) -> os.stat_result | None:
        """Returns the status of a regular file whose times may be trusted; None where it must be read.

        `status` is what `stat` said. A server that stamps the pages that it gets has to be given them first.
        """
        try:
            if status.st_dev not in self._known:
                descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                try:
                    self.of(descriptor, status)
                finally:
                    os.close(descriptor)
            if self._known[status.st_dev] is not Stamps.REMOTE:
                return status
            descriptor = os.open(name, _OPEN, dir_fd=directory)
            try:
                return os.fstat(descriptor) if write_back(descriptor, Stamps.REMOTE) else None
            finally:
                os.close(descriptor)
        except OSError:
            return None


def write_back(descriptor: int, stamps: Stamps) -> bool:
    """Writes the dirty pages of an open file; False where a later store may not show in its times.

    Flushes no disk: it is about pages, not about durability.
    """
    if stamps is Stamps.NEVER:
        return False
    if stamps is Stamps.LOCAL:
        return bool(_LIBC.sync_file_range(descriptor, 0, 0, _WRITE_AND_WAIT) == 0)
    try:
        os.fdatasync(descriptor)
    except OSError:
        return False
    return True


def _has_volatile_overlay() -> bool:
    """Returns True if an overlay of this machine is mounted so that no sync does anything, as for builds of images."""
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
            kind, _, options = line.partition(b" - ")[2].partition(b" ")
            if kind == b"overlay" and not _VOLATILE.isdisjoint(options.rpartition(b" ")[2].split(b",")):
                return True
    return False
