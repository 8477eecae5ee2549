"""Journals as bytes: heading, records with checksums, and how much of a file counts. Layout: docs/format.md."""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from vfs.backend.rooted import RootedPath
from vfs.errors import Corrupt, Unsupported
from vfs.model.decoding import UNDECODABLE, Count
from vfs.model.ids import Buffer, check64, digest64
from vfs.model.objects import IdOrEmpty
from vfs.overlay.checksums import quick64
from vfs.overlay.records import Record, RecordType, Synced, decode_record, encode_record

FILE_MAGIC = b"VFSJRNL\x01"
OLD_FORMAT = 1
"""Of a journal whose records have BLAKE3 for their checksums; it is continued as it began."""
SUMMARY_FORMAT = 2
"""Of a journal that stands for those before it: programs that do not know of such must not replay both."""
FORMAT = 3
_FORMATS = (OLD_FORMAT, SUMMARY_FORMAT, FORMAT)

_FILE_HEAD = struct.Struct("<8sIIQ")
"""Magic, bytes of the heading, zero, checksum of the heading."""
_RECORD_HEAD = struct.Struct("<2sBBIIIQQQ")
"""Magic, type, flags, bytes of meta, bytes of data, zero, sequence number, durable position, checksum of the data."""
_RECORD = struct.Struct("<2sBBIIIQQQ8s")
"""The same with the checksum that follows."""
_RECORD_MAGIC = b"VJ"
HEAD_BYTES = _RECORD.size
"""Of a record, before its meta."""
_CONTINUES = 1
"""Flag of a record that counts only together with the next one."""
_IS_QUICK = 2
"""Flag of a record whose checksums are XXH3 in place of BLAKE3."""
_HEADING_BYTES_MAX = 64 * 1024
_META_BYTES_MAX = 1 << 30
_WINDOW_BYTES = 256 * 1024
_UNSURE_MAX = 10_000
_SYNCED_BYTES = HEAD_BYTES + len(encode_record(Synced()))


class Heading(msgspec.Struct, frozen=True, array_like=True):
    """What a journal's first bytes say of it.

    `generation`: its number; 0 for the base file. `base`: the commit that the layers below stood on when it was made.
    `first_seq`: its first record's sequence number, which continues that of the generation before. `next_seq`: of a
    summary, which stands for all generations before it, the first number of the generation after it; else 0.
    """

    format: int
    branch: str
    generation: Count
    base: IdOrEmpty
    first_seq: Count
    next_seq: Count = 0

    @property
    def is_summary(self) -> bool:
        """Whether the journal stands for all generations before it."""
        return self.format == SUMMARY_FORMAT

    @property
    def is_quick(self) -> bool:
        """Whether the checksums of new records are XXH3."""
        return self.format != OLD_FORMAT


class Found(NamedTuple):
    """A record as it lies in the file."""

    type: int
    flags: int
    seq: int
    durable: int
    meta: bytes
    data_position: int
    data_bytes: int
    data_sum: int
    end: int

    @property
    def continues(self) -> bool:
        """Whether it counts only together with the next one."""
        return self.flags & _CONTINUES != 0

    def decode(self) -> Record:
        """Returns the record; raises Unsupported where its bytes, although whole, mean nothing to this program."""
        try:
            return decode_record(self.type, self.meta)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Unsupported(
                f"record {self.seq} of the working layer's journal cannot be read: {error}",
                hint="Use a program at least as new as the one that wrote it.",
            ) from error


def encode_heading(heading: Heading) -> bytes:
    """Returns the first bytes of a journal."""
    encoded = msgspec.msgpack.encode(heading)
    return _FILE_HEAD.pack(FILE_MAGIC, len(encoded), 0, digest64(encoded)) + encoded


def read_heading(fd: int, path: RootedPath, size: int) -> tuple[Heading, int]:
    """Returns a journal's heading and the position of its first record; raises Corrupt, Unsupported."""
    head = os.pread(fd, _FILE_HEAD.size, 0)
    if len(head) < _FILE_HEAD.size or not head.startswith(FILE_MAGIC):
        raise Corrupt(f"{path} is not a journal of a working layer")
    _, length, _, checksum = _FILE_HEAD.unpack(head)
    if length > min(size, _HEADING_BYTES_MAX):
        raise Corrupt(f"the heading of {path} is damaged")
    encoded = os.pread(fd, length, _FILE_HEAD.size)
    if digest64(encoded) != checksum:
        raise Corrupt(f"the heading of {path} is damaged")
    try:
        heading = msgspec.msgpack.decode(encoded, type=Heading)
    except UNDECODABLE as error:
        raise Corrupt(f"the heading of {path} cannot be: {error}") from error
    if heading.format not in _FORMATS:
        raise Unsupported(f"{path} has format {heading.format}; this program knows those up to {max(_FORMATS)}")
    return heading, _FILE_HEAD.size + length


