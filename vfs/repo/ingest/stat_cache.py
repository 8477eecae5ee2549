"""The import's memory: which content a file had when it was last read, so that unchanged files are not read again.

A file's row is found by (device, inode) and counts only while size and both times are the same. It is
written only where it cannot be wrong later (`is_settled`), and only after the content it names is durable. The tables
can be deleted at any time: the next import then reads everything. Rule and reasons:
decision 20.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Self

from vfs.errors import Corrupt
from vfs.model.objects import Content, Form, kept_time
from vfs.repo.file_metadata import Xattrs
from vfs.repo.ingest.stat_cache_blocks import (
    BLOCK_INODES,
    EMPTY_BLOCK,
    TINY_ID_BYTES,
    Known,
    KnownBlock,
    decode_block,
    number_of,
)
from vfs.store.cache import ByteCache
from vfs.store.lmdb_tables import Tables, discard
from vfs.store.packs.compression import Compression

_TABLE = "blocks"
_OLD_TABLE = "files"
"""The table of earlier programs, four times as large, a row for each file; it is discarded."""
_KEY = struct.Struct(">QQ")
_BLOCKS_BYTES_MAX = 16 * 1024 * 1024
_NS = 1_000_000_000
_TICK_NS = 20_000_000
"""Longer than the kernel's clock tick, which is how exact a fine timestamp is."""
_COARSE_NS = 2 * _NS
"""How exact the times of the coarsest filesystems are."""
_WRITE_BYTES_MAX = 2**31
"""What one call writes at most."""
_WRITE_BYTES_A_SECOND = 16 * 1024 * 1024
"""How slow a disk may be that holds a writer back."""


class Row(NamedTuple):
    """A row of the stat cache, and the file that it is of."""

    device: int
    inode: int
    known: Known


class StatCache:
    """The memory of all imports into one repository; for one thread."""

    def __init__(self, directory: Path) -> None:
        self._tables = _open(directory)
        self._compression = Compression()
        self._blocks: ByteCache[KnownBlock] = ByteCache(_BLOCKS_BYTES_MAX)
        self._last_key, self._last = b"", EMPTY_BLOCK

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tables.close()

    def find(self, status: os.stat_result) -> Known | None:
        """Returns the row of a file in this state; None for a file that must be read."""
        key, place = _place(status.st_dev, status.st_ino)
        if key != self._last_key:
            # Neighbours in a directory mostly are neighbours in a block.
            self._last_key, self._last = key, self._block(key)
        known = self._last.find(place)
        if known is None or known.size != status.st_size or known.ctime_ns != number_of(status.st_ctime_ns):
            return None
        return known if known.mtime_ns == number_of(kept_time(status.st_mtime_ns)) else None

    def _block(self, key: bytes) -> KnownBlock:
        block = self._blocks.get(key)
        if block is None:
            block = self._load(key)
            self._blocks.put([(key, block)], block.memory_bytes)
        return block

    def _load(self, key: bytes) -> KnownBlock:
        try:
            stored = self._tables.get(_TABLE, key)
            return EMPTY_BLOCK if stored is None else decode_block(stored, self._compression)
        except Corrupt:
            # A damaged block is worth as much as none.
            return EMPTY_BLOCK

    def remember(self, rows: Iterable[Row]) -> None:
        """Stores rows; the contents that they name are durable already."""
        placed = sorted(((*_place(row.device, row.inode), row.known) for row in rows), key=lambda row: row[:2])
        with self._tables.write() as batch:
            for key, members in groupby(placed, key=lambda row: row[0]):
                block = self._load(key).with_rows({place: known for _, place, known in members})
                batch.put(_TABLE, key, block.encode(self._compression))
        self._blocks.clear()
        self._last_key, self._last = b"", EMPTY_BLOCK


def row_of(status: os.stat_result, content: Content, xattrs: Xattrs) -> Row:
    """Returns the row of a file that had one state before and after it was read."""
    known = Known(
        status.st_size,
        number_of(kept_time(status.st_mtime_ns)),
        number_of(status.st_ctime_ns),
        content.form,
        content.id[:TINY_ID_BYTES] if content.form == Form.TINY else content.id,
        content.hole_bytes,
        xattrs,
    )
    return Row(status.st_dev, status.st_ino, known)


def is_settled(status: os.stat_result, read_started_ns: int) -> bool:
    """Returns True if a later change would show in the times: both are older than the start of reading by over a tick.

    A file changed in the tick in which it was read may be changed again in the same tick and keep its times. A `write`
    stamps the file when it begins and not when it ends, so what one call may still be putting into it counts as well.
    """
    return read_started_ns > settled_from_ns(status)


def settled_from_ns(status: os.stat_result) -> int:
    """Returns the time from which on a file is settled, if it is not changed until then."""
    writing_ns = min(status.st_size, _WRITE_BYTES_MAX) * _NS // _WRITE_BYTES_A_SECOND
    return max(_settled_from(status.st_mtime_ns), _settled_from(status.st_ctime_ns)) + writing_ns


def _settled_from(time_ns: int) -> int:
    # Whole seconds come from a filesystem that keeps no more, or once in a billion from one that does.
    return time_ns + (_COARSE_NS if time_ns % _NS == 0 else _TICK_NS)


def _place(device: int, inode: int) -> tuple[bytes, int]:
    """Returns the key of the block that a file is in, and the file's number there."""
    block, place = divmod(number_of(inode), BLOCK_INODES)
    return _KEY.pack(number_of(device), block), place


def _open(directory: Path) -> Tables:
    try:
        tables = Tables(directory, [_TABLE, _OLD_TABLE])
    except Corrupt:
        discard(directory)
        return Tables(directory, [_TABLE, _OLD_TABLE])
    if tables.count(_OLD_TABLE):
        tables.close()
        discard(directory)
        return Tables(directory, [_TABLE, _OLD_TABLE])
    return tables
