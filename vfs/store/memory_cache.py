"""ByteCache: values bounded by the bytes that they hold alive, with eviction of the least recently used."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, TypeVar

V = TypeVar("V")


class _Group(Generic[V]):
    """Values that are cached and evicted together, because they share memory."""

    __slots__ = ("cost", "items")

    def __init__(self, items: Sequence[tuple[bytes, V]], cost: int) -> None:
        self.items = items
        self.cost = cost


class ByteCache(Generic[V]):
    """A map from ids to values that evicts the least recently used; thread-safe, and never locked while loading.

    Values enter in groups: slices of one buffer are worth nothing to memory until the last of them is gone, so a
    group is counted whole and dropped whole. A value is shared between readers and must not change.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_held = 0
        self.hits = 0
        self.misses = 0
        self._values: dict[bytes, tuple[V, _Group[V]]] = {}
        self._groups: OrderedDict[_Group[V], None] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> V | None:
        """Returns a value and marks it as used."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                self.misses += 1
                return None
            self.hits += 1
            self._groups.move_to_end(found[1])
            return found[0]

    def holds(self, key: bytes) -> bool:
        """Returns True if a value is there, without marking it as used."""
        return key in self._values

    def put(self, items: Sequence[tuple[bytes, V]], cost: int) -> None:
        """Caches values of `cost` bytes together; not if they are larger than the whole cache."""
        if cost > self.bytes_max:
            return
        group = _Group(items, cost)
        with self._lock:
            for key, value in items:
                self._values[key] = (value, group)
            self._groups[group] = None
            self.bytes_held += cost
            while self.bytes_held > self.bytes_max:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        group, _ = self._groups.popitem(last=False)
        self.bytes_held -= group.cost
        for key, _value in group.items:
            found = self._values.get(key)
            # A later group may have added the same key.
            if found is not None and found[1] is group:
                del self._values[key]

    def clear(self) -> None:
        """Evicts everything."""
        with self._lock:
            self._values.clear()
            self._groups.clear()
            self.bytes_held = 0
