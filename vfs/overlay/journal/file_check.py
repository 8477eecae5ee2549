"""Checks a journal file, also while a daemon appends to it."""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left
from collections.abc import Iterator
from typing import cast

from vfs.backend.rooted_path import RootedPath
from vfs.errors import Corrupt, Unsupported
from vfs.overlay.journal.fallocate import BLOCK_BYTES
from vfs.overlay.journal.framing import StoredRecord, is_data_whole, read_heading, scan
from vfs.overlay.journal.journal_records import Freed, decode_stored
from vfs.overlay.journal.record_types import RecordType
from vfs.overlay.journal.torn_tail import damaged, extent_of


def check_file(path: RootedPath) -> str:
    """Returns a message about damage in a journal, empty if there is none; changes nothing.

    An incomplete record at the end that was never durable is no damage: a crash leaves that.
    """
    fd = path.open(os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        try:
            heading, start = read_heading(fd, path, size)
        except (Corrupt, Unsupported) as error:
            return str(error)
        extent = extent_of(fd, heading, start, size, is_thorough=True)
        if extent.gaps or (heading.is_checkpoint and not extent.is_closed):
            return damaged(path, extent).message
        freed = _FreedStretches(path, heading.generation)
        for found in scan(fd, heading, start, extent.end):
            if not is_data_whole(fd, found) and not (_is_punched(fd, found) and freed.meet(found)):
                return f"{path} is damaged at byte {found.data_position}"
            try:
                decode_stored(found)
            except (Corrupt, Unsupported) as error:
                return f"{path} at byte {found.start}: {error.message}"
        return ""
    finally:
        os.close(fd)


def _is_punched(fd: int, found: StoredRecord) -> bool:
    """Returns True if the whole blocks of a record's data are empty, and there are any."""
    start, end = found.blocks
    return start < end and not any(os.pread(fd, BLOCK_BYTES, at).strip(b"\0") for at in range(start, end, BLOCK_BYTES))


class _FreedStretches:
    """What Freed records of a layer's journals say of one generation's journal; read only where it is asked for."""

    def __init__(self, path: RootedPath, generation: int) -> None:
        self._path = path
        self._generation = generation
        self._starts: list[int] = []
        self._ends: list[int] = []

    def meet(self, found: StoredRecord) -> bool:
        """Returns True if a part of the record's data is freed, also when a daemon has freed it just now."""
        if not self._meet(found):
            self._read()
        return self._meet(found)

    def _meet(self, found: StoredRecord) -> bool:
        at = bisect_left(self._starts, found.end) - 1
        return at >= 0 and self._ends[at] > found.data_position

    def _read(self) -> None:
        self._starts, self._ends = [], []
        records = (record for path in self._path.parent.glob("journal-*[0-9]") for record in _freed_in(path))
        for start, end in sorted(
            stretch for record in records if record.generation == self._generation for stretch in record.ranges
        ):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(end, self._ends[-1])
            else:
                self._starts.append(start)
                self._ends.append(end)


def _freed_in(path: RootedPath) -> Iterator[Freed]:
    try:
        fd = path.open(os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(fd).st_size
        with contextlib.suppress(Corrupt, Unsupported):
            heading, start = read_heading(fd, path, size)
            for found in scan(fd, heading, start, size):
                if found.type == RecordType.FREED:
                    yield cast("Freed", decode_stored(found))
    finally:
        os.close(fd)
