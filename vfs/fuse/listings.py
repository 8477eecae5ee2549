"""Open directories: the position of a listing, and how its entries reach the kernel."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import pyfuse3

D = TypeVar("D")
T = TypeVar("T")
N = TypeVar("N")

Reply = Callable[[bytes, pyfuse3.EntryAttributes, int], bool]
"""Adds an entry and the position behind it to the kernel's reply; False if the reply is full and has no room for it."""


@dataclass(slots=True)
class Listing(Generic[D, T]):
    """An open directory. Position n is behind the n-th entry listed; listing can continue from every position.

    `start(after)` yields (name, item) from the first name above `after`. With `lasting`, its names never change, so
    one iterator serves many requests; otherwise each request starts a new one behind the last name.
    `directory` is the directory that is listed.
    Invariant: the order of names never changes, so no entry is skipped or listed twice when others come or go.
    """

    directory: D
    start: Callable[[bytes | None], Iterator[tuple[bytes, T]]]
    lasting: bool
    _given: list[bytes] = field(default_factory=list)
    _entries: Iterator[tuple[bytes, T]] = field(default_factory=lambda: iter(()))
    _is_broken: bool = True
    _position: int = 0
    _refused: tuple[bytes, T] | None = None

    def seek(self, position: int) -> None:
        """Makes `fill` continue from a position that was listed, or from the start for 0.

        From 0 the directory is read afresh, as POSIX demands of `rewinddir`.
        """
        if position > len(self._given):
            raise OSError(errno.EINVAL, "not a position of this listing")
        if position == self._position and position and self.lasting and not self._is_broken:
            return
        self._refused = None
        if not position:
            self._given.clear()
        self._position = position
        self._is_broken = False
        self._entries = self.start(self._given[position - 1] if position else None)

    def fill(
        self,
        reply: Reply,
        resolve: Callable[[bytes, T], tuple[N, pyfuse3.EntryAttributes] | None],
        hold: Callable[[N], None],
    ) -> None:
        """Adds entries from the position on to the kernel's reply, as many as it has room for.

        `resolve` returns an entry's inode and attributes, or None for one that was removed meanwhile. `hold` counts a
        lookup of each inode in the reply, and of no other: an error behind the first entry ends the reply there, and
        the next request, which starts at the entry with the error, reports it.
        """
        taken = False
        try:
            if self._refused is None:
                self._refused = next(self._entries, None)
            while self._refused is not None:
                name, item = self._refused
                child = resolve(name, item)
                if child is not None:
                    if not reply(name, child[1], self._position + 1):
                        return
                    hold(child[0])
                    taken = True
                self._accept(name)
                self._refused = next(self._entries, None)
        except Exception:
            # An iterator that raised has ended; the next request must meet the error again, not the end.
            self._is_broken = True
            if not taken:
                raise

    def _accept(self, name: bytes) -> None:
        if self._position == len(self._given):
            self._given.append(name)
        else:
            self._given[self._position] = name
        self._position += 1
        self._refused = None
