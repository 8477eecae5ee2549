"""How many inodes of a kind the kernel knows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

NAMES_MAX = 100_000
"""How many names of working layers a mount keeps for the kernel, unless told otherwise; each takes 700 bytes."""


class NameCount(Protocol):
    """A count, with a call of `on_crossing` when an addition passes `limit` or a removal reaches `floor`."""

    limit: int
    floor: int
    on_crossing: Callable[[], object]

    @property
    def count(self) -> int:
        """How many the kernel knows."""
        ...

    @property
    def dropped(self) -> int:
        """How many were ever dropped."""
        ...


class KnownNames:
    """A NameCount that is told of each. `added`: ever."""

    __slots__ = ("added", "count", "floor", "limit", "on_crossing")

    def __init__(self) -> None:
        self.added = 0
        self.count = 0
        self.limit = sys.maxsize
        self.floor = -1
        self.on_crossing: Callable[[], object] = lambda: None

    def add(self) -> None:
        """Counts an inode that the kernel did not know before."""
        self.added += 1
        self.count += 1
        if self.count > self.limit:
            self.on_crossing()

    def drop(self) -> None:
        """Counts an inode that the kernel has forgotten."""
        self.count -= 1
        if self.count == self.floor:
            self.on_crossing()

    @property
    def dropped(self) -> int:
        """How many were ever dropped."""
        return self.added - self.count
