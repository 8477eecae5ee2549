"""Requests that need bytes which are not local: fetch them off the event loop, then ask the handler again.

A handler that meets `NotLocal` has changed nothing yet (docs/durability.md, W15). What it asked for stays pinned until
it has its answer, so each round gets further; other requests are answered meanwhile. A handler holds the lock of its
working layer from its first look at the layer until it returns, so no command can take the lock in between.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from typing import TypeVar

import trio

from vfs.errors import VfsError
from vfs.overlay.event_loop_lock import LayerBusy, LayerLock, Turn
from vfs.overlay.overlay import Overlay
from vfs.store.remote_blocks import Block, NotLocal, Pins, RemoteBlocks, Search

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
        self.is_remote = remote is not None
        self._waiting: set[trio.CancelScope] = set()
        self._has_ended = False
        self._held: list[AbstractContextManager[object]] = []
        self._turn: tuple[LayerLock, Turn] | None = None
        self._searches = trio.CapacityLimiter(_SEARCHES_MAX)

    def hold(self, overlay: Overlay) -> None:
        """Holds a working layer's lock until `let_go`. Raises LayerBusy on the event loop while another thread has it.

        Between both the handler must not await.
        """
        if self._remote is not None and not self._remote.may_wait and overlay.lock not in self._held:
            overlay.lock.__enter__()
            self._held.append(overlay.lock)

    def let_go(self) -> None:
        """Releases the locks that the running handler holds."""
        while self._held:
            self._held.pop().__exit__(None, None, None)
        if self._turn is not None:
            lock, turn = self._turn
            self._turn = None
            lock.end_turn(turn)

    async def answer(self, handler: Callable[[], Awaitable[R]]) -> R:
        """Calls a handler, and again when what it has missed is fetched, until it has an answer.

        Raises what the handler raises, OSError(EIO) if a fetch fails.
        """
        try:
            return await self._attempt(handler)
        except NotLocal as error:
            missing = error
        with missing.remote.pins() as pins:
            for _ in range(ROUNDS_MAX):
                try:
                    while isinstance(missing, LayerBusy):
                        busy = missing
                        try:
                            return await self._until_end(lambda lock: self.in_turn(lock, handler), busy.lock)
                        except LayerBusy as again:
                            missing = again
                    if missing.search is None:
                        await self._until_end(lambda blocks: _fetch_blocks(pins, blocks), missing.blocks)
                    else:
                        # What the search raises the handler meets again: it may be an answer.
                        with suppress(VfsError):
                            await self._until_end(lambda search: self._search(pins, search), missing.search)
                    return await self._attempt(handler)
                except NotLocal as more:
                    missing = more
        raise OSError(errno.EIO, f"the answer needs more than {ROUNDS_MAX} fetches one after the other")

    async def in_turn(self, lock: LayerLock, handler: Callable[[], Awaitable[R]]) -> R:
        """Calls a handler when the lock of its working layer is free; no other thread gets it in between."""
        is_free = trio.Event()
        token = trio.lowlevel.current_trio_token()
        turn = lock.wait_from_loop(lambda: _set_event(token, is_free))
        try:
            await is_free.wait()
            # It ends with the handler's hold of the lock: a worker thread that it awaits may take the lock, too.
            self._turn = lock, turn
            return await self._attempt(handler)
        finally:
            lock.end_turn(turn)

    async def _attempt(self, handler: Callable[[], Awaitable[R]]) -> R:
        try:
            return await handler()
        finally:
            self.let_go()

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
            await self._until_end(lambda search: self._search(pins, search), work)

    async def _until_end(self, fetch: Callable[[T], Awaitable[R]], wanted: T) -> R:
        with trio.CancelScope() as scope:
            if self._has_ended:
                scope.cancel()
            self._waiting.add(scope)
            try:
                return await fetch(wanted)
            finally:
                self._waiting.discard(scope)
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


async def _fetch_blocks(pins: Pins, blocks: Sequence[Block]) -> None:
    for is_last in (False, True):
        flights = pins.start(blocks)
        for flight in flights:
            await _landing(flight.done)
        error = pins.error_of(flights, is_last=is_last)
        if error is not None:
            raise _failed(error)


async def _landing(done: Future[None]) -> None:
    """Waits until a future is done, however it ended."""
    event = trio.Event()
    token = trio.lowlevel.current_trio_token()

    done.add_done_callback(lambda _: _set_event(token, event))
    await event.wait()


def _set_event(token: trio.lowlevel.TrioToken, event: trio.Event) -> None:
    """Sets an event of the event loop, from any thread."""
    with suppress(trio.RunFinishedError):
        token.run_sync_soon(event.set)


def _failed(error: BaseException) -> OSError:
    """Returns the error of a request whose fetch has failed, whatever the backend's was."""
    return OSError(errno.EIO, f"a fetch has failed: {error!r}")
