"""Wrappers around an ObjectBackend, each an ObjectBackend itself: retry, request counts, latency and faults.

All requests of a wrapper pass through one method, `Wrapper.request`, which each kind of wrapper overrides. Clock, sleep
and jitter can be passed in. Wrappers nest in any order.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self, TypeVar

from vfs.backend.protocol import TRANSIENT, Buffer, MissingKey, ObjectBackend, OnDisk, Token, Upload, Versioned

T = TypeVar("T")

Request = Literal[
    "read", "read_range", "read_into", "read_versioned", "read_if_changed", "size", "list",
    "put", "put_if_absent", "compare_and_swap", "commit", "delete",
]  # fmt: skip
"""A request to the medium, by the method that makes it; `commit` is that of an upload."""
CONDITIONAL: frozenset[Request] = frozenset({"put_if_absent", "compare_and_swap"})
"""The requests that must not be repeated blindly."""


class Wrapper:
    """An ObjectBackend that passes everything on to another one."""

    def __init__(self, inner: ObjectBackend) -> None:
        self.inner = inner

    @property
    def is_local(self) -> bool:
        """True if the wrapped backend is."""
        return self.inner.is_local

    def request(self, name: Request, key: str, call: Callable[[], T], sent: int = 0) -> T:
        """Makes one request and returns its result; `sent` is the number of bytes that a write carries."""
        return call()

    def read(self, key: str) -> bytes:
        """Returns the whole object."""
        return self.request("read", key, lambda: self.inner.read(key))

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """Returns part of an object; fewer bytes only at its end."""
        return self.request("read_range", key, lambda: self.inner.read_range(key, offset, size))

    def read_into(self, key: str, offset: int, buffer: memoryview) -> int:
        """Fills a buffer from part of an object; returns the number of bytes, fewer than asked only at its end."""
        return self.request("read_into", key, lambda: self.inner.read_into(key, offset, buffer))

    def read_versioned(self, key: str) -> Versioned:
        """Returns the whole object with its token."""
        return self.request("read_versioned", key, lambda: self.inner.read_versioned(key))

    def read_if_changed(self, key: str, token: Token) -> Versioned | None:
        """Returns the whole object with its token, None if `token` names its contents."""
        return self.request("read_if_changed", key, lambda: self.inner.read_if_changed(key, token))

    def read_kept(self, key: str, offset: int, size: int) -> Buffer | None:
        """Passes it on; it is no request."""
        return self.inner.read_kept(key, offset, size)

    def on_disk(self, key: str, offset: int, size: int) -> OnDisk | None:
        """Returns None: what reads such a place makes no request here."""
        return None

    def hint_readahead(self, key: str, offset: int, size: int) -> None:
        """Passes a readahead hint on; it returns at once, so it is no request."""
        self.inner.hint_readahead(key, offset, size)

    def drop_copy(self, key: str, offset: int, size: int) -> bool:
        """Passes it on; it is no request."""
        return self.inner.drop_copy(key, offset, size)

    def size(self, key: str) -> int:
        """Returns an object's bytes."""
        return self.request("size", key, lambda: self.inner.size(key))

    def put(self, key: str, data: Buffer) -> None:
        """Stores an object; replaces."""
        self.request("put", key, lambda: self.inner.put(key, data), len(data))

    def put_if_absent(self, key: str, data: Buffer) -> Token:
        """Stores an object where the key has none, else raises KeyExists."""
        return self.request("put_if_absent", key, lambda: self.inner.put_if_absent(key, data), len(data))

    def compare_and_swap(self, key: str, data: Buffer, expected: Token) -> Token:
        """Replaces an object if `expected` still names its contents; returns the new token."""
        return self.request(
            "compare_and_swap", key, lambda: self.inner.compare_and_swap(key, data, expected), len(data)
        )

    def start(self) -> Upload:
        """Begins an object that is written in pieces; its commit is the request."""
        return _Upload(self, self.inner.start())

    def delete(self, key: str) -> None:
        """Removes an object."""
        self.request("delete", key, lambda: self.inner.delete(key))

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yields (key, bytes) sorted by key; the whole listing is one request."""
        yield from self.request("list", prefix, lambda: [*self.inner.list(prefix)])

    def sync_name(self, key: str) -> None:
        """Passes it on; it is no request."""
        self.inner.sync_name(key)

    def clear_unfinished(self) -> int:
        """Removes the unfinished uploads of dead processes; no request, since it is done once, at opening."""
        return self.inner.clear_unfinished()

    def close_removed(self) -> None:
        """Passes it on; it is no request."""
        self.inner.close_removed()

    def close(self) -> None:
        """Closes the wrapped backend."""
        self.inner.close()


class _Upload:
    """An Upload whose commit is a request of a wrapper."""

    def __init__(self, wrapper: Wrapper, inner: Upload) -> None:
        self._wrapper = wrapper
        self._inner = inner

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._inner.size

    def write(self, *pieces: Buffer) -> None:
        """Appends the pieces."""
        self._inner.write(*pieces)

    def read(self, offset: int, size: int) -> bytes:
        """Returns bytes that were written before; fewer only at the end."""
        return self._inner.read(offset, size)

    def commit(self, key: str) -> None:
        """Makes the object durable and visible under `key`."""
        self._wrapper.request("commit", key, lambda: self._inner.commit(key), self._inner.size)

    def abort(self) -> None:
        """Drops the object."""
        self._inner.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long a request is repeated: exponential backoff with full jitter, bounded in both."""

    attempts: int = 6
    first_delay_s: float = 0.1
    delay_max_s: float = 5.0
    deadline_s: float = 60.0
    """No new attempt begins later than this after the first one."""


