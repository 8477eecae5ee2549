"""How much of a journal's file counts: tells a tail torn by a crash from damage.

Both begin with a record that is not whole; the bytes after it make the difference. A power cut loses only bytes that no
record calls durable, and leaves zeros in their place, as a journal's file only grows. So it is damage if a whole record
further on calls the place durable, or follows it without such zeros in between.
"""

from __future__ import annotations

import os
from collections import deque
from typing import NamedTuple

from vfs.backend.rooted_path import RootedPath
from vfs.errors import Corrupt
from vfs.overlay.journal.framing import (
    Heading,
    StoredRecord,
    ends_synced,
    find_record,
    is_data_whole,
    is_one_bit_off,
    meta_end,
    scan,
)
from vfs.overlay.journal.record_types import RecordType
from vfs.overlay.journal.recovery_hints import RECOVER_HINT

_UNSURE_MAX = 10_000
_SECTOR_BYTES = 512
"""The unit that a disk writes atomically."""


class Gap(NamedTuple):
    """A damaged stretch [start, end) in which `lost` records were; a whole record begins at `end`."""

    start: int
    end: int
    lost: int


class Extent(NamedTuple):
    """The part of a journal's file that counts.

    `end`, `seq`: the position after the last record that counts, and the next one's number. `durable`: up to here a
    record says that everything was durable. `gaps`: damage between records that count. `behind`: how many whole records
    follow `end`. `is_closed`: the file ends with a Synced record; earlier records are checked only with `is_thorough`.
    """

    end: int
    seq: int
    durable: int
    gaps: tuple[Gap, ...] = ()
    behind: int = 0
    is_closed: bool = False


class _At(NamedTuple):
    """Where a journal could be cut: after a record or group of records; `seq` is the next one's number."""

    end: int
    seq: int


def extent_of(fd: int, heading: Heading, start: int, size: int, *, is_thorough: bool = False) -> Extent:
    """Returns how much of a journal counts; `is_thorough`: searches for gaps even if it was closed properly.

    Data is read only after the last position that a record calls durable.
    """
    last = ends_synced(fd, heading, start, size)
    # Without a salt the last record may be another journal's, at the end of a record's data.
    if last is not None and heading.is_salted and not is_thorough:
        return Extent(size, last.seq, size, is_closed=True)
    return _Examination(fd, heading, start, size).run()


class _Examination:
    """One pass over all records of a journal."""

    def __init__(self, fd: int, heading: Heading, start: int, size: int) -> None:
        self._fd = fd
        self._heading = heading
        self._start = start
        self._size = size
        self._at = _At(start, heading.first_seq)
        self._seq = heading.first_seq
        self._durable = start
        self._records = 0
        self._last: StoredRecord | None = None
        # Each with where to cut if it turns out to be torn, and the number of records before it.
        self._gaps: list[tuple[_At, int, Gap]] = []
        self._unsure: deque[tuple[_At, int, StoredRecord]] = deque()

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

    def _take(self, found: StoredRecord) -> None:
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
        """Returns True if a power cut may have torn a stretch: it ends with zeros, or has a sector of zeros."""
        position = start
        while position < end:
            stop = min(end, (position // _SECTOR_BYTES + 1) * _SECTOR_BYTES)
            if not any(os.pread(self._fd, stop - position, position)):
                return True
            position = stop
        return os.pread(self._fd, 1, end - 1) == b"\0"


def damaged(path: RootedPath, extent: Extent) -> Corrupt:
    """Returns the error for a damaged journal."""
    first = extent.gaps[0] if extent.gaps else Gap(extent.end, extent.end, 0)
    lost = sum(gap.lost for gap in extent.gaps)
    return Corrupt(
        f"{path} is damaged at byte {first.start}"
        + (f": {lost:,} record{'s' if lost != 1 else ''} of uncommitted changes cannot be read" if lost else ""),
        hint=RECOVER_HINT,
    )
