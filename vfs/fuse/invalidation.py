"""Invalidation of the kernel's caches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import pyfuse3

from vfs.overlay.state import Invalidation


def drop_directories(inodes: Iterable[int]) -> None:
    """Makes the kernel list directories again. Never called in a handler."""
    for ino in inodes:
        with contextlib.suppress(OSError):
            pyfuse3.invalidate_inode(ino)


def drop_caches(stale: Iterable[Invalidation]) -> None:
    """Makes the kernel look up names and read inodes again. Never called in a handler: see docs/concurrency.md."""
    for parent, name, ino in stale:
        # The kernel answers ENOENT if the name or the inode is not in its cache.
        with contextlib.suppress(OSError):
            pyfuse3.invalidate_entry(parent, name)
        with contextlib.suppress(OSError):
            pyfuse3.invalidate_inode(parent, attr_only=True)
        if ino:
            with contextlib.suppress(OSError):
                pyfuse3.invalidate_inode(ino)
