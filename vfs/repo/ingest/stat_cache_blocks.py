"""Blocks of the stat cache: rows of files whose inode numbers are neighbours, column by column.

A directory's files mostly have neighbouring inode numbers, near times and ids of one form, so a column of each
compresses well where a row for each file could not. The columns have a fixed width: one file is found without decoding
the others, in whatever order they are asked for. Reasons: decision 20.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from vfs.errors import Corrupt
from vfs.model.ids import ID_BYTES
from vfs.model.objects import Entry, Form, Kind
from vfs.repo.file_metadata import Xattrs
from vfs.store.packs.compression import Compression

BLOCK_INODES = 512
TINY_ID_BYTES = 16
"""Bytes of a tiny file's id that are compared: equal ones come from the previous version, others are read again."""
_HALF = 16
_FORMS = tuple(Form)
_MASK = 2**64 - 1
_PLAIN_BYTES_MAX = 64 * 1024 * 1024


class Known(NamedTuple):
    """The state of a file when it was read, and what was read; `id` is cut short (`TINY_ID_BYTES`) for a tiny file.

    Times are nanoseconds modulo 2**64.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    form: Form
    id: bytes
    hole_bytes: int
    xattrs: Xattrs

    def is_content_of(self, entry: Entry) -> bool:
        """Returns True if an entry has the content that was read."""
        known = entry.content[:TINY_ID_BYTES] if self.form == Form.TINY else entry.content
        return entry.kind == Kind.FILE and entry.form == self.form and known == self.id


class _Columns(msgspec.Struct, frozen=True, array_like=True):
    """A block as it is encoded: columns of equal length, sorted by inode; attributes of those files that have any."""

    inodes: bytes
    sizes: bytes
    mtimes: bytes
    ctimes: bytes
    holes: bytes
    forms: bytes
    heads: bytes
    tails: bytes
    xattrs: dict[int, Xattrs]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Columns)


class KnownBlock:
    """The files of one block, by inode number modulo `BLOCK_INODES`. Immutable."""

    __slots__ = ("_columns", "_inodes", "_numbers")

    def __init__(self, columns: _Columns) -> None:
        """Raises ValueError for columns that do not fit together."""
        self._columns = columns
        self._inodes = array("H", columns.inodes)
        self._numbers = [
            array("Q", column) for column in (columns.sizes, columns.mtimes, columns.ctimes, columns.holes)
        ]
        rows = len(self._inodes)
        halves = (len(columns.heads), len(columns.tails))
        if {*map(len, self._numbers), len(columns.forms)} != {rows} or halves != (rows * _HALF, rows * _HALF):
            raise ValueError("the columns are not equally long")
        if columns.forms.translate(None, bytes(_FORMS)):
            raise ValueError("a file has an unknown form")

    @property
    def memory_bytes(self) -> int:
        """About what the block takes, attributes apart."""
        return 150 * len(self._inodes) + 1000

    def find(self, inode: int) -> Known | None:
        """Returns a file's row."""
        at = bisect_left(self._inodes, inode)
        return self._row(at) if at < len(self._inodes) and self._inodes[at] == inode else None

    def _row(self, at: int) -> Known:
        columns = self._columns
        sizes, mtimes, ctimes, holes = self._numbers
        form, start, end = columns.forms[at], at * _HALF, at * _HALF + _HALF
        found = columns.heads[start:end] if form else b""
        if form > Form.TINY:
            found += columns.tails[start:end]
        xattrs = columns.xattrs.get(at, ()) if columns.xattrs else ()
        return Known(sizes[at], mtimes[at], ctimes[at], _FORMS[form], found, holes[at], xattrs)

    def with_rows(self, rows: Mapping[int, Known]) -> KnownBlock:
        """Returns the block with rows put in, or in place of older ones."""
        merged = {inode: self._row(at) for at, inode in enumerate(self._inodes)}
        merged.update(rows)
        return _from_rows(sorted(merged.items()))

    def encode(self, compression: Compression) -> bytes:
        """Returns the block's bytes: length and codec, then the columns, compressed."""
        plain = _encoder.encode(self._columns)
        codec, stored = compression.compress(plain)
        return len(plain).to_bytes(4, "little") + bytes((codec,)) + stored


EMPTY_BLOCK = KnownBlock(_Columns(b"", b"", b"", b"", b"", b"", b"", b"", {}))


def decode_block(stored: bytes, compression: Compression) -> KnownBlock:
    """Returns an encoded block; raises Corrupt for anything else."""
    plain_bytes = int.from_bytes(stored[:4], "little")
    if len(stored) < 5 or plain_bytes > _PLAIN_BYTES_MAX:
        raise Corrupt("a block of the import's memory is cut short")
    plain = compression.decompress(stored[4], memoryview(stored)[5:], plain_bytes)
    try:
        return KnownBlock(_decoder.decode(plain))
    except (ValueError, msgspec.DecodeError) as error:
        raise Corrupt(f"a block of the import's memory is damaged: {error}") from error


def number_of(value: int) -> int:
    """Returns a time or an inode number as blocks keep it."""
    return value & _MASK


def _from_rows(rows: list[tuple[int, Known]]) -> KnownBlock:
    heads, tails = bytearray(), bytearray()
    for _, known in rows:
        padded = known.id.ljust(ID_BYTES, b"\0")
        heads += padded[:_HALF]
        tails += padded[_HALF:]
    return KnownBlock(
        _Columns(
            array("H", [inode for inode, _ in rows]).tobytes(),
            array("Q", [known.size for _, known in rows]).tobytes(),
            array("Q", [known.mtime_ns for _, known in rows]).tobytes(),
            array("Q", [known.ctime_ns for _, known in rows]).tobytes(),
            array("Q", [known.hole_bytes for _, known in rows]).tobytes(),
            bytes([known.form for _, known in rows]),
            bytes(heads),
            bytes(tails),
            {at: known.xattrs for at, (_, known) in enumerate(rows) if known.xattrs},
        )
    )
