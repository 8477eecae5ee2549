"""Telling the kernel what to look up again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import pyfuse3

from vfs.overlay.state import Invalidation


def drop_caches(stale: Iterable[Invalidation]) -> None:
    """Makes the kernel look up names again and read inodes again. Never from a handler: see docs/concurrency.md."""
    for parent, name, ino in stale:
        # The kernel says ENOENT of what it does not remember.
        with contextlib.suppress(OSError):
            pyfuse3.invalidate_entry(parent, name)
        with contextlib.suppress(OSError):
            pyfuse3.invalidate_inode(parent, attr_only=True)
        if ino:
            with contextlib.suppress(OSError):
                pyfuse3.invalidate_inode(ino)
