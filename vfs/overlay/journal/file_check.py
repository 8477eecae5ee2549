"""Checks a journal file, also while a daemon appends to it."""

from __future__ import annotations

import contextlib
import os
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
        for found in scan(fd, heading, start, extent.end):
            if not is_data_whole(fd, found) and not _is_freed(fd, path, heading.generation, found):
                return f"{path} is damaged at byte {found.data_position}"
            try:
                decode_stored(found)
            except (Corrupt, Unsupported) as error:
                return f"{path} at byte {found.start}: {error.message}"
        return ""
    finally:
        os.close(fd)


def _is_freed(fd: int, path: RootedPath, generation: int, found: StoredRecord) -> bool:
    """Returns True if a record's data was punched out, as a Freed record of the layer's journals records."""
    start, end = found.blocks
    if start >= end or any(any(os.pread(fd, BLOCK_BYTES, at)) for at in range(start, end, BLOCK_BYTES)):
        return False
    return any(
        start < found.end and found.data_position < end
        for beside in path.parent.glob("journal-*[0-9]")
        for record in _freed_in(beside)
        if record.generation == generation
        for start, end in record.ranges
    )


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
