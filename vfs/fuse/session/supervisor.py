"""A mount in the foreground: its daemon is a child of the process that the user or a service manager started.

If the daemon is killed, by the kernel for its memory for example, its guard takes the mount over and becomes a child as
well. If this process is killed, the daemon unmounts and ends.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from vfs.fuse.session.guard_process import is_zombie

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_READY = b"."
_LOOKS = 5
_NO_PROCESS = frozenset({errno.ESRCH, errno.ENOENT, errno.EINVAL})
"""Errors of `pidfd_open` where there is no process, or its number is a thread's now, by the kernel's version."""
TAKEOVER = b"vfs.fuse.takeover"
"""A word of the guard that becomes the next daemon, of that, and of its prefetch workers."""
WORKER_NAME = b"vfs-prefetch"
"""The name of the main thread of a prefetch worker."""


class Ended(Exception):
    """The mount has ended; `status` is the exit status of its last daemon."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def supervised(ready: Callable[[], None]) -> Callable[[], None]:
    """Goes on in a child, which gets a function to call when the mount answers; then this process calls `ready`.

    Raises Ended in this process. Must be called while it has one thread.
    """
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child:
        os.close(writing)
        raise Ended(_supervise(child, reading, ready))
    os.close(reading)
    # In a session of its own: a Ctrl-C reaches it once, through its supervisor.
    os.setsid()
    if not _ends_with(parent):
        raise Ended(128 + signal.SIGKILL)

    def answer() -> None:
        os.write(writing, _READY)
        os.close(writing)

    return answer


def watched_supervisor(supervisor: int) -> int | None:
    """Returns a descriptor that is readable once the supervisor has ended, for a successor; None if it has already.

    A killed daemon is the successor's parent until all its threads are gone, and one of them may wait for an answer of
    the successor: the kernel's signal at the parent's end would be for that daemon's.
    """
    try:
        watched = os.pidfd_open(supervisor)
    except OSError as error:
        if error.errno in _NO_PROCESS:
            return None
        raise
    # Again, for a killed daemon on the way may go meanwhile.
    if any(_descends_from(supervisor) for _ in range(_LOOKS)):
        return watched
    os.close(watched)
    return None


def _descends_from(ancestor: int) -> bool:
    process = os.getppid()
    while process > 1 and process != ancestor:
        process = _parent_of(process)
    return process == ancestor


def _parent_of(process: int) -> int:
    """Returns the parent of a process, 0 where there is no such process or it may not be seen."""
    try:
        return int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b") ")[2].split()[1])
    except OSError:
        return 0


def _ends_with(parent: int) -> bool:
    """Has the kernel send SIGTERM to this process when its parent ends; returns False if it has ended already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent


def _supervise(daemon: int, reading: int, ready: Callable[[], None]) -> int:
    """Passes signals on to the daemon and its successors, and returns the exit status of the last one."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    # What was ignored from the start stays ignored, here and in the daemon.
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    passed_on = {int(number) for number in numbers if signal.getsignal(number) is not signal.SIG_IGN}
    for number in (*passed_on, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    sources = [woken, reading]
    stopping = 0
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == daemon:
            successor = _successor(os.getpid())
            if successor is None:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            daemon = successor
            if stopping:
                stopping = _pass_on(stopping, daemon)
        if ended:
            continue
        found, _, _ = select.select(sources, (), ())
        if reading in found:
            if os.read(reading, 1):
                ready()
            sources.remove(reading)
            os.close(reading)
        if woken in found:
            for number in passed_on & set(os.read(woken, 4096)):
                stopping = _pass_on(number, daemon)


def _successor(parent: int) -> int | None:
    """Returns the child of a process that takes over from a daemon that was killed: until then, the daemon's guard."""
    children: list[str] = []
    for thread in Path(f"/proc/{parent}/task").iterdir():
        with suppress(OSError):
            children += (thread / "children").read_text().split()
    for child in children:
        place = Path(f"/proc/{child}")
        # Between two programs it has no words for a moment.
        while not (words := (place / "cmdline").read_bytes()) and not is_zombie(int(child)):
            pass
        if TAKEOVER in words and (place / "comm").read_bytes().rstrip() != WORKER_NAME:
            return int(child)
    return None


def _pass_on(number: int, daemon: int) -> int:
    """Passes a signal on to a daemon; returns the signal, for the successor of a daemon that is killed meanwhile.

    The successor of one that was killed, and whose last thread is not gone yet, gets it at once; then 0 is returned.
    """
    successor = None
    with suppress(OSError):
        successor = _successor(daemon) if is_zombie(daemon) else None
    with suppress(ProcessLookupError):
        os.kill(daemon if successor is None else successor, number)
    return number if successor is None else 0
