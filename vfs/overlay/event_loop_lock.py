"""The lock between threads of a working layer over a backend that is not local: the event loop never waits for it.

Commands hold the lock while they read, perhaps for minutes. On the event loop's thread a lock that another thread holds
raises LayerBusy; the request waits (`wait_from_loop`), and its turn comes before the next thread's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import get_ident

from vfs.store.remote_blocks import NotLocal, RemoteBlocks


class LayerBusy(NotLocal):
    """Another thread holds a working layer's lock, and the calling thread must not wait for it."""

    def __init__(self, remote: RemoteBlocks, lock: LayerLock) -> None:
        super().__init__(remote, ())
        self.lock = lock


class Turn:
    """A request that waits for a lock. Used by the event loop's thread; `call` runs in the thread that releases."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.has_come = self.is_over = False


class LayerLock:
    """A reentrant lock as a context manager, which the thread that must not wait takes at once or not at all."""

    def __init__(self, remote: RemoteBlocks) -> None:
        self._remote = remote
        self._released = threading.Condition(threading.Lock())
        self._owner: int | None = None
        self._depth = 0
        self._waiting: list[Turn] = []
        # Requests whose turn has come and has not ended: until then the lock is kept for the event loop.
        self._turns = 0

    def __enter__(self) -> None:
        thread = get_ident()
        with self._released:
            if self._owner != thread:
                while self._owner is not None or (self._turns and self._remote.may_wait):
                    if not self._remote.may_wait:
                        raise LayerBusy(self._remote, self)
                    self._released.wait()
                self._owner = thread
            self._depth += 1

    def __exit__(self, *_: object) -> None:
        with self._released:
            self._depth -= 1
            if self._depth:
                return
            self._owner = None
            turns, self._waiting = self._waiting, []
            self._turns += len(turns)
            for turn in turns:
                turn.has_come = True
            if not self._turns:
                self._released.notify()
        for turn in turns:
            turn.call()

    def wait_from_loop(self, call: Callable[[], None]) -> Turn:
        """Has `call` called, by any thread, when the lock is free and kept for the event loop, until `end_turn`."""
        turn = Turn(call)
        with self._released:
            if self._owner is not None:
                self._waiting.append(turn)
                return turn
            self._turns += 1
            turn.has_come = True
        call()
        return turn

    def end_turn(self, turn: Turn) -> None:
        """Ends a request's turn, or its waiting for one; idempotent. The caller has released the lock."""
        with self._released:
            if turn.is_over:
                return
            turn.is_over = True
            if not turn.has_come:
                self._waiting.remove(turn)
                return
            self._turns -= 1
            if not self._turns and self._owner is None:
                self._released.notify()
