"""PackHash: the hash that names a pack, computed by a thread of its own while the next blocks are made and written."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vfs.model.ids import Buffer, RunningHash

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_THREAD_FROM_BYTES = 1024 * 1024
"""Less is hashed at once: waking a thread costs more."""
_WAITING_BYTES_MAX = 16 * 1024 * 1024


class PackHash:
    """BLAKE3 of bytes that arrive in pieces, which must not change afterwards; for one thread."""

    def __init__(self) -> None:
        self._hash = RunningHash()
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: deque[tuple[Future[None], int]] = deque()
        self._waiting_bytes = 0

    def update(self, pieces: Sequence[Buffer]) -> None:
        """Adds the next pieces; waits while there are too many bytes to hash."""
        size = sum(map(len, pieces))
        if self._thread is None:
            if size < _THREAD_FROM_BYTES:
                self._add(pieces)
                return
            from concurrent.futures import ThreadPoolExecutor  # Most commands write little.

            self._thread = ThreadPoolExecutor(1, thread_name_prefix="hash")
        try:
            hashed = self._thread.submit(self._add, pieces)
        except RuntimeError:
            # The system has no thread left; then there was none before, and nothing waits.
            self._add(pieces)
            return
        self._waiting.append((hashed, size))
        self._waiting_bytes += size
        while self._waiting_bytes > _WAITING_BYTES_MAX or (self._waiting and self._waiting[0][0].done()):
            self._wait_for_one()

    def hex(self) -> str:
        """Returns the hash of everything; the last call."""
        while self._waiting:
            self._wait_for_one()
        self.close()
        return self._hash.hex()

    def close(self) -> None:
        """Ends the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)

    def _wait_for_one(self) -> None:
        done, size = self._waiting.popleft()
        done.result()
        self._waiting_bytes -= size

    def _add(self, pieces: Sequence[Buffer]) -> None:
        for piece in pieces:
            self._hash.update(piece)
