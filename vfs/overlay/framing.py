"""Journals as bytes: heading, records with checksums, and how much of a file counts. Layout: docs/format.md."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from vfs.errors import Corrupt, Unsupported
from vfs.model.ids import digest64
from vfs.overlay.records import Record, RecordType, Synced, decode_record, encode_record

FILE_MAGIC = b"VFSJRNL\x01"
FORMAT = 1

FILE_HEAD = struct.Struct("<8sIIQ")
"""Magic, bytes of the heading, zero, checksum of the heading."""
RECORD_HEAD = struct.Struct("<2sBBIIIQQQ")
"""Magic, type, flags, bytes of meta, bytes of data, zero, sequence number, durable position, checksum of the data."""
SUM = struct.Struct("<Q")
RECORD_MAGIC = b"VJ"
HEAD_BYTES = RECORD_HEAD.size + SUM.size
CONTINUES = 1
"""Flag of a record that counts only together with the next one."""
_HEADING_BYTES_MAX = 64 * 1024
_META_BYTES_MAX = 1 << 30
_WINDOW_BYTES = 256 * 1024
_CHECK_BYTES = 1024 * 1024
_SYNCED_BYTES = HEAD_BYTES + len(encode_record(Synced()))


class Heading(msgspec.Struct, frozen=True, array_like=True):
    """What a journal's first bytes say of it.

    `generation`: its number; 0 for the base file. `base`: the commit that the layers below stood on when it was made.
    `first_seq`: its first record's sequence number, which continues that of the generation before.
    """

    format: int
    branch: str
    generation: int
    base: bytes
    first_seq: int


class Found(NamedTuple):
    """A record as it lies in the file."""

    type: int
    continues: bool
    seq: int
    durable: int
    meta: bytes
    data_position: int
    data_bytes: int
    data_sum: int
    end: int

    def decode(self) -> Record:
        """Returns the record; raises Unsupported where its bytes, although whole, mean nothing to this program."""
        try:
            return decode_record(self.type, self.meta)
        except (msgspec.DecodeError, ValueError) as error:
            raise Unsupported(
                f"record {self.seq} of the working layer's journal cannot be read: {error}",
                hint="Use a program at least as new as the one that wrote it.",
            ) from error


def read_heading(fd: int, path: Path, size: int) -> tuple[Heading, int]:
    """Returns a file's heading and where its records start; raises Corrupt, or Unsupported for a newer format."""
    head = os.pread(fd, FILE_HEAD.size, 0)
    if len(head) < FILE_HEAD.size or not head.startswith(FILE_MAGIC):
        raise Corrupt(f"{path} is not a journal of a working layer")
    _, length, _, checksum = FILE_HEAD.unpack(head)
    if length > min(size, _HEADING_BYTES_MAX):
        raise Corrupt(f"the heading of {path} is damaged")
    encoded = os.pread(fd, length, FILE_HEAD.size)
    if digest64(encoded) != checksum:
        raise Corrupt(f"the heading of {path} is damaged")
    heading = msgspec.msgpack.decode(encoded, type=Heading)
    if heading.format != FORMAT:
        raise Unsupported(f"{path} has format {heading.format}; this program knows {FORMAT}")
    return heading, FILE_HEAD.size + length


def scan(fd: int, start: int, size: int) -> Iterator[Found]:
    """Yields whole records from a position on; data is not looked at. Stops at the first that is not whole."""
    window = b""
    base = start
    position = start
    seq: int | None = None
    while position + HEAD_BYTES <= size:
        at = position - base
        if at + HEAD_BYTES > len(window):
            window, base, at = os.pread(fd, _WINDOW_BYTES, position), position, 0
        head = window[at : at + RECORD_HEAD.size]
        if len(window) - at < HEAD_BYTES:
            return
        magic, number, flags, meta_bytes, data_bytes, _, found_seq, durable, data_sum = RECORD_HEAD.unpack(head)
        end = position + HEAD_BYTES + meta_bytes + data_bytes
        if magic != RECORD_MAGIC or end > size or meta_bytes > _META_BYTES_MAX:
            return
        if at + HEAD_BYTES + meta_bytes > len(window):
            window, base, at = os.pread(fd, max(_WINDOW_BYTES, HEAD_BYTES + meta_bytes), position), position, 0
        meta = window[at + HEAD_BYTES : at + HEAD_BYTES + meta_bytes]
        (checksum,) = SUM.unpack_from(window, at + RECORD_HEAD.size)
        if digest64(head + meta) != checksum or (seq is not None and found_seq != seq):
            return
        data_position = position + HEAD_BYTES + meta_bytes
        continues = bool(flags & CONTINUES)
        yield Found(number, continues, found_seq, durable, meta, data_position, data_bytes, data_sum, end)
        seq = found_seq if number == RecordType.SYNCED else found_seq + 1
        position = end
        if position - base > len(window):
            window, base = b"", position


def ends_synced(fd: int, start: int, size: int) -> Found | None:
    """Returns the record that says that everything before it was durable, if the file ends with it."""
    last = next(scan(fd, size - _SYNCED_BYTES, size), None) if size - start >= _SYNCED_BYTES else None
    return last if last is not None and last.type == RecordType.SYNCED and last.end == size else None


def check(fd: int, heading: Heading, start: int, size: int) -> tuple[int, int]:
    """Returns the end of the last whole record and the next sequence number."""
    last = ends_synced(fd, start, size)
    if last is not None:
        return size, last.seq
    durable = start
    for found in scan(fd, start, size):
        durable = max(durable, found.durable)
    end, seq = start, heading.first_seq
    expected = seq
    for found in scan(fd, start, size):
        if found.seq != expected or (found.end > durable and not is_data_whole(fd, found)):
            break
        expected += found.type != RecordType.SYNCED
        if not found.continues:
            end, seq = found.end, expected
    return end, seq


def is_data_whole(fd: int, found: Found) -> bool:
    """Whether a record's data is as it was written."""
    if not found.data_bytes:
        return True
    data = bytearray()
    while len(data) < found.data_bytes:
        piece = os.pread(fd, min(_CHECK_BYTES, found.data_bytes - len(data)), found.data_position + len(data))
        if not piece:
            return False
        data += piece
    return digest64(data) == found.data_sum
