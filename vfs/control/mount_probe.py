"""Reading from a mount with a time limit: a daemon that does not respond would block the reading process for ever."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

from vfs.control.daemon_socket import (
    CHECK_INTERVAL_S,
    SILENCE_S,
    Unresponsive,
    daemons_of,
    is_stopped,
    unresponsive,
)
from vfs.control.mount_description import Introduction
from vfs.model.names import show_path
from vfs.repo.file_metadata import MOUNT_XATTR

_RESULT_BYTES_MAX = 1 << 16


def read_from_mount(
    mountpoint: Path, repository: Path, read: Callable[[], bytes], *, silence_s: float = SILENCE_S
) -> bytes:
    """Returns the result of a function that reads from a mount. Raises Unresponsive where that takes too long.

    A child process calls it: a process that waits for a mount cannot always be killed, and this one would hang.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, read())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        result = _receive(reading, mountpoint, repository, silence_s)
    except BaseException:
        # The child is not waited for: its end may take as long as the daemon's response.
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(reading)
    os.waitpid(child, 0)
    return result


def introduction_of(mountpoint: Path, repository: Path) -> Introduction | None:
    """Returns what a mount reports about itself, None where it is dead or does not respond."""
    try:
        return Introduction.read(read_from_mount(mountpoint, repository, lambda: os.getxattr(mountpoint, MOUNT_XATTR)))
    except Unresponsive:
        processes = daemons_of(repository)
        return Introduction(b"", processes[0], "", os.fsencode(mountpoint)) if len(processes) == 1 else None


def _receive(reading: int, mountpoint: Path, repository: Path, silence_s: float) -> bytes:
    deadline = time.monotonic() + silence_s
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    while not poll.poll(min(CHECK_INTERVAL_S, silence_s) * 1000):
        processes = daemons_of(repository)
        stopped = next(filter(is_stopped, processes), None)
        if stopped is not None or time.monotonic() >= deadline:
            process = stopped if stopped is not None else processes[0] if len(processes) == 1 else None
            raise unresponsive(f"the mount at {show_path(os.fsencode(mountpoint))}", process)
    return os.read(reading, _RESULT_BYTES_MAX)