def sum_of(data: Buffer, *, is_quick: bool) -> int:
    """Returns the checksum of a record's data."""
    if not len(data):
        return 0
    return quick64(data) if is_quick else digest64(data)


def encode_head(
    number: int,
    meta: bytes,
    data_bytes: int,
    data_sum: int,
    *,
    is_quick: bool,
    seq: int,
    durable: int,
    continues: bool = False,
) -> bytes:
    """Returns what stands before a record's meta."""
    flags = (_CONTINUES if continues else 0) | (_IS_QUICK if is_quick else 0)
    head = _RECORD_HEAD.pack(_RECORD_MAGIC, number, flags, len(meta), data_bytes, 0, seq, durable, data_sum)
    return head + _check(head + meta, flags)


def _check(head: bytes, flags: int) -> bytes:
    """Returns the checksum of a record's head and meta."""
    return quick64(head).to_bytes(8, "little") if flags & _IS_QUICK else check64(head)


def scan(fd: int, start: int, size: int, *, is_checked: bool = False) -> Iterator[Found]:
    """Yields whole records from a position on; data is not looked at. Stops at the first that is not whole.

    `is_checked`: their checksums are known to be right.
    """
    window = b""
    base = position = start
    expected: int | None = None
    while position + HEAD_BYTES <= size:
        at = position - base
        if at + HEAD_BYTES > len(window):
            window, base, at = os.pread(fd, _WINDOW_BYTES, position), position, 0
            if len(window) < HEAD_BYTES:
                return
        magic, number, flags, meta_bytes, data_bytes, _, seq, durable, data_sum, checksum = _RECORD.unpack_from(
            window, at
        )
        data_position = position + HEAD_BYTES + meta_bytes
        end = data_position + data_bytes
        if (
            magic != _RECORD_MAGIC
            or end > size
            or meta_bytes > _META_BYTES_MAX
            or (expected is not None and seq != expected)
        ):
            return
        if at + HEAD_BYTES + meta_bytes > len(window):
            window, base, at = os.pread(fd, max(_WINDOW_BYTES, HEAD_BYTES + meta_bytes), position), position, 0
        meta = window[at + HEAD_BYTES : at + HEAD_BYTES + meta_bytes]
        if not is_checked and _check(window[at : at + _RECORD_HEAD.size] + meta, flags) != checksum:
            return
        yield Found(number, flags, seq, durable, meta, data_position, data_bytes, data_sum, end)
        expected = seq if number == RecordType.SYNCED else seq + 1
        position = end


def ends_synced(fd: int, start: int, size: int) -> Found | None:
    """Returns the record that says that everything before it was durable, if the file ends with it."""
    last = next(scan(fd, size - _SYNCED_BYTES, size), None) if size - start >= _SYNCED_BYTES else None
    return last if last is not None and last.type == RecordType.SYNCED and last.end == size else None


def whole_until(fd: int, heading: Heading, start: int, size: int) -> tuple[int, int]:
    """Returns the end of the last whole record and the next sequence number.

    Data is checked behind the last position that a record calls durable.
    """
    last = ends_synced(fd, start, size)
    if last is not None:
        return size, last.seq
    durable = start
    end, seq = start, heading.first_seq
    following = seq
    # Records whose data is to be checked, each with the end and the number to go back to if it is not whole.
    unsure: deque[tuple[int, int, Found]] = deque()
    for found in scan(fd, start, size):
        if found.seq != following:
            break
        if found.durable > durable:
            durable = found.durable
            while unsure and unsure[0][2].end <= durable:
                unsure.popleft()
        if found.data_bytes:
            unsure.append((end, seq, found))
            if len(unsure) > _UNSURE_MAX and is_data_whole(fd, unsure[0][2]):
                unsure.popleft()
        if found.type != RecordType.SYNCED:
            following += 1
        if not found.continues:
            end, seq = found.end, following
    for end_before, seq_before, found in unsure:
        if not is_data_whole(fd, found):
            return end_before, seq_before
    return end, seq


def is_data_whole(fd: int, found: Found) -> bool:
    """Whether a record's data is as it was written."""
    data: Buffer = b""
    if found.data_bytes:
        data = os.pread(fd, found.data_bytes, found.data_position)
        if len(data) < found.data_bytes:
            # One call gives 2 GiB at most, and may be cut short.
            data = bytearray(data)
            while piece := os.pread(fd, found.data_bytes - len(data), found.data_position + len(data)):
                data += piece
    if len(data) != found.data_bytes:
        return False
    return not data or sum_of(data, is_quick=found.flags & _IS_QUICK != 0) == found.data_sum
