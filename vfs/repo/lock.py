"""Locks between processes: `flock` on files of the repository. A crash releases them; nothing is left to clean up.

Order, where several are held: the index guard, the lock of sweeps, the write lock, the lock of objects
(docs/concurrency.md).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vfs.backend.rooted_path import RootedPath
from vfs.errors import Busy

_RETRY_S = 0.02


@contextmanager
def file_lock(
    path: Path, *, timeout_s: float, shared: bool = False, waiting: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Holds a lock of a repository against other processes and other threads of this one.

    `waiting` is called once, with words for a person, when another process holds it. Raises Busy after `timeout_s`.
    """
    descriptor = RootedPath.of(path).open(os.O_RDWR | os.O_CREAT)
    try:
        _take(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, timeout_s, waiting)
        # The holder's number is only ever shown to a person; the lock itself is what counts.
        # A full disk must not keep what would free it.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


class IndexGuard:
    """The lock of a process that has the index open (shared), or that replaces it alone (exclusive).

    A process that has a replaced LMDB file open would miss everything new. Owned by one Repository.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = RootedPath.of(path).open(os.O_RDWR | os.O_CREAT)

    def share(self, timeout_s: float) -> None:
        """Waits while another process replaces the index."""
        _take(self._descriptor, fcntl.LOCK_SH, timeout_s, None)

    def exclude(self, timeout_s: float) -> None:
        """Waits until no other process has the index open; the shared hold is given up meanwhile."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        try:
            _take(self._descriptor, fcntl.LOCK_EX, timeout_s, None)
        except Busy as busy:
            raise Busy(
                "the index has to be rebuilt, and another process has the repository open",
                hint="Unmount the repository (or wait for the other command), then run this again.",
            ) from busy

    def close(self) -> None:
        """Releases the guard; does nothing the second time."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _take(descriptor: int, mode: int, timeout_s: float, waiting: Callable[[str], None] | None) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            holder = _holder(descriptor)
            if time.monotonic() >= deadline:
                message = f"the repository is being changed by {holder}"
                raise Busy(message, hint="Wait for it, then try again.") from error
            if waiting is not None:
                waiting(f"waiting for {holder}, which is changing the repository")
                waiting = None
        time.sleep(_RETRY_S)


def _holder(descriptor: int) -> str:
    text = os.pread(descriptor, 32, 0).strip()
    return f"process {int(text)}" if text.isdigit() else "another process"
