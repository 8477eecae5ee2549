"""The stat cache: which content a file had when it was last read, so that unchanged files are not read again.

A file's row is found by (device, inode) and counts only while size and both times are the same. It is
written only where it cannot be wrong later (`is_settled`), and only after the content it names is durable. The tables
can be deleted at any time: the next import then reads everything. Rule and reasons: decision 20.

Of size and times, and of the id of a tiny file, a hash of 64 bits is kept, under a random key of the cache: what could
be confused with a file cannot be made without reading the cache.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Self

from vfs.errors import Corrupt
from vfs.model.ids import digest64
from vfs.model.objects import Content, Entry, Form, Kind, kept_time
from vfs.repo.file_metadata import Xattrs
from vfs.repo.ingest.stat_cache_blocks import (
    BLOCK_INODES,
    EMPTY_BLOCK,
    Known,
    KnownBlock,
    decode_block,
    number_of,
)
from vfs.store.lmdb_tables import Tables, discard
from vfs.store.memory_cache import ByteCache
from vfs.store.packs.compression import Compression

_TABLE = "rows"
_OLD_TABLES = ("files", "blocks")
"""The tables of earlier programs, which kept size, times and id of each file; they are discarded."""
_SECRET = b"secret"
"""The key of the cache's own hashes; those of blocks have another length."""
_SECRET_BYTES = 32
_KEY = struct.Struct(">QQ")
_STATE = struct.Struct("<QQQ")
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
    """A regular file, in the state in which it was read, and what was read."""

    device: int
    inode: int
    state: bytes
    form: Form
    id: bytes
    hole_bytes: int
    xattrs: Xattrs


class StatCache:
    """The memory of all imports into one repository; for one thread."""

    def __init__(self, directory: Path) -> None:
        self._tables = _open(directory)
        self._compression = Compression()
        self._blocks: ByteCache[KnownBlock] = ByteCache(_BLOCKS_BYTES_MAX)
        self._last_key, self._last = b"", EMPTY_BLOCK
        self._secret = self._find_secret()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tables.close()

    def find(self, status: os.stat_result, base: Entry | None = None) -> Known | None:
        """Returns the row of a file in this state; None for a file that must be read.

        A tiny file is known only if it has the content of `base`, which the previous version has in its place.
        """
        key, place = _place(status.st_dev, status.st_ino)
        if key != self._last_key:
            # Neighbours in a directory mostly are neighbours in a block.
            self._last_key, self._last = key, self._block(key)
        known = self._last.find(place)
        if known is None:
            return None
        tiny_id = b""
        if known.form == Form.TINY:
            if base is None or base.kind != Kind.FILE or base.form != Form.TINY:
                return None
            tiny_id = base.content
        return known if known.tag == self._tag(_state(status), tiny_id) else None

    def _tag(self, state: bytes, tiny_id: bytes) -> int:
        return digest64(self._secret + state + tiny_id)

    def _find_secret(self) -> bytes:
        try:
            found = self._tables.get(_TABLE, _SECRET)
        except Corrupt:
            # Rows under another key are never found, and are replaced when their files are read.
            found = None
        if found is None:
            with self._tables.write() as batch:
                batch.put(_TABLE, _SECRET, found := os.urandom(_SECRET_BYTES))
        return found

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
        placed = sorted(((*_place(row.device, row.inode), self._known(row)) for row in rows), key=lambda row: row[:2])
        with self._tables.write() as batch:
            for key, members in groupby(placed, key=lambda row: row[0]):
                block = self._load(key).with_rows({place: known for _, place, known in members})
                batch.put(_TABLE, key, block.encode(self._compression))
        self._blocks.clear()
        self._last_key, self._last = b"", EMPTY_BLOCK

    def _known(self, row: Row) -> Known:
        tiny_id, kept_id = (row.id, b"") if row.form == Form.TINY else (b"", row.id)
        return Known(self._tag(row.state, tiny_id), row.form, kept_id, row.hole_bytes, row.xattrs)


def row_of(status: os.stat_result, content: Content, xattrs: Xattrs) -> Row:
    """Returns the row of a file that had one state before and after it was read."""
    return Row(status.st_dev, status.st_ino, _state(status), content.form, content.id, content.hole_bytes, xattrs)


def _state(status: os.stat_result) -> bytes:
    times = (kept_time(status.st_mtime_ns), status.st_ctime_ns)
    return _STATE.pack(status.st_size, *map(number_of, times))


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
    names = [_TABLE, *_OLD_TABLES]
    try:
        tables = Tables(directory, names)
    except Corrupt:
        discard(directory)
        return Tables(directory, names)
    if any(map(tables.count, _OLD_TABLES)):
        tables.close()
        discard(directory)
        return Tables(directory, names)
    return tables
