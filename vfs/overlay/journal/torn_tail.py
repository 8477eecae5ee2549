"""How much of a journal's file counts: what a crash has torn, and what is damaged.

Both look the same where they begin: a record that is not whole. What comes behind tells them apart. A power cut takes
of what was never said to be durable, and where it takes bytes there are zeros, as a journal's file only grows. So it
is damage if a whole record further on says that the place was durable, or follows it and there are no such zeros.
"""

from __future__ import annotations

import os
from collections import deque
from typing import NamedTuple

from vfs.backend.rooted_path import RootedPath
from vfs.errors import Corrupt
from vfs.overlay.journal.framing import (
    Found,
    Heading,
    ends_synced,
    find_record,
    is_data_whole,
    is_one_bit_off,
    meta_end,
    scan,
)
from vfs.overlay.journal.records import RecordType

RECOVER_HINT = "`vfs recover` takes all that is whole, and keeps the damaged files beside the others."
"""What to do where uncommitted changes are damaged."""

_UNSURE_MAX = 10_000
_SECTOR_BYTES = 512
"""What a disk writes whole or not at all."""


class Gap(NamedTuple):
    """A stretch [start, end) without a whole record, which was to hold `lost` of them; at `end` there is one."""

    start: int
    end: int
    lost: int


class Extent(NamedTuple):
    """What counts of a journal's file.

    `end`, `seq`: behind the last record that counts, and the next one's number. `durable`: up to here something says
    that all was durable once. `gaps`: damage between records that count. `behind`: how many whole records come behind
    the end. `is_closed`: it ends with a record that says that all is durable; what is before is not looked at then,
    unless that was asked for.
    """

    end: int
    seq: int
    durable: int
    gaps: tuple[Gap, ...] = ()
    behind: int = 0
    is_closed: bool = False


class _At(NamedTuple):
    """Where a journal could be cut: behind a record, or group of records, with the next one's number."""

    end: int
    seq: int


def extent_of(fd: int, heading: Heading, start: int, size: int, *, is_thorough: bool = False) -> Extent:
    """Returns what counts of a journal; `is_thorough`: also looks for gaps where it was closed in order.

    Data is read behind the last position that a record calls durable alone.
    """
    last = ends_synced(fd, heading, start, size)
    # Without salt the last record may be one of another journal, at the end of the data of a record.
    if last is not None and heading.is_salted and not is_thorough:
        return Extent(size, last.seq, size, is_closed=True)
    return _Examination(fd, heading, start, size).run()


class _Examination:
    """One look at all records of a journal."""

    def __init__(self, fd: int, heading: Heading, start: int, size: int) -> None:
        self._fd = fd
        self._heading = heading
        self._start = start
        self._size = size
        self._at = _At(start, heading.first_seq)
        self._seq = heading.first_seq
        self._durable = start
        self._records = 0
        self._last: Found | None = None
        # Each with where to cut if it turns out to be torn, and how many records are before it.
        self._gaps: list[tuple[_At, int, Gap]] = []
        self._unsure: deque[tuple[_At, int, Found]] = deque()

    def run(self) -> Extent:
        position = self._start
        while True:
            for found in scan(self._fd, self._heading, position, self._size, expected=self._seq):
                self._take(found)
                position = found.end
            following = find_record(self._fd, self._heading, position, self._size, self._seq)
            if following is None:
                break
            gap = Gap(position, following.start, following.seq - self._seq)
            self._gaps.append((self._at, self._records, gap))
            self._seq = following.seq
            position = gap.end
        is_closed = self._last is not None and self._last.type == RecordType.SYNCED and self._last.end == self._size
        if is_closed:
            self._durable = self._size
        return self._decide(is_closed=is_closed)

    def _take(self, found: Found) -> None:
        if found.durable > self._durable:
            self._durable = found.durable
            while self._unsure and self._unsure[0][2].end <= self._durable:
                self._unsure.popleft()
        if found.data_bytes:
            self._unsure.append((self._at, self._records, found))
            if len(self._unsure) > _UNSURE_MAX and is_data_whole(self._fd, self._unsure[0][2]):
                self._unsure.popleft()
        self._seq += found.type != RecordType.SYNCED
        self._records += 1
        self._last = found
        if not found.continues:
            self._at = _At(found.end, self._seq)

    def _decide(self, *, is_closed: bool) -> Extent:
        torn: list[tuple[_At, int]] = []
        for at, before, gap in self._gaps:
            head_end = min(gap.end, meta_end(self._fd, gap.start))
            if (
                gap.start >= self._durable
                and self._has_lost_sectors(gap.start, head_end)
                and not is_one_bit_off(self._fd, self._heading, gap.start)
            ):
                torn.append((at, before))
                break
        for at, before, found in self._unsure:
            if found.end <= self._durable or is_data_whole(self._fd, found):
                continue
            if found is self._last or self._has_lost_sectors(found.data_position, found.end):
                torn.append((at, before))
                break
        end, before = min(torn, default=(self._at, self._records))
        gaps = tuple(gap for _, _, gap in self._gaps if gap.start < end.end)
        return Extent(end.end, end.seq, self._durable, gaps, self._records - before, is_closed)

    def _has_lost_sectors(self, start: int, end: int) -> bool:
        """Whether a stretch looks as if a power cut had taken of it: it ends with zeros, or has a sector of zeros."""
        position = start
        while position < end:
            stop = min(end, (position // _SECTOR_BYTES + 1) * _SECTOR_BYTES)
            if not any(os.pread(self._fd, stop - position, position)):
                return True
            position = stop
        return os.pread(self._fd, 1, end - 1) == b"\0"


def damaged(path: RootedPath, extent: Extent) -> Corrupt:
    """Returns the error for a journal that is not what it was said to be."""
    first = extent.gaps[0] if extent.gaps else Gap(extent.end, extent.end, 0)
    lost = sum(gap.lost for gap in extent.gaps)
    return Corrupt(
        f"{path} is damaged at byte {first.start}"
        + (f": {lost:,} record{'s' if lost != 1 else ''} of uncommitted changes cannot be read" if lost else ""),
        hint=RECOVER_HINT,
    )
