"""Transfers of bytes: concurrent requests within a bound of memory, counted for a progress bar, limited to a rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from typing import Protocol, TypeVar

T = TypeVar("T")

REQUESTS = 8
BYTES_MAX = 256 * 1024 * 1024
"""Bytes of packs that are in memory at the same time, at most."""


class ByteProgress(Protocol):
    """Called with how many bytes were moved, and of how many (None: unknown)."""

    def __call__(self, done: int, total: int | None) -> None:
        """Reports progress."""
        ...


def no_progress(done: int, total: int | None) -> None:
    """Reports nothing."""
    del done, total


class Pace:
    """Holds a stream of bytes to a rate, on the average; used by several threads."""

    def __init__(
        self,
        bytes_a_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self._rate = bytes_a_second
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._free_at = clock()

    def pass_on(self, size: int, ended: threading.Event) -> None:
        """Waits as long as `size` bytes take, or until `ended` is set."""
        with self._lock:
            self._free_at = max(self._free_at, self._clock()) + size / self._rate
            delay = self._free_at - self._clock()
        if delay > 0:
            self._wait(ended, delay)


class Movement:
    """Moves bytes in threads. Owned by one thread; the first error ends the rest."""

    def __init__(self, progress: ByteProgress = no_progress, pace: Pace | None = None) -> None:
        self._progress = progress
        self._pace = pace
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.done = 0
        self.total: int | None = None

    def expect(self, total: int) -> None:
        """Sets how many bytes there will be."""
        self.total = total
        self._progress(self.done, total)

    def run(self, tasks: Iterable[tuple[int, Callable[[], T]]]) -> list[T]:
        """Runs tasks, each given with its bytes, and returns their results in order; reads the iterable as they go."""
        results: dict[int, T] = {}
        pending: dict[Future[T], tuple[int, int]] = {}
        in_flight = 0

        def collect() -> None:
            nonlocal in_flight
            # In slices, so that Ctrl-C interrupts it.
            ended, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in ended:
                number, size = pending.pop(future)
                in_flight -= size
                results[number] = future.result()

        threads = ThreadPoolExecutor(REQUESTS, thread_name_prefix="transfer")
        try:
            for number, (size, task) in enumerate(tasks):
                while pending and (len(pending) >= REQUESTS or in_flight + size > BYTES_MAX):
                    collect()
                in_flight += size
                pending[threads.submit(self._one, size, task)] = number, size
            while pending:
                collect()
        except BaseException:
            self._ended.set()
            raise
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
            self._ended.clear()
        return [results[number] for number in sorted(results)]

    def keep_pace(self, size: int) -> None:
        """Waits as long as `size` bytes take at the rate: called by a task before it moves them.

        Raises CancelledError when the transfer has ended with another error, or with Ctrl-C.
        """
        if self._pace is not None:
            self._pace.pass_on(size, self._ended)
        if self._ended.is_set():
            raise CancelledError

    def _one(self, size: int, task: Callable[[], T]) -> T:
        result = task()
        with self._lock:
            self.done += size
            self._progress(self.done, self.total)
        return result
