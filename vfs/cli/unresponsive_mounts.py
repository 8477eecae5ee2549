"""Asking a mount something that its daemon has to answer, without waiting for ever for one that does not."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

from vfs.control.client import (
    LOOK_S,
    SILENCE_S,
    Introduction,
    Unresponsive,
    is_stopped,
    listeners,
    unresponsive,
)
from vfs.model.names import show_path
from vfs.repo.file_metadata import MOUNT_XATTR

_ANSWER_BYTES_MAX = 1 << 16


def answer_of(mountpoint: Path, repository: Path, ask: Callable[[], bytes]) -> bytes:
    """Returns what a function that looks into a mount returns. Raises Unresponsive where that takes too long.

    Another process looks: one that waits for an answer of a mount cannot always be ended, and would keep us.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, ask())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        answer = _wait(reading, mountpoint, repository)
    except BaseException:
        # It is not waited for: its end may take as long as the answer.
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(reading)
    os.waitpid(child, 0)
    return answer


def introduction_of(mountpoint: Path, repository: Path) -> Introduction | None:
    """Returns what a mount says of itself, None where it is dead or does not answer."""
    try:
        return Introduction.read(answer_of(mountpoint, repository, lambda: os.getxattr(mountpoint, MOUNT_XATTR)))
    except Unresponsive:
        processes = listeners(repository)
        return Introduction(b"", processes[0], "", os.fsencode(mountpoint)) if len(processes) == 1 else None


def _wait(reading: int, mountpoint: Path, repository: Path) -> bytes:
    deadline = time.monotonic() + SILENCE_S
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    while not poll.poll(LOOK_S * 1000):
        processes = listeners(repository)
        stopped = next(filter(is_stopped, processes), None)
        if stopped is not None or time.monotonic() >= deadline:
            process = stopped if stopped is not None else processes[0] if len(processes) == 1 else None
            raise unresponsive(f"the mount at {show_path(os.fsencode(mountpoint))}", process)
    return os.read(reading, _ANSWER_BYTES_MAX)
