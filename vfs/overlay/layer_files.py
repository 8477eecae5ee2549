"""The files of a working layer, and what they say without being opened for use."""

from __future__ import annotations

import os
from typing import NamedTuple

import msgspec

from vfs.backend.rooted_path import RootedPath
from vfs.errors import Corrupt, Unsupported
from vfs.overlay.journal.durable_mark import MARK_NAME, read_mark
from vfs.overlay.journal.framing import Heading, StoredRecord, read_heading, scan
from vfs.overlay.journal.record_types import RecordType

BASE_NAME = "base"
LOCK_NAME = "lock"
JOURNALS = "journal-*[0-9]"
"""The pattern of journal names, for `glob`."""
JOURNAL_PREFIX = "journal-"
_READ_BYTES_MAX = 256 * 1024
"""Larger base files are left to an opening."""


def holds_no_change(directory: RootedPath, branch: str, head: bytes, consumed_generation: int) -> bool:
    """Returns True if the files of a working layer say that it was closed with no change since `head`, its commit.

    It costs a twentieth of an opening, writes nothing and needs no lock: what it reads is a state that the layer had.
    False says nothing: whatever is unusual, damaged or newer is for `Overlay.open` to read, repair and report.
    """
    try:
        mark = read_mark(directory, branch)
        if mark is None or mark.generation <= consumed_generation:
            return False
        journal_name = f"{JOURNAL_PREFIX}{mark.generation}"
        if set(directory.names()) != {BASE_NAME, LOCK_NAME, MARK_NAME, journal_name}:
            return False
        journal = _closed(directory / journal_name, branch)
        base = _closed(directory / BASE_NAME, branch)
        return (
            journal is not None
            and base is not None
            and not journal.records
            and not journal.heading.is_checkpoint
            and (mark.generation, mark.salt) == (journal.heading.generation, journal.heading.salt)
            and mark.position <= journal.size
            and _base(base) == (mark.generation, head, b"")
        )
    except (OSError, Corrupt, Unsupported):
        return False


class _Closed(NamedTuple):
    """A journal that was closed: its records without the last one, which says so."""

    heading: Heading
    records: list[StoredRecord]
    size: int


def _closed(path: RootedPath, branch: str) -> _Closed | None:
    fd = path.open(os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        if size > _READ_BYTES_MAX:
            return None
        heading, start = read_heading(fd, path, size)
        records = list(scan(fd, heading, start, size, expected=heading.first_seq))
    finally:
        os.close(fd)
    if heading.branch != branch or not records or records[-1].type != RecordType.SYNCED or records[-1].end != size:
        return None
    return _Closed(heading, records[:-1], size)


def _base(file: _Closed) -> tuple[int, bytes, bytes] | None:
    """Returns the generation, the commit and the commit below of the newest record about the base."""
    bases = [record for record in file.records if record.type == RecordType.BASE]
    if not bases:
        return None
    generation, commit, _, _, *below = msgspec.msgpack.decode(bases[-1].meta)
    return generation, commit, below[0] if below else b""
