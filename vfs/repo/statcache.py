"""The import's memory: which content a file had when it was last read, so that unchanged files are not read again.

A row is found by (device, inode) and counts only while size and both times are the same. It is written only where it
cannot be wrong later (`is_settled`), and only after the content it names is durable. The tables can be deleted at any
time: the next import then reads everything. Rule and reasons: docs/decisions/0020-import-trusts-settled-times.md.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from vfs.errors import Corrupt
from vfs.model.objects import Content, kept_time
from vfs.repo.attributes import Xattrs
from vfs.store.tables import Tables, discard

_TABLE = "files"
_KEY = struct.Struct(">QQ")
_NS = 1_000_000_000
_TICK_NS = 20_000_000
"""Longer than the kernel's clock tick, which is how exact a fine timestamp is."""
_COARSE_NS = 2 * _NS
"""How exact the times of the coarsest filesystems are."""


class Known(msgspec.Struct, frozen=True, array_like=True):
    """What a row says: the state of the file when it was read, and what was read. Tiny bytes are not kept."""

    size: int
    mtime_ns: int
    ctime_ns: int
    content: Content
    xattrs: Xattrs


class Row(NamedTuple):
    """A row to remember."""

    device: int
    inode: int
    known: Known


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Known)


class StatCache:
    """The rows of all imports into one repository."""

    def __init__(self, directory: Path) -> None:
        try:
            self._tables = Tables(directory, [_TABLE])
        except Corrupt:
            discard(directory)
            self._tables = Tables(directory, [_TABLE])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tables.close()

    def find(self, status: os.stat_result) -> Known | None:
        """Returns what is known of a file in this state; None for a file that must be read."""
        try:
            stored = self._tables.get(_TABLE, _key(status.st_dev, status.st_ino))
            if stored is None:
                return None
            known = _decoder.decode(stored)
        except (Corrupt, msgspec.DecodeError, UnicodeDecodeError):
            # A damaged row is worth as much as none.
            return None
        state = (status.st_size, kept_time(status.st_mtime_ns), status.st_ctime_ns)
        return known if state == (known.size, known.mtime_ns, known.ctime_ns) else None

    def remember(self, rows: Iterable[Row]) -> None:
        """Keeps rows; the contents that they name are durable already."""
        with self._tables.write() as batch:
            for row in sorted(rows, key=lambda row: row[:2]):
                batch.put(_TABLE, _key(row.device, row.inode), _encoder.encode(row.known))


def row_of(status: os.stat_result, content: Content, xattrs: Xattrs) -> Row:
    """Returns what to remember of a file that had one state before and after it was read."""
    kept = msgspec.structs.replace(content, tiny=b"")
    return Row(
        status.st_dev,
        status.st_ino,
        Known(status.st_size, kept_time(status.st_mtime_ns), status.st_ctime_ns, kept, xattrs),
    )


def is_settled(status: os.stat_result, read_started_ns: int) -> bool:
    """Whether a later change would show in the times: both are older than the start of reading by more than a tick.

    A file changed in the tick in which it was read may be changed again in the same tick and keep its times.
    """
    return _settles_at(status.st_mtime_ns) < read_started_ns and _settles_at(status.st_ctime_ns) < read_started_ns


def _settles_at(time_ns: int) -> int:
    # Whole seconds come from a filesystem that keeps no more, or once in a billion from one that does.
    return time_ns + (_COARSE_NS if time_ns % _NS == 0 else _TICK_NS)


def _key(device: int, inode: int) -> bytes:
    return _KEY.pack(device & (2**64 - 1), inode & (2**64 - 1))
