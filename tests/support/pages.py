"""Which bytes of a file the kernel has in memory."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

from support.waiting import wait_until

_libc = ctypes.CDLL(None, use_errno=True)


def forget_pages(path: Path) -> None:
    """Drops a file's pages from the page cache; no process may have them mapped."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def pages_in_memory(path: Path) -> list[bool]:
    """Returns for each page of a file whether a read of it would wait for no disk."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=3) as mapped:
        size = len(mapped)
        start = (ctypes.c_char * size).from_buffer(mapped)
        found = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
        failed = _libc.mincore(ctypes.byref(start), ctypes.c_size_t(size), found)
        del start
        assert not failed, os.strerror(ctypes.get_errno())
    return [bool(page & 1) for page in found]


def wait_for_pages(path: Path, pages: range) -> None:
    """Returns when the kernel has read a file's pages into memory ahead; never, if it does not."""
    wait_until(lambda: all(pages_in_memory(path)[pages.start : pages.stop]))
