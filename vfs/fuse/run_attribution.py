"""Attribution: to which run a thread that makes a request belongs, by the tree of processes.

The supervisor, the command that runs a program, is its subreaper: a process whose parents have ended has the
supervisor as its parent, so that the way up from any process of the program leads there. The answer is kept by thread
id, and dropped when the thread's pidfd says that it ended, so that a reused number inherits nothing. A process that
another one has started (a scheduler's worker) belongs to the run that `VFS_RUN` in its environment names.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

R = TypeVar("R")

RUN_VARIABLE = b"VFS_RUN="
_PIDFD_THREAD = os.O_EXCL
"""Linux 6.9; older kernels refuse it, and only main threads are remembered there."""
_DEPTH_MAX = 4096
_ENVIRONMENT_BYTES_MAX = 4 << 20
_UNKNOWN = object()


class Attribution(Generic[R]):
    """The runs that threads belong to; used by the event loop's thread. None stands for no run.

    `roots`: the processes below which everything belongs to a run. `by_id`: finds the run that VFS_RUN names.
    """

    def __init__(self, by_id: Callable[[str], R | None], before_drop: Callable[[int | None], None]) -> None:
        """`before_drop` is called before the answer for a thread (None: for all) is dropped."""
        self.roots: dict[int, R] = {}
        self._by_id = by_id
        self._before_drop = before_drop
        self.by_thread: dict[int, R | None] = {}
        self._descriptors: dict[int, tuple[int, Callable[[], None] | None]] = {}
        self._threads: dict[int, int] = {}
        self._epoll = select.epoll()

    @property
    def descriptor(self) -> int:
        """Becomes readable when a thread has ended; call `drop_ended` then."""
        return self._epoll.fileno()

    def add_root(self, process: int, run: R, on_end: Callable[[], None]) -> None:
        """Makes all below a process belong to a run; `on_end` is called when the process ends. Raises OSError."""
        descriptor = os.pidfd_open(process)
        self._watch(descriptor, 0, on_end)
        self.roots[process] = run
        # A thread may have been looked up before: it belongs to another run now.
        self._drop_all()

    def remove_root(self, process: int) -> None:
        """Makes what is started below a process belong to no run any more."""
        self.roots.pop(process, None)
        self._drop_all()

    def remove_run(self, run: R) -> None:
        """Makes no thread belong to a run any more."""
        for process in [process for process, found in self.roots.items() if found is run]:
            del self.roots[process]
        self._drop_all()
        if not self.roots:
            for descriptor in list(self._descriptors):
                self._unwatch(descriptor)

    def _drop_all(self) -> None:
        self._before_drop(None)
        self.by_thread.clear()

    def find(self, thread: int) -> R | None:
        """Returns the run that a thread, which waits for its request, belongs to; remembers the answer."""
        descriptor = self._open(thread)
        run = self._look_up(thread)
        if descriptor is not None:
            self._watch(descriptor, thread, None)
            self.by_thread[thread] = run
        return run

    def _open(self, thread: int) -> int | None:
        try:
            return os.pidfd_open(thread, _PIDFD_THREAD)
        except OSError:
            pass
        try:
            return os.pidfd_open(thread)
        except OSError:
            return None

    def _watch(self, descriptor: int, thread: int, on_end: Callable[[], None] | None) -> None:
        if thread:
            old = self._threads.get(thread)
            if old is not None:
                self._unwatch(old)
            self._threads[thread] = descriptor
        self._descriptors[descriptor] = thread, on_end
        self._epoll.register(descriptor, select.EPOLLIN)

    def _unwatch(self, descriptor: int) -> Callable[[], None] | None:
        thread, on_end = self._descriptors.pop(descriptor)
        if self._threads.get(thread) == descriptor:
            del self._threads[thread]
        with suppress(OSError):
            self._epoll.unregister(descriptor)
        os.close(descriptor)
        return on_end

    def drop_ended(self) -> None:
        """Forgets the threads that have ended."""
        for descriptor, _ in self._epoll.poll(0):
            if descriptor in self._descriptors:
                thread = self._descriptors[descriptor][0]
                self._before_drop(thread)
                self.by_thread.pop(thread, None)
                on_end = self._unwatch(descriptor)
                if on_end is not None:
                    on_end()

    def _look_up(self, thread: int) -> R | None:
        found = _ids(thread)
        if found is None:
            return None
        process, parent = found
        for _ in range(_DEPTH_MAX):
            run = self.roots.get(parent)
            if run is not None:
                return run
            if parent <= 1:
                break
            above = _ids(parent)
            if above is None:
                break
            parent = above[1]
        return self._named(process)

    def _named(self, process: int) -> R | None:
        """Returns the run that a process's environment names."""
        if process in self.roots:
            return None
        try:
            with open(f"/proc/{process}/environ", "rb") as file:
                environment = file.read(_ENVIRONMENT_BYTES_MAX)
        except OSError:
            return None
        for variable in environment.split(b"\0"):
            if variable.startswith(RUN_VARIABLE):
                return self._by_id(variable[len(RUN_VARIABLE) :].decode("ascii", "replace"))
        return None

    def close(self) -> None:
        """Closes all descriptors."""
        for descriptor in list(self._descriptors):
            self._unwatch(descriptor)
        self._epoll.close()


def _ids(thread: int) -> tuple[int, int] | None:
    """Returns the process of a thread and the parent of that, None where it has ended."""
    try:
        with open(f"/proc/{thread}/status", "rb") as file:
            status = file.read()
    except OSError:
        return None
    at = status.find(b"\nTgid:")
    above = status.find(b"\nPPid:")
    if at < 0 or above < 0:
        return None
    return int(status[at + 6 :].split(None, 1)[0]), int(status[above + 6 :].split(None, 1)[0])
