"""SegmentCache: parts of a remote's packs on disk, within a bound, shared by all processes that open a repository.

Two files. `data` has a slot of 1 MiB for each segment, and takes disk only for what is in it. `table` has a record for
each slot: which segment it has, which of its pages, and their checksums. A segment may be in one of 16 slots, which its
name chooses, so that nothing is ever searched; among these the clock algorithm evicts. A record counts a page after its
bytes were written, and a page is used if its checksum is right: what a crash, a full disk or a damaged one leaves
is fetched again. Nothing is made durable.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from vfs.backend.protocol import OpenFile
from vfs.backend.rooted_path import RootedPath
from vfs.model.ids import Buffer, check64, digest64

SEGMENT_BYTES = 1024 * 1024
PAGE_BYTES = 16 * 1024
CACHE_BYTES = 10 * 1024**3
"""The bound where the user sets none."""
CACHE_BYTES_MIN = 16 * SEGMENT_BYTES

PAGES = SEGMENT_BYTES // PAGE_BYTES
_WAYS = 16
_CHECK_BYTES = 8
_RECORD = struct.Struct(f"<16sII8x32x{PAGES * _CHECK_BYTES}s")
_MASK = struct.Struct("<Q")
_MASK_AT, _USED_AT = 24, 32
_HEADER = struct.Struct("<8sQ")
_HEADER_BYTES = 4096
_MAGIC = b"VFSSEGM\x01"
_LOCK = struct.Struct("hhqqi4x")
_DATA, _TABLE, _IN_USE = "data", "table", "in-use"
_LOOK_S = 0.005
_PLACES_MAX = 65_536
_FINDS = 16
"""How often a place is found in memory before its record is looked at again, and marked as read from."""
_UNUSED, _KEPT, _READ = range(3)
"""How much a segment is in use: fetched ahead, kept for a reader, read from here. The least used are evicted."""


class Segment(NamedTuple):
    """Which MiB of which pack: `pack` are the 16 bytes of its name."""

    pack: bytes
    number: int


class _Record(NamedTuple):
    """A slot's record. `length`: the segment's bytes, fewer than 1 MiB at the end of a pack. `mask`: its pages."""

    slot: int
    length: int
    mask: int
    checks: bytes
    use: int = _UNUSED


class _Place:
    """What a record said of a segment, for `finds` more uses."""

    __slots__ = ("finds", "length", "mask", "slot")

    def __init__(self, record: _Record) -> None:
        self.slot, self.length, self.mask = record.slot, record.length, record.mask
        self.finds = _FINDS


class SegmentCache:
    """The cache of one directory. Usable from any thread; its methods raise nothing but what `open` raises.

    A disk that fails, or is full, costs speed alone: what cannot be kept is fetched again.
    """

    def __init__(self, table: int, data: int, in_use: int, sets: int) -> None:
        """Use `open`."""
        self._table, self._data, self._in_use = table, data, in_use
        self.data = OpenFile(data)
        """The file that `find` tells the offsets of."""
        # Not before the last thread that fetches is done with them.
        weakref.finalize(self, _close, (table, in_use))
        self._places: dict[Segment, _Place] = {}
        self._sets = sets
        self._locks = [threading.Lock() for _ in range(64)]

    @classmethod
    def open(cls, directory: RootedPath, size: int | None = None) -> Self:
        """Opens the cache in a directory, making it with a bound of `size` bytes; None: the bound that it has.

        Another bound empties it, and is taken only while no other process has it open. Raises OSError.
        """
        with directory.opened(create=True):
            pass
        with contextlib.ExitStack() as stack:
            opened = []
            for name in (_TABLE, _DATA, _IN_USE):
                opened.append((directory / name).open(os.O_RDWR | os.O_CREAT))
                stack.callback(os.close, opened[-1])
            table, data, in_use = opened
            sets = _sets_of(table)
            wanted = _sets_for(size) if size is not None else sets or _sets_for(CACHE_BYTES)
            if sets != wanted:
                try:
                    fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    # Another process has it: its bound holds. One that makes it just now is waited for.
                    fcntl.flock(in_use, fcntl.LOCK_SH)
                    sets = _sets_of(table)
                else:
                    sets = _sets_of(table)
                    if sets != wanted:
                        sets = _made(table, data, wanted)
            fcntl.flock(in_use, fcntl.LOCK_SH)
            if not sets:
                raise OSError(errno.EIO, "the cache of segments was not made", str(directory))
            stack.pop_all()
            return cls(table, data, in_use, sets)

    @property
    def size(self) -> int:
        """The bound, in bytes."""
        return self._sets * _WAYS * SEGMENT_BYTES

    # Reading.

    def read(self, segment: Segment, start: int, end: int) -> list[bytes | None]:
        """Returns the pages that have a segment's bytes from `start` to `end`, None for each that is not here.

        A page behind the end of the pack is empty; the last one is shorter.
        """
        first, last = start // PAGE_BYTES, (end - 1) // PAGE_BYTES
        absent: list[bytes | None] = [None] * (last + 1 - first)
        try:
            record = self._find(segment)
            if record is None:
                return absent
            size = min((last + 1) * PAGE_BYTES, record.length) - first * PAGE_BYTES
            at = record.slot * SEGMENT_BYTES + first * PAGE_BYTES
            data = os.pread(self._data, size, at) if size > 0 else b""
            found = [self._page(record, data, first, number) for number in range(first, last + 1)]
            self._use(record)
            return found
        except OSError:
            return absent

    def find(self, segment: Segment, start: int, end: int) -> int | None:
        """Returns where in `data` a segment's bytes from `start` to `end` lie; None if not all of them are here.

        They are not checked. They are those of another segment if another process has evicted this one: then `read`
        looks at its record.
        """
        first, last = start // PAGE_BYTES, (end - 1) // PAGE_BYTES
        pages = ((1 << (last + 1 - first)) - 1) << first
        place = self._places.get(segment)
        if place is None or place.finds <= 0 or place.mask & pages != pages:
            # Of a table that is not in memory the disk is asked: not at each use.
            try:
                record = self._find(segment)
                if record is None:
                    return None
                self._use(record)
            except OSError:
                return None
            if len(self._places) >= _PLACES_MAX:
                self._places.clear()
            place = self._places[segment] = _Place(record)
        place.finds -= 1
        is_here = place.mask & pages == pages and end <= place.length
        return place.slot * SEGMENT_BYTES + start if is_here else None

    def _use(self, record: _Record) -> None:
        if record.use != _READ:
            os.pwrite(self._table, bytes([_READ]), _record_at(record.slot) + _USED_AT)

    def _page(self, record: _Record, data: bytes, first: int, number: int) -> bytes | None:
        if not record.mask >> number & 1:
            return None
        page = data[(number - first) * PAGE_BYTES : (number - first + 1) * PAGE_BYTES]
        length = max(0, min(PAGE_BYTES, record.length - number * PAGE_BYTES))
        check = record.checks[number * _CHECK_BYTES : (number + 1) * _CHECK_BYTES]
        return page if len(page) == length and check64(page) == check else None

    def missing(self, segment: Segment) -> list[int]:
        """Returns the numbers of the pages of a segment that are not here, as far as its record says."""
        try:
            record = self._find(segment)
        except OSError:
            record = None
        return [number for number in range(PAGES) if record is None or not record.mask >> number & 1]

    # Writing.

    def keep(
        self, segment: Segment, start: int, data: Buffer, *, is_end: bool = False, evicts_used: bool = True
    ) -> None:
        """Keeps bytes of a segment from `start`, where a page begins; its last, partial page only if `is_end`: the
        pack ends with them. Unless `evicts_used`, a segment finds no place where all others are in use."""
        number = start // PAGE_BYTES
        view = memoryview(data)
        with contextlib.suppress(OSError), self._locked(segment):
            record = self._find(segment) or self._evict(segment, evicts_used=evicts_used)
            if record is None:
                return
            length = start + len(view) if is_end else record.length
            mask, checks = record.mask, bytearray(record.checks)
            pages = []
            while number < PAGES:
                page = view[number * PAGE_BYTES - start : (number + 1) * PAGE_BYTES - start]
                if len(page) < PAGE_BYTES and not is_end:
                    break
                pages.append(page)
                mask |= 1 << number
                checks[number * _CHECK_BYTES : (number + 1) * _CHECK_BYTES] = check64(page)
                number += 1
            if view and os.pwrite(self._data, view, record.slot * SEGMENT_BYTES + start) != len(view):
                return
            use = _KEPT if evicts_used else _UNUSED
            self._write(record._replace(length=length, mask=mask, checks=bytes(checks)), segment, use=use)

    def drop(self, segment: Segment, start: int, end: int) -> bool:
        """Forgets the pages that have bytes of a segment; returns True if there were any."""
        try:
            with self._locked(segment):
                record = self._find(segment)
                if record is None:
                    return False
                first, last = start // PAGE_BYTES, (end - 1) // PAGE_BYTES
                gone = ((1 << (last + 1 - first)) - 1) << first
                self._write(record._replace(mask=record.mask & ~gone), segment)
                return bool(record.mask & gone)
        except OSError:
            return False

    # Records.

    def _slots(self, segment: Segment) -> range:
        chosen = digest64(_name(segment)) % self._sets
        return range(chosen * _WAYS, (chosen + 1) * _WAYS)

    def _records(self, slots: range) -> Iterator[tuple[_Record, Segment]]:
        raw = os.pread(self._table, len(slots) * _RECORD.size, _record_at(slots.start))
        for way, slot in enumerate(slots):
            part = raw[way * _RECORD.size : (way + 1) * _RECORD.size]
            if len(part) < _RECORD.size:
                continue
            pack, number, length, checks = _RECORD.unpack(part)
            (mask,) = _MASK.unpack_from(part, _MASK_AT)
            yield _Record(slot, min(length, SEGMENT_BYTES), mask, checks, part[_USED_AT]), Segment(pack, number)

    def _find(self, segment: Segment) -> _Record | None:
        place = self._places.pop(segment, None)
        last = [range(place.slot, place.slot + 1)] if place is not None else []
        for slots in (*last, self._slots(segment)):
            for record, named in self._records(slots):
                if named == segment and record.length:
                    return record
        return None

    def _evict(self, segment: Segment, *, evicts_used: bool) -> _Record | None:
        """Returns an empty record for a segment, in a slot that was not used lately; None where none is to be had."""
        found = list(self._records(self._slots(segment)))
        records, named = [record for record, _ in found], {record.slot: name for record, name in found}
        if not records:
            return None
        least = min(record.use for record in records)
        if least:
            if not evicts_used:
                return None
            # The clock hand has passed every slot: each has to be read again to stay as long.
            records = [record._replace(use=record.use - least) for record in records]
            for record in records:
                os.pwrite(self._table, bytes([record.use]), _record_at(record.slot) + _USED_AT)
        unused = [record for record in records if not record.use]
        empty = [record for record in unused if not record.length]
        # The new segment's name chooses among equals, which spreads evictions over the set.
        victim = empty[0] if empty else unused[digest64(_name(segment)) // self._sets % len(unused)]
        fresh = _Record(victim.slot, SEGMENT_BYTES, 0, bytes(PAGES * _CHECK_BYTES))
        self._places.pop(named[victim.slot], None)
        # Before the bytes: a page of the old segment must not pass for one of the new.
        self._write(fresh, segment, use=_KEPT if evicts_used else _UNUSED)
        return fresh

    def _write(self, record: _Record, segment: Segment, *, use: int = _KEPT) -> None:
        self._places.pop(segment, None)
        raw = bytearray(_RECORD.pack(segment.pack, segment.number, record.length, record.checks))
        _MASK.pack_into(raw, _MASK_AT, record.mask)
        raw[_USED_AT] = use
        os.pwrite(self._table, raw, _record_at(record.slot))

    @contextlib.contextmanager
    def _locked(self, segment: Segment) -> Iterator[None]:
        """Excludes other threads and processes that write into the segment's slots; ends with the process."""
        start = self._slots(segment).start
        with self._locks[start // _WAYS % len(self._locks)]:
            # Of the open file, not of the process: all threads share it, so a thread lock goes before. Locks of
            # threads stand for many sets, those of the file for one.
            at = _record_at(start)
            fcntl.fcntl(self._table, fcntl.F_OFD_SETLKW, _lock(fcntl.F_WRLCK, at))
            try:
                yield
            finally:
                fcntl.fcntl(self._table, fcntl.F_OFD_SETLK, _lock(fcntl.F_UNLCK, at))

    # Fetches that other processes make.

    @contextlib.contextmanager
    def claimed(self, segment: Segment, start: int, *, wait_s: float) -> Iterator[bool]:
        """Claims the fetch of what begins at `start` in a segment against other processes that fetch the same.

        Yields False where another one has it for longer than `wait_s`. The caller looks again before it fetches.
        """
        named = _name(segment) + start.to_bytes(4, "little")
        at = digest64(named) >> 2
        deadline = time.monotonic() + wait_s
        is_ours = self._claim(at)
        while is_ours is False and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
            is_ours = self._claim(at)
        try:
            yield is_ours is not False
        finally:
            if is_ours:
                with contextlib.suppress(OSError):
                    fcntl.fcntl(self._in_use, fcntl.F_OFD_SETLK, _lock(fcntl.F_UNLCK, at))

    def _claim(self, at: int) -> bool | None:
        try:
            fcntl.fcntl(self._in_use, fcntl.F_OFD_SETLK, _lock(fcntl.F_WRLCK, at))
        except BlockingIOError:
            return False
        except OSError:
            # A filesystem without such locks: each process fetches for itself.
            return None
        return True


def _name(segment: Segment) -> bytes:
    return segment.pack + segment.number.to_bytes(4, "little")


def _lock(kind: int, at: int) -> bytes:
    return _LOCK.pack(kind, os.SEEK_SET, at, 1, 0)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _record_at(slot: int) -> int:
    return _HEADER_BYTES + slot * _RECORD.size


def _sets_for(size: int) -> int:
    return max(1, size // (_WAYS * SEGMENT_BYTES))


def _sets_of(table: int) -> int:
    """Returns how many sets a table has, 0 for one that is not whole."""
    raw = os.pread(table, _HEADER.size, 0)
    if len(raw) < _HEADER.size:
        return 0
    magic, sets = _HEADER.unpack(raw)
    is_whole = os.fstat(table).st_size == _record_at(sets * _WAYS) if sets < 1 << 40 else False
    return sets if magic == _MAGIC and is_whole else 0


def _made(table: int, data: int, sets: int) -> int:
    """Makes an empty cache in both files; returns its sets. Raises OSError where the table finds no place."""
    os.ftruncate(table, 0)
    os.ftruncate(data, 0)
    # All of it now: a full disk must not keep a record from being changed.
    os.posix_fallocate(table, 0, _record_at(sets * _WAYS))
    os.pwrite(table, _HEADER.pack(_MAGIC, sets), 0)
    return sets
