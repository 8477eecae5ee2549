"""Open directories: the position of a listing, and how its entries reach the kernel."""

from __future__ import annotations

import errno
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import pyfuse3

D = TypeVar("D")
T = TypeVar("T")
N = TypeVar("N")

LISTINGS_MAX = 64
SERIAL_SHIFT = 36
"""A directory has fewer than 2**36 entries."""
_SERIAL_MAX = (1 << 63 - SERIAL_SHIFT) - 1

Reply = Callable[[bytes, pyfuse3.EntryAttributes, int], bool]
"""Adds an entry and the position behind it to the kernel's reply; False if the reply is full and has no room for it."""


class _NamesByPosition:
    """Names by position from 1 on. Those that follow one another lie side by side: in a dict they take far more room.

    One that is put again with another name is kept beside them, and so is one that follows no other.
    """

    __slots__ = ("_apart", "_ends", "_joined")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._joined = bytearray()
        self._ends = array("Q")
        self._apart: dict[int, bytes] = {}

    def put(self, position: int, name: bytes) -> None:
        if position == len(self._ends) + 1:
            self._joined += name
            self._ends.append(len(self._joined))
            self._apart.pop(position, None)
        elif self.get(position) != name:
            self._apart[position] = name

    def get(self, position: int) -> bytes | None:
        name = self._apart.get(position)
        if name is None and 0 < position <= len(self._ends):
            start = self._ends[position - 2] if position > 1 else 0
            name = bytes(self._joined[start : self._ends[position - 1]])
        return name

    def last_before(self, position: int) -> int:
        """Returns the last position before another one that has a name, 0 if there is none."""
        apart = max((other for other in self._apart if other < position), default=0)
        return max(apart, min(len(self._ends), position - 1))


@dataclass(slots=True)
class Listing(Generic[D, T]):
    """An open directory. Position n is behind the n-th entry listed; listing can continue from every position.

    `start(after)` yields (name, item) from the first name above `after`. With `lasting`, its names never change, so
    one iterator serves many requests; otherwise each request starts a new one behind the last name.
    `directory` is the directory that is listed. `counts`: a position that this listing did not give is found by
    counting entries from the start; otherwise it is an error.
    Invariant: the order of names never changes, so no entry is skipped or listed twice when others come or go.
    """

    directory: D
    start: Callable[[bytes | None], Iterator[tuple[bytes, T]]]
    lasting: bool
    counts: bool = False
    _given: _NamesByPosition = field(default_factory=_NamesByPosition)
    _entries: Iterator[tuple[bytes, T]] = field(default_factory=lambda: iter(()))
    _is_broken: bool = True
    _position: int = 0
    _refused: tuple[bytes, T] | None = None
    _last: bytes = b""

    def seek(self, position: int) -> None:
        """Makes `fill` continue from a position that was listed, or from the start for 0.

        From 0 the directory is read afresh, as POSIX demands of `rewinddir`.
        """
        if position == self._position and position and self.lasting and not self._is_broken:
            return
        known = position
        if position and self._given.get(position) is None:
            if not self.counts:
                raise OSError(errno.EINVAL, "not a position of this listing")
            known = self._given.last_before(position)
        self._refused = None
        if not position and not self.counts:
            self._given.clear()
        self._is_broken = True
        self._entries = self.start(self._given.get(known) if known else None)
        for _ in zip(range(known, position), self._entries, strict=False):
            pass
        self._position = position
        # What was listed last stands before another position.
        self._last = b""
        self._is_broken = False

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
                        self._keep_position()
                        return
                    hold(child[0])
                    taken = True
                self._accept(name)
                self._refused = next(self._entries, None)
            self._keep_position()
        except Exception:
            # An iterator that raised has ended; the next request must meet the error again, not the end.
            self._keep_position()
            self._is_broken = True
            if not taken:
                raise

    def _accept(self, name: bytes) -> None:
        self._position += 1
        self._last = name
        if not self.counts:
            self._given.put(self._position, name)
        self._refused = None

    def _keep_position(self) -> None:
        """Records the name before the end of a reply, where the next request starts."""
        if self._position and self._last:
            self._given.put(self._position, self._last)


class UnopenedListings(Generic[D, T]):
    """Listings of directories that the kernel reads by inode, without a handle, from any position at any time.

    A position is a listing's serial number and a position in that listing. A directory whose names never change has
    the serial number 0: all readers share its listing. `LISTINGS_MAX` listings are kept; a position of another one is
    found by counting entries.
    """

    def __init__(self) -> None:
        self._listings: OrderedDict[tuple[int, int], Listing[D, T]] = OrderedDict()
        self._last = 0

    def at(
        self, ino: int, position: int, start: Callable[[int], tuple[Listing[D, T], bool]]
    ) -> tuple[Listing[D, T], int, int]:
        """Returns the listing that a position of an inode belongs to, the position there, and what to add to others.

        `start` makes a listing of an inode, and tells whether its names never change.
        """
        serial = position >> SERIAL_SHIFT
        listing = self._listings.get((ino, serial)) if position else self._listings.get((ino, 0))
        if listing is None:
            listing, never_changes = start(ino)
            listing.counts = True
            if not position and not never_changes:
                self._last = serial = self._last % _SERIAL_MAX + 1
            self._listings[ino, serial] = listing
            if len(self._listings) > LISTINGS_MAX:
                self._listings.popitem(last=False)
        self._listings.move_to_end((ino, serial))
        return listing, position & (1 << SERIAL_SHIFT) - 1, serial << SERIAL_SHIFT
