"""Blocks of a file that Python cannot ask for: taken out of its middle, or kept behind its end (Linux's fallocate)."""

from __future__ import annotations

import ctypes
import os

BLOCK_BYTES = 4096
"""Of a disk: holes are made of whole ones."""

_KEEP_SIZE = 1
_PUNCH_HOLE = 2


def punch_hole(fd: int, start: int, end: int) -> None:
    """Gives a stretch of a file back to the disk; it reads as zeros. Raises OSError where the filesystem cannot."""
    _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, start, end - start)


def allocate(fd: int, start: int, size: int) -> None:
    """Has the disk keep blocks for a stretch, also behind the end of a file, whose size stays. Raises OSError."""
    _fallocate(fd, _KEEP_SIZE, start, size)


def _fallocate(fd: int, mode: int, start: int, size: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.fallocate(fd, mode, ctypes.c_int64(start), ctypes.c_int64(size)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
