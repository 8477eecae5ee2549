"""Memory of an import: the C library keeps what is freed, and the kernel gives it in large pages.

An import takes and frees megabytes thousands of times. As the C library comes, it gives them back to the kernel, which
clears them page by page the next time. Large pages also spare what compresses most look-ups of addresses.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_HEAP_BYTES = 128 * 1024 * 1024
"""What two workers, all pieces in flight and the compressed ones take, about; pages are taken as they are used."""
_MMAP_FROM_BYTES = 32 * 1024 * 1024
_MADV_HUGEPAGE = 14
_LARGE_PAGE_BYTES = 2 * 1024 * 1024


def use_large_pages() -> None:
    """Sets up the memory of this process, until its end; does nothing where the C library is not GNU's.

    For a process that imports and ends, before it has threads: what it frees stays with it.
    """
    libc = ctypes.CDLL(None)
    try:
        mallopt, sbrk, malloc, free, madvise = libc.mallopt, libc.sbrk, libc.malloc, libc.free, libc.madvise
    except AttributeError:
        return
    sbrk.restype = malloc.restype = ctypes.c_void_p
    sbrk.argtypes, free.argtypes = [ctypes.c_ssize_t], [ctypes.c_void_p]
    malloc.argtypes, madvise.argtypes = [ctypes.c_size_t], [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # One heap for all threads: each would keep its own, and large pages would have to be asked for in each.
    for option, value in (
        (_M_ARENA_MAX, 1),
        (_M_MMAP_THRESHOLD, _MMAP_FROM_BYTES),
        (_M_TRIM_THRESHOLD, 2 * _HEAP_BYTES),
        (_M_TOP_PAD, _HEAP_BYTES),
    ):
        mallopt(option, value)
    start = -(-sbrk(0) // _LARGE_PAGE_BYTES) * _LARGE_PAGE_BYTES
    # Makes the heap grow at once.
    free(malloc(_MMAP_FROM_BYTES // 2))
    mallopt(_M_TOP_PAD, _LARGE_PAGE_BYTES)
    end = sbrk(0)
    if end > start:
        madvise(start, end - start, _MADV_HUGEPAGE)
