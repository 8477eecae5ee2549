"""How many inodes of a kind the kernel knows."""

from __future__ import annotations

import sys
from collections.abc import Callable

NAMES_MAX = 100_000
"""How many names of working layers a mount keeps for the kernel, unless told otherwise; each takes 700 bytes."""


class KnownNames:
    """A count, with a call when an addition passes `limit`. `added`: how many were ever added."""

    __slots__ = ("added", "count", "limit", "on_more")

    def __init__(self) -> None:
        self.added = 0
        self.count = 0
        self.limit = sys.maxsize
        self.on_more: Callable[[], object] = lambda: None

    def add(self) -> None:
        """Counts an inode that the kernel did not know before."""
        self.added += 1
        self.count += 1
        if self.count > self.limit:
            self.on_more()

    def drop(self) -> None:
        """Counts an inode that the kernel has forgotten."""
        self.count -= 1

    @property
    def dropped(self) -> int:
        """How many were ever dropped."""
        return self.added - self.count
