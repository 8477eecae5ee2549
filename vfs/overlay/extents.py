"""Extents: which stretch of a file is where in which journal.

A flat array with four numbers for each extent: 32 bytes each, and the usual write (after the last one, or into an empty
file) appends.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterator
from typing import NamedTuple

GAP = -1
"""The segment number of a gap: a stretch that no extent covers."""

_FIELDS = 4
_NONE = array("q")
"""The array of files without extents; never changed."""
_END = 1
_SEGMENT = 2
_POSITION = 3


class Stretch(NamedTuple):
    """A stretch [start, end) of a file: bytes at `position` of a segment's journal, or a gap (segment GAP)."""

    start: int
    end: int
    segment: int
    position: int


class Extents:
    """The extents of one file, sorted and disjoint; a later `put` covers earlier ones."""

    __slots__ = ("_flat", "size")

    def __init__(self) -> None:
        self._flat = _NONE
        self.size = 0
        """Bytes covered."""

    def __len__(self) -> int:
        return len(self._flat) // _FIELDS

    @property
    def is_one_run(self) -> bool:
        """True if they cover one stretch of the file without a gap."""
        flat = self._flat
        return len(flat) > 0 and flat[-_FIELDS + _END] - flat[0] == self.size

    def __iter__(self) -> Iterator[Stretch]:
        flat = self._flat
        for at in range(0, len(flat), _FIELDS):
            yield Stretch(flat[at], flat[at + _END], flat[at + _SEGMENT], flat[at + _POSITION])

    def _first_ending_after(self, offset: int) -> int:
        """Returns the number of the first extent that ends after an offset."""
        flat = self._flat
        low, high = 0, len(flat) // _FIELDS
        while low < high:
            middle = (low + high) // 2
            if flat[middle * _FIELDS + _END] <= offset:
                low = middle + 1
            else:
                high = middle
        return low

    def put(self, start: int, end: int, segment: int, position: int) -> None:
        """Covers [start, end), which is not empty, by bytes of a segment."""
        flat = self._flat
        if not flat:
            # Most files never have more than one extent: an array of just that size.
            self._flat = array("q", (start, end, segment, position))
            self.size = end - start
            return
        if flat[-_FIELDS + _END] <= start:
            flat.extend((start, end, segment, position))
            self.size += end - start
            return
        fresh = array("q", (start, end, segment, position))
        self._replace(start, end, fresh)
        self.size += end - start

    def _replace(self, start: int, end: int, fresh: array[int]) -> None:
        """Replaces what overlaps [start, end) by `fresh`; the parts outside stay."""
        flat = self._flat
        first = self._first_ending_after(start)
        last = first
        count = len(flat) // _FIELDS
        before, after = array("q"), array("q")
        while last < count and flat[last * _FIELDS] < end:
            at = last * _FIELDS
            old_start, old_end, segment, position = flat[at : at + _FIELDS]
            if old_start < start:
                before.extend((old_start, start, segment, position))
            if old_end > end:
                after.extend((end, old_end, segment, position + end - old_start))
            self.size -= min(old_end, end) - max(old_start, start)
            last += 1
        flat[first * _FIELDS : last * _FIELDS] = before + fresh + after

    def cut(self, size: int) -> None:
        """Drops everything from an offset on."""
        flat = self._flat
        if flat and flat[-_FIELDS + _END] > size:
            self._replace(size, flat[-_FIELDS + _END], array("q"))

    def stretches(self, start: int, end: int) -> Iterator[Stretch]:
        """Yields what covers [start, end), gaps included, in order and clipped to it.

        Neighbours that also lie behind one another in a segment's journal are two stretches.
        """
        flat = self._flat
        at = self._first_ending_after(start) * _FIELDS
        while start < end:
            if at >= len(flat) or flat[at] >= end:
                yield Stretch(start, end, GAP, 0)
                return
            begin = flat[at]
            if begin > start:
                yield Stretch(start, begin, GAP, 0)
                start = begin
            stop = min(end, flat[at + _END])
            yield Stretch(start, stop, flat[at + _SEGMENT], flat[at + _POSITION] + start - begin)
            start = stop
            at += _FIELDS

    def segments(self) -> set[int]:
        """Returns the segments that are referred to."""
        return set(self._flat[_SEGMENT::_FIELDS])

    def moved(self, gone: Container[int], fresh: Extents) -> Extents:
        """Returns a copy in which `fresh` replaces all that is in the segments `gone`."""
        moved = Extents()
        for stretch in self:
            kept = fresh.stretches(stretch.start, stretch.end) if stretch.segment in gone else (stretch,)
            for start, end, segment, position in kept:
                moved.put(start, end, segment, position)
        return moved

    def copy(self) -> Extents:
        """Returns a copy."""
        other = Extents()
        other._flat = self._flat[:]
        other.size = self.size
        return other