class RetryBackend(Wrapper):
    """Repeats idempotent requests after TRANSIENT errors; passes the last error on.

    A conditional write is never repeated: its error reaches the caller, who reads the object and decides.
    """

    def __init__(
        self,
        inner: ObjectBackend,
        policy: RetryPolicy | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: random.Random | None = None,
    ) -> None:
        super().__init__(inner)
        self._policy = policy or RetryPolicy()
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter or random.Random()

    def request(self, name: Request, key: str, call: Callable[[], T], sent: int = 0) -> T:
        """Makes a request until it succeeds, fails for good, or the policy's bounds are reached."""
        attempts = 1 if name in CONDITIONAL else self._policy.attempts
        started = self._clock()
        for attempt in range(1, attempts):
            try:
                return call()
            except TRANSIENT:
                ceiling = min(self._policy.delay_max_s, self._policy.first_delay_s * 2 ** (attempt - 1))
                delay = self._jitter.uniform(0, ceiling)
                if self._clock() + delay - started > self._policy.deadline_s:
                    raise
            self._sleep(delay)
        return call()

    def delete(self, key: str) -> None:
        """Removes an object; a repeated attempt that finds nothing has succeeded before."""
        tried = False

        def delete() -> None:
            nonlocal tried
            try:
                self.inner.delete(key)
            except MissingKey:
                if not tried:
                    raise
            except TRANSIENT:
                tried = True
                raise

        self.request("delete", key, delete)


@dataclass
class RequestCounts:
    """Requests by name, and the bytes that they carried."""

    requests: Counter[str] = field(default_factory=Counter)
    bytes_read: int = 0
    bytes_written: int = 0


class CountingBackend(Wrapper):
    """Counts requests and bytes, failed requests too."""

    def __init__(self, inner: ObjectBackend) -> None:
        super().__init__(inner)
        self.counts = RequestCounts()
        self._lock = threading.Lock()

    def request(self, name: Request, key: str, call: Callable[[], T], sent: int = 0) -> T:
        """Makes a request and counts it."""
        with self._lock:
            self.counts.requests[name] += 1
            self.counts.bytes_written += sent
        result = call()
        received = _bytes_received(name, result)
        if received:
            with self._lock:
                self.counts.bytes_read += received
        return result


def _bytes_received(name: Request, result: object) -> int:
    if isinstance(result, bytes):
        return len(result)
    if isinstance(result, Versioned):
        return len(result.data)
    return result if name == "read_into" and isinstance(result, int) else 0


class LatencyBackend(Wrapper):
    """Adds the round trip of a network to every request; readahead hints and writes into an upload cost nothing."""

    def __init__(
        self, inner: ObjectBackend, round_trip_s: float, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        super().__init__(inner)
        self.round_trip_s = round_trip_s
        self._sleep = sleep

    @property
    def is_local(self) -> bool:
        """False: it stands for a network."""
        return False

    def request(self, name: Request, key: str, call: Callable[[], T], sent: int = 0) -> T:
        """Waits for a round trip, then makes the request."""
        self._sleep(self.round_trip_s)
        return call()


@dataclass(frozen=True)
class Fault:
    """A failure of one request. `is_done`: the request took effect and only its answer was lost."""

    error: OSError
    is_done: bool = False


class FaultBackend(Wrapper):
    """Fails requests on demand: `fault` is asked before each one, and returns what goes wrong, or None."""

    def __init__(self, inner: ObjectBackend, fault: Callable[[Request, str], Fault | None]) -> None:
        super().__init__(inner)
        self._fault = fault

    def request(self, name: Request, key: str, call: Callable[[], T], sent: int = 0) -> T:
        """Makes a request, or fails before or after it."""
        fault = self._fault(name, key)
        if fault is None:
            return call()
        if fault.is_done:
            call()
        raise fault.error
