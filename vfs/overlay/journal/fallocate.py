"""Linux's fallocate: punching holes into a file, and preallocating blocks after its end."""

from __future__ import annotations

import os

BLOCK_BYTES = 4096
"""Block size: a hole consists of whole blocks."""

_KEEP_SIZE = 1
_PUNCH_HOLE = 2


def punch_hole(fd: int, start: int, end: int) -> None:
    """Frees a stretch of a file; it reads as zeros. Raises OSError if the filesystem cannot do that."""
    _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, start, end - start)


def allocate(fd: int, start: int, size: int) -> None:
    """Preallocates blocks for a stretch, also after the end of a file, whose size stays. Raises OSError."""
    _fallocate(fd, _KEEP_SIZE, start, size)


def _fallocate(fd: int, mode: int, start: int, size: int) -> None:
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if library.fallocate(fd, mode, ctypes.c_int64(start), ctypes.c_int64(size)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
