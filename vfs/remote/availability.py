"""WatchedBackend: marks a remote that does not respond as unreachable, so that later requests fail at once."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from vfs.backend.protocol import TRANSIENT, ObjectBackend
from vfs.backend.wrappers import Request, Wrapper

T = TypeVar("T")

PAUSE_S = 2.0
"""How long after a failure the remote is asked again."""


class WatchedBackend(Wrapper):
    """Another backend. After a request that it did not answer, requests fail at once (ENETDOWN), but for one every two
    seconds; the first answer ends that. The other one bounds how long a request takes."""

    def __init__(self, inner: ObjectBackend, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(inner)
        self._clock = clock
        self._lock = threading.Lock()
        self._is_away = self._is_asking = False
        self._ask_at = 0.0

    def request(self, name: Request, key: str, call: Callable[[], T], sent: int = 0) -> T:
        """Makes a request; raises ConnectionError with ENETDOWN while the remote is away."""
        with self._lock:
            if self._is_away:
                if self._is_asking or self._clock() < self._ask_at:
                    raise ConnectionError(errno.ENETDOWN, "the remote does not answer", key)
                self._is_asking = True
        try:
            result = call()
        except TRANSIENT:
            with self._lock:
                self._is_away, self._is_asking = True, False
                self._ask_at = self._clock() + PAUSE_S
            raise
        except BaseException:
            self._has_answered()
            raise
        self._has_answered()
        return result

    def _has_answered(self) -> None:
        if self._is_away:
            with self._lock:
                self._is_away = self._is_asking = False
