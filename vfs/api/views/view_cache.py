"""A cache of a few expensive objects between requests, each with a directory of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class _Slot(Generic[T]):
    """An object that is made once, the directory it has, and how many requests use it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = Lock()
        self.users = 0
        self.value: T | None = None


class Kept(Generic[T]):
    """The most recently used objects, by key; safe for several threads. None is closed while it is in use."""

    def __init__(self, place: Path, count: int, close: Callable[[T], None]) -> None:
        self._place = place
        self._count = count
        self._close = close
        self._lock = Lock()
        self._slots: OrderedDict[object, _Slot[T]] = OrderedDict()

    @contextmanager
    def use(self, key: object, make: Callable[[Path], T]) -> Iterator[T]:
        """Yields the object of a key, made in a new directory where it is not there. Raises what `make` raises."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                slot = self._slots[key] = _Slot(Path(tempfile.mkdtemp(dir=self._place)))
            slot.users += 1
            self._slots.move_to_end(key)
        try:
            with slot.lock:
                if slot.value is None:
                    slot.value = make(slot.directory)
            yield slot.value
        finally:
            with self._lock:
                slot.users -= 1
                if slot.value is None and not slot.users:
                    self._drop(key)
                for other in list(self._slots):
                    if len(self._slots) <= self._count:
                        break
                    if not self._slots[other].users:
                        self._drop(other)

    def close(self) -> None:
        """Closes all of them."""
        with self._lock:
            for key in list(self._slots):
                self._drop(key)

    def _drop(self, key: object) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            if slot.value is not None:
                self._close(slot.value)
            shutil.rmtree(slot.directory, ignore_errors=True)
