"""The process guard of a mount: it ends the connection when the daemon was killed and cannot.

A thread that waits in the kernel for its own process's answer, or for a directory that another process has locked while
it waits for that answer, cannot be killed, and keeps the connection open when the rest of the process has ended.
Programs that use the mount would hang instead of getting an error. A process that does not have the connection open can
end it: its program is guard_process.py.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vfs.fuse.session import guard_process
from vfs.fuse.session.guard_process import END_CONNECTION, SIGNALS, STOPPING

TAKEOVERS_MAX = 30
"""A daemon that is killed as often within `guard_process.WITHIN_S` has a reason to: the mount is dead then."""


class ProcessGuard:
    """The guard of a mount, for as long as the daemon's main thread lives.

    It is started before the mount is made, so that a daemon which is killed at any moment has one.
    """

    def __init__(self, process: int, told: int | None = None) -> None:
        """`process`: a child of this one; `told`: the descriptor through which it is told what happens."""
        self._process: int | None = process
        self._told = told

    @classmethod
    def start(cls, path: Path, successor: Sequence[str] = (), kept: Sequence[int] = ()) -> ProcessGuard:
        """Starts the guard of a mount point, in the main thread: the kernel tells the guard of that thread's end.

        `successor`: the program that the guard becomes if the daemon is killed, with the descriptors `kept` open and
        three more arguments: the mount's device and READY, as far as they were told, and the process of its own guard,
        "" if daemons were killed too often. Without a successor the guard ends the connection.
        """
        heard, told = os.pipe()
        try:
            actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
                (os.POSIX_SPAWN_DUP2, heard, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                *((os.POSIX_SPAWN_DUP2, each, each) for each in kept),
            ]
            told_at_start = [str(os.getpid()), str(path), str(TAKEOVERS_MAX)]
            command = [sys.executable, "-I", "-S", guard_process.__file__, *told_at_start, *successor]
            # In a session of its own: a Ctrl-C is meant for the daemon. With the signals blocked: one that is sent
            # before the guard waits for it, or the successor obeys it, is not lost.
            blocked = SIGNALS | STOPPING
            process = os.posix_spawn(
                sys.executable, command, os.environ, file_actions=actions, setsid=True, setsigmask=blocked
            )
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(heard)
        return cls(process, told)

    def tell(self, word: str) -> None:
        """Tells the guard the mount's device, `MAJOR:MINOR`, once it is there, then READY."""
        if self._told is not None:
            # A guard that was killed guards no more; the mount goes on.
            with suppress(BrokenPipeError):
                os.write(self._told, f"{word}\n".encode())

    def end_connection(self) -> None:
        """Makes the guard end the connection now, for a daemon that answers no more and cannot end yet.

        It needs almost no memory.
        """
        if self._process is not None:
            os.kill(self._process, END_CONNECTION)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Guards while the mount is served; the guard is gone afterwards."""
        try:
            yield
        except BaseException:
            # Programs and threads of the daemon that wait for an answer get an error before the daemon waits for them.
            self.end_connection()
            self._reap()
            raise
        finally:
            self.close()

    def close(self) -> None:
        """Ends the guard."""
        if self._told is not None:
            os.close(self._told)
            self._told = None
        if self._process is not None:
            os.kill(self._process, signal.SIGKILL)
            self._reap()

    def _reap(self) -> None:
        if self._process is not None:
            with suppress(ChildProcessError):
                os.waitpid(self._process, 0)
            self._process = None
