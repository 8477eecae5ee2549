"""Blocks of the stat cache: rows of files whose inode numbers are neighbours, column by column.

A directory's files mostly have neighbouring inode numbers and contents of one form, so a column of each compresses well
where a row for each file could not. One file is found without decoding the others, in whatever order they are asked
for. Reasons: decision 20.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import NamedTuple

import msgspec

from vfs.errors import Corrupt
from vfs.model.ids import ID_BYTES
from vfs.model.objects import Form
from vfs.repo.file_metadata import Xattrs
from vfs.store.packs.compression import Compression

BLOCK_INODES = 2048
_FORMS = tuple(Form)
_WITHOUT_ID = bytes((Form.EMPTY, Form.TINY))
_MASK = 2**64 - 1
_PLAIN_BYTES_MAX = 64 * 1024 * 1024


class Known(NamedTuple):
    """What was read of a file.

    `tag`: the hash of the file's state, and of a tiny file's id, which `id` lacks (`StatCache`).
    """

    tag: int
    form: Form
    id: bytes
    hole_bytes: int
    xattrs: Xattrs


class _Columns(msgspec.Struct, frozen=True, array_like=True):
    """A block as it is encoded: columns, sorted by inode; attributes of those files that have any.

    `gaps`: each inode number less the one before it. `ids` are of the files whose form has one, other columns of all.
    """

    gaps: bytes
    tags: bytes
    forms: bytes
    holes: bytes
    ids: bytes
    xattrs: dict[int, Xattrs]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Columns)


class KnownBlock:
    """The files of one block, by inode number modulo `BLOCK_INODES`. Immutable."""

    __slots__ = ("_columns", "_holes", "_inodes", "_tags")

    def __init__(self, columns: _Columns) -> None:
        """Raises ValueError for columns that do not fit together."""
        self._columns = columns
        self._inodes = list(accumulate(array("H", columns.gaps)))
        self._tags, self._holes = array("Q", columns.tags), array("Q", columns.holes)
        if {len(self._tags), len(self._holes), len(columns.forms)} != {len(self._inodes)}:
            raise ValueError("the columns are not equally long")
        if columns.forms.translate(None, bytes(_FORMS)):
            raise ValueError("a file has an unknown form")
        if len(columns.ids) != self._id_at(len(self._inodes)):
            raise ValueError("a file has no id")

    @property
    def memory_bytes(self) -> int:
        """About what the block takes, attributes apart."""
        return 70 * len(self._inodes) + len(self._columns.ids) + 1000

    def find(self, inode: int) -> Known | None:
        """Returns a file's row."""
        at = bisect_left(self._inodes, inode)
        return self._row(at) if at < len(self._inodes) and self._inodes[at] == inode else None

    def _row(self, at: int) -> Known:
        columns = self._columns
        form, found = columns.forms[at], b""
        if form not in _WITHOUT_ID:
            start = self._id_at(at)
            found = columns.ids[start : start + ID_BYTES]
        xattrs = columns.xattrs.get(at, ()) if columns.xattrs else ()
        return Known(self._tags[at], _FORMS[form], found, self._holes[at], xattrs)

    def _id_at(self, at: int) -> int:
        return ID_BYTES * len(self._columns.forms[:at].translate(None, _WITHOUT_ID))

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


EMPTY_BLOCK = KnownBlock(_Columns(b"", b"", b"", b"", b"", {}))


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
    """Returns a time, a device or an inode number as the stat cache keeps it: modulo 2**64."""
    return value & _MASK


def _from_rows(rows: list[tuple[int, Known]]) -> KnownBlock:
    return KnownBlock(
        _Columns(
            array("H", [after - before for before, after in pairwise((0, *(inode for inode, _ in rows)))]).tobytes(),
            array("Q", [known.tag for _, known in rows]).tobytes(),
            bytes([known.form for _, known in rows]),
            array("Q", [known.hole_bytes for _, known in rows]).tobytes(),
            b"".join([known.id for _, known in rows]),
            {at: known.xattrs for at, (_, known) in enumerate(rows) if known.xattrs},
        )
    )
