"""Open files with a reference count: the descriptor is closed when its last user is done, never earlier.

The kernel reuses the number of a closed descriptor for the next file that is opened: a thread that still reads or
writes by the number would use the wrong file. So users get the number only inside `with`, and `close` is deferred until
the last of them leaves.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading

from vfs.backend.rooted_path import RootedPath


class OpenFile:
    """A descriptor that any thread may use or close: `with file as descriptor: os.pread(descriptor, …)`.

    Owns the descriptor. Raises OSError(ESTALE) if it is used after it was closed.
    """

    __slots__ = ("_descriptor", "_is_large", "_is_retired", "_lock", "_path", "_users")

    def __init__(self, descriptor: int, path: RootedPath) -> None:
        self._descriptor = descriptor
        self._path = path
        self._users = 0
        self._is_retired = False
        self._is_large = False
        self._lock = threading.Lock()

    def __enter__(self) -> int:
        with self._lock:
            if self._descriptor < 0:
                raise OSError(errno.ESTALE, f"{self._path.name} is used after it was closed")
            self._users += 1
            return self._descriptor

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            unused = self._take_unused()
        self._close_unused(unused)

    @property
    def is_used(self) -> bool:
        """True if a thread uses or holds the descriptor."""
        with self._lock:
            return self._users > 0

    def hold(self) -> None:
        """Keeps the descriptor open until `release`. Raises OSError(ESTALE)."""
        self.__enter__()

    def release(self) -> None:
        """Ends one `hold`."""
        self.__exit__()

    def close(self, *, is_large: bool = False) -> None:
        """Closes the descriptor, at once or after its last user; idempotent.

        `is_large`: closing frees so much disk space that a thread of its own does it.
        """
        with self._lock:
            self._is_retired = True
            self._is_large = is_large
            unused = self._take_unused()
        self._close_unused(unused)

    def _take_unused(self) -> int:
        if self._users or not self._is_retired:
            return -1
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def _close_unused(self, descriptor: int) -> None:
        if descriptor < 0:
            return
        if self._is_large:
            # If no thread can be started, the caller closes it.
            with contextlib.suppress(RuntimeError, MemoryError):
                _close_in_thread(descriptor)
                return
        os.close(descriptor)


_closing: set[threading.Thread] = set()
"""Threads that close large files, and some that have done so."""
_closing_lock = threading.Lock()


def _close_in_thread(descriptor: int) -> None:
    thread = threading.Thread(target=os.close, args=(descriptor,))
    with _closing_lock:
        _closing.difference_update([known for known in _closing if not known.is_alive()])
        thread.start()
        _closing.add(thread)


def wait_until_closed() -> None:
    """Returns when all large files are closed that threads had begun to close: then their filesystem is not busy."""
    with _closing_lock:
        threads = list(_closing)
    for thread in threads:
        thread.join()
