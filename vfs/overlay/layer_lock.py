"""The lock of a working layer between processes: one daemon or command has it open."""

from __future__ import annotations

import fcntl
import os

from vfs.backend.rooted_path import RootedPath
from vfs.errors import Busy
from vfs.overlay.layer_files import LOCK_NAME


def take_lock(directory: RootedPath) -> int:
    """Locks the working layer for this process and returns the descriptor that holds the lock; raises Busy."""
    fd = (directory / LOCK_NAME).open(os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise Busy(
            f"another process uses the working layer in {directory}",
            hint="Unmount it, or let the command run where the mount answers it.",
        ) from error
    return fd
