"""Poll for the next request, for a moment, before the event loop parks the task.

pyfuse3 calls its event loop through a module attribute, which this module replaces. Parking a task until the descriptor
is readable costs two system calls and two iterations of the loop; on a busy mount the next request is already there, or
comes in a moment (docs/decisions/0010-poll-before-parking.md has the figures).
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Any

import pyfuse3
import trio

from vfs.fuse.session.handshake import Handshake

_TURN_S = 0.001
"""How long requests are served in a row, at most, before the loop runs its other tasks."""
_WAIT_S = 0.0001
"""How long to wait for the next request: a program that reads files one after the other asks again sooner."""
_SELECT_MAX = 1024
"""`select` takes smaller descriptors only; `poll` of the standard library waits whole milliseconds."""


class PollingLowlevel:
    """`trio.lowlevel` with a `wait_readable` that parks the task only if the descriptor stays unreadable."""

    def __init__(self, handshake: Handshake | None, has_requests: Callable[[], bool] = lambda: False) -> None:
        self._has_requests = has_requests
        self._on_broken: Callable[[], None] | None = None
        self._on_ended: Callable[[], None] | None = None
        self._turn_ends = 0.0
        self._polls: dict[int, select.poll] = {}
        self._handshake = handshake
        self._is_delivered = False

    def __getattr__(self, name: str) -> Any:
        return getattr(trio.lowlevel, name)

    def call_when_broken(self, callback: Callable[[], None]) -> None:
        """Sets a callback for an error that ends the reading of requests while the connection lives."""
        self._on_broken = callback

    def call_when_ended(self, callback: Callable[[], None]) -> None:
        """Sets a callback for the end of the connection: the binding still waits for all running requests then."""
        self._on_ended = callback

    async def wait_readable(self, fd: int) -> None:
        """Returns when there is a request; a checkpoint at least every millisecond."""
        if self._handshake is not None:
            if not self._is_delivered:
                self._handshake.deliver()
                self._is_delivered = True
                return
            self._handshake.finish()
            self._handshake = None
        try:
            if time.monotonic() >= self._turn_ends:
                await trio.lowlevel.checkpoint()
                self._turn_ends = time.monotonic() + _TURN_S
            if self._has_requests() or self._poll(fd) or self._wait(fd):
                return
            await trio.lowlevel.wait_readable(fd)
            if self._on_ended is not None:
                self._poll(fd)
        except trio.ClosedResourceError:
            raise
        except BaseException:
            # Usually cancelled, as a request or another task has failed. The binding ends when all other requests are
            # done, some of which wait for a thread; requests that are not read yet would hang so long.
            if self._on_broken is not None:
                self._on_broken()
            raise
        self._turn_ends = time.monotonic() + _TURN_S

    def _wait(self, fd: int) -> bool:
        """Waits a moment for the next request, with the interpreter's lock released; returns True if there is one."""
        if fd < _SELECT_MAX and select.select((fd,), (), (), _WAIT_S)[0]:
            return self._poll(fd)
        return False

    def _poll(self, fd: int) -> bool:
        poll = self._polls.get(fd)
        if poll is None:
            poll = self._polls[fd] = select.poll()
            poll.register(fd, select.POLLIN)
        events = poll.poll(0)
        if events and events[0][1] & select.POLLERR and self._on_ended is not None:
            self._on_ended()
        return bool(events)


class UnfairLock:
    """The part of `trio.Lock` that the binding uses; the first task that asks while it is free gets it.

    A fair lock would pass every next request to another task, with an iteration of the loop each. Here a waiting task
    gets the lock when the holder's handler waits, or at the holder's next checkpoint.
    """

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        while self._held:
            await self._waiting.park()
        self._held = True

    async def __aexit__(self, *_: object) -> None:
        self._held = False
        self._waiting.unpark()


class PollingTrio:
    """`trio` with the two changes."""

    Lock = UnfairLock

    def __init__(self, handshake: Handshake | None, has_requests: Callable[[], bool]) -> None:
        self.lowlevel = PollingLowlevel(handshake, has_requests)

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)


def install(handshake: Handshake | None = None, has_requests: Callable[[], bool] = lambda: False) -> PollingLowlevel:
    """Makes the binding poll before it parks, after a handshake. Called once in a process, before it serves.

    `has_requests` tells whether requests were read from the connection that the binding has not got.
    """
    made = PollingTrio(handshake, has_requests)
    setattr(pyfuse3, "trio", made)  # noqa: B010 - the attribute is not part of the binding's annotations
    return made.lowlevel
