"""The numbers of the journal's record types, apart from the records: a look at a layer's files needs no more."""

from __future__ import annotations

from enum import IntEnum


class RecordType(IntEnum):
    """A record's type byte; the number of a retired type is never reused."""

    COPY_UP = 1
    CREATE = 2
    WRITE = 3
    SET_ATTRIBUTES = 4
    LINK = 5
    UNLINK = 6
    RENAME = 7
    SET_XATTR = 8
    GRAFT = 9
    SYNCED = 10
    BASE = 11
    PIN = 12
    INODE = 13
    DATA = 14
    WHITEOUTS = 15
    MOVED = 16
    FREED = 17


TYPES = frozenset(map(int, RecordType))
"""The record types that this program knows."""
