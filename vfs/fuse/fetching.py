"""Requests that need bytes which are not local: fetch them off the event loop, then ask the handler again.

A handler that meets `NotLocal` has changed nothing yet (docs/durability.md, W15). What it asked for stays pinned until
it has its answer, so each round gets further; other requests are answered meanwhile.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

import trio

from vfs.errors import VfsError
from vfs.store.remote_blocks import NotLocal, Pins, RemoteBlocks, Search

log = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T")

ROUNDS_MAX = 256
"""How often one request may find that more is not local: more than any path is deep or any reply has nodes."""
_SEARCHES_MAX = 8


class Fetching:
    """The fetches that the requests of one mount wait for. Used by the event loop's thread."""

    def __init__(self, remote: RemoteBlocks | None) -> None:
        self._remote = remote
        self._waiting: set[trio.CancelScope] = set()
        self._has_ended = False
        self._searches = trio.CapacityLimiter(_SEARCHES_MAX)

    async def call(self, missing: NotLocal, handler: Callable[[], Awaitable[R]]) -> R:
        """Fetches what a handler has missed and calls it again, until it has an answer.

        Raises what the handler raises, OSError(EIO) if a fetch fails.
        """
        with missing.remote.pins() as pins:
            for _ in range(ROUNDS_MAX):
                if missing.search is None:
                    await self._until_end(_fetch_blocks, pins, missing)
                else:
                    # What the search raises the handler meets again: it may be an answer.
                    with suppress(VfsError):
                        await self._until_end(self._search, pins, missing.search)
                try:
                    return await handler()
                except NotLocal as more:
                    missing = more
        raise OSError(errno.EIO, f"the answer needs more than {ROUNDS_MAX} fetches one after the other")

    def end(self) -> None:
        """Ends all fetches that requests wait for, now and later; the requests get EIO. The mount is about to end."""
        self._has_ended = True
        for scope in self._waiting:
            scope.cancel()

    async def run(self, work: Search) -> None:
        """Runs a thread-safe function that may read much in a worker thread. Raises OSError(EIO) if a fetch fails."""
        if self._remote is None:
            await trio.to_thread.run_sync(work)
            return
        with self._remote.pins() as pins:
            await self._until_end(self._search, pins, work)

    def require_free(self, lock: threading.RLock) -> None:
        """Raises NotLocal on the event loop while another thread has a working layer's lock.

        Operations of commands read with it held, perhaps much: a worker thread waits for them, not the event loop.
        """
        remote = self._remote
        if remote is None or remote.may_wait or self._has_ended:
            return
        if not lock.acquire(blocking=False):
            raise NotLocal(remote, (), lambda: _wait_for_lock(lock))
        lock.release()

    async def _until_end(self, fetch: Callable[[Pins, T], Awaitable[None]], pins: Pins, wanted: T) -> None:
        with trio.CancelScope() as scope:
            if self._has_ended:
                scope.cancel()
            self._waiting.add(scope)
            try:
                await fetch(pins, wanted)
            finally:
                self._waiting.discard(scope)
        if scope.cancelled_caught:
            raise OSError(errno.EIO, "the mount ends before a fetch was done")

    async def _search(self, pins: Pins, search: Search) -> None:
        """Runs a search in a worker thread. Raises OSError(EIO) if a fetch fails, else what the search raises."""
        errors: list[Exception] = []
        has_ended = False

        def run() -> None:
            with pins.searching():
                try:
                    search()
                except Exception as error:  # noqa: BLE001 - raised below
                    errors.append(error)

        async def cancel_with_request() -> None:
            try:
                await trio.sleep_forever()
            finally:
                if not has_ended:
                    pins.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_with_request)
            # Not abandoned: it uses the index, which is closed after the mount. A cancelled read ends it.
            await trio.to_thread.run_sync(run, limiter=self._searches)
            has_ended = True
            nursery.cancel_scope.cancel()
        for error in errors:
            raise _failed(error) if isinstance(error, OSError) else error


def _wait_for_lock(lock: threading.RLock) -> None:
    with lock:
        pass


async def _fetch_blocks(pins: Pins, missing: NotLocal) -> None:
    for is_last in (False, True):
        flights = pins.start(missing.blocks)
        for flight in flights:
            await _landing(flight.done)
        error = pins.error_of(flights, is_last=is_last)
        if error is not None:
            raise _failed(error)


async def _landing(done: Future[None]) -> None:
    """Waits until a future is done, however it ended."""
    event = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def tell(_: object) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(event.set)

    done.add_done_callback(tell)
    await event.wait()


def _failed(error: BaseException) -> OSError:
    """Returns the error of a request whose fetch has failed, whatever the backend's was."""
    return OSError(errno.EIO, f"a fetch has failed: {error!r}")
