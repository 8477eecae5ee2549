"""The framing of journals: heading, and records with checksums. Layout: docs/format.md."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from vfs.backend.rooted_path import RootedPath
from vfs.errors import Corrupt, Unsupported
from vfs.model.decoding import UNDECODABLE, Count
from vfs.model.ids import ID_BYTES, Buffer, RunningHash, check64, digest64
from vfs.model.objects import IdOrEmpty
from vfs.overlay.journal.checksums import RunningQuick, quick64
from vfs.overlay.journal.fallocate import BLOCK_BYTES
from vfs.overlay.journal.record_types import RecordType
from vfs.overlay.journal.recovery_hints import NEWER_HINT, RECOVER_HINT

FILE_MAGIC = b"VFSJRNL\x01"
OLD_FORMAT = 1
"""A journal whose records have BLAKE3 checksums; it is continued in this format."""
UNSALTED_CHECKPOINT_FORMAT = 2
"""A checkpoint without salt. A format of its own: older programs must not replay it and the journals before it."""
UNSALTED_FORMAT = 3
FORMAT = 4
"""From this format on a record's checksum depends on its journal and its position."""
CHECKPOINT_FORMAT = 5
_CHECKPOINT_FORMATS = (UNSALTED_CHECKPOINT_FORMAT, CHECKPOINT_FORMAT)
_FORMATS = (OLD_FORMAT, UNSALTED_CHECKPOINT_FORMAT, UNSALTED_FORMAT, FORMAT, CHECKPOINT_FORMAT)

_FILE_HEAD = struct.Struct("<8sIIQ")
"""Magic, bytes of the heading, zero, checksum of the heading."""
_RECORD_HEAD = struct.Struct("<2sBBIIIQQQ")
"""Magic, type, flags, bytes of meta, bytes of data, zero, sequence number, durable position, checksum of the data."""
_RECORD = struct.Struct("<2sBBIIIQQQ8s")
"""The same with the checksum that follows."""
_RECORD_MAGIC = b"VJ"
HEAD_BYTES = _RECORD.size
"""Size of a record's head, which precedes its meta bytes."""
_CONTINUES = 1
"""Flag of a record that counts only together with the next one."""
_IS_QUICK = 2
"""Flag of a record whose checksums are XXH3 in place of BLAKE3."""
_KNOWN_FLAGS = _CONTINUES | _IS_QUICK
_HEADING_BYTES_MAX = 64 * 1024
_META_BYTES_MAX = 1 << 30
_FOUND_META_BYTES_MAX = 64 * 1024
"""A search for a whole record skips heads with more meta bytes: this bounds the cost of data that looks like heads."""
_MENDED_META_BYTES_MAX = 4096
_WINDOW_BYTES = 256 * 1024
_SEARCH_BYTES = 1024 * 1024
_SYNCED_BYTES = HEAD_BYTES + len(msgspec.msgpack.encode([]))
_NUMBER_MAX = 1 << 62
"""Larger generation or sequence numbers are invalid: numbers derived from valid ones fit in 63 bits."""
_SALT_MASK = (1 << 64) - 1


class Heading(msgspec.Struct, frozen=True, array_like=True):
    """The heading of a journal: its first bytes.

    `generation`: its number; 0 for the base file. `base`: the base version's commit when the journal was created.
    `first_seq`: its first record's sequence number, which continues that of the generation before. `next_seq`: of a
    checkpoint, which stands for all generations before it, the first number of the generation after it; else 0. `salt`:
    the number that the checksums of its records begin with; 0 in older formats. `is_start`: nothing before it counts,
    so `base` is the base of its records.
    """

    format: int
    branch: str
    generation: Count
    base: IdOrEmpty
    first_seq: Count
    next_seq: Count = 0
    salt: int = 0
    is_start: bool = False

    @property
    def is_checkpoint(self) -> bool:
        """True if the journal is a checkpoint: it replaces all generations before it."""
        return self.format in _CHECKPOINT_FORMATS

    @property
    def is_salted(self) -> bool:
        """True if a record's checksum is valid only in this journal and at its position."""
        return self.format >= FORMAT

    def _is_possible(self) -> bool:
        return (
            self.generation < _NUMBER_MAX
            and 0 < self.first_seq < _NUMBER_MAX
            and self.next_seq < _NUMBER_MAX
            and 0 <= self.salt <= _SALT_MASK
            and len(self.base) in (0, ID_BYTES)
        )

    @property
    def is_quick(self) -> bool:
        """True if the checksums of new records are XXH3."""
        return self.format != OLD_FORMAT


class StoredRecord(NamedTuple):
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
    def start(self) -> int:
        """Where its head begins."""
        return self.data_position - len(self.meta) - HEAD_BYTES

    @property
    def blocks(self) -> tuple[int, int]:
        """Where the whole blocks of the disk in its data begin and end."""
        return -(-self.data_position // BLOCK_BYTES) * BLOCK_BYTES, self.end // BLOCK_BYTES * BLOCK_BYTES

    @property
    def continues(self) -> bool:
        """True if it counts only together with the next one."""
        return self.flags & _CONTINUES != 0


def salted(heading: Heading) -> Heading:
    """Returns the heading with a new random salt, if its format has one."""
    return (
        msgspec.structs.replace(heading, salt=int.from_bytes(os.urandom(8), "little")) if heading.is_salted else heading
    )


def encode_heading(heading: Heading) -> bytes:
    """Returns the first bytes of a journal."""
    encoded = msgspec.msgpack.encode(heading)
    return _FILE_HEAD.pack(FILE_MAGIC, len(encoded), 0, digest64(encoded)) + encoded


def read_heading(fd: int, path: RootedPath, size: int) -> tuple[Heading, int]:
    """Returns a journal's heading and the position of its first record; raises Corrupt, Unsupported."""
    head = os.pread(fd, _FILE_HEAD.size, 0)
    if len(head) < _FILE_HEAD.size or not head.startswith(FILE_MAGIC):
        raise Corrupt(f"{path} is not a journal of a working layer", hint=RECOVER_HINT)
    _, length, _, checksum = _FILE_HEAD.unpack(head)
    if length > min(size, _HEADING_BYTES_MAX):
        raise Corrupt(f"the heading of {path} is damaged", hint=RECOVER_HINT)
    encoded = os.pread(fd, length, _FILE_HEAD.size)
    if digest64(encoded) != checksum:
        raise Corrupt(f"the heading of {path} is damaged", hint=RECOVER_HINT)
    try:
        heading = msgspec.msgpack.decode(encoded, type=Heading)
    except UNDECODABLE as error:
        raise Corrupt(f"the heading of {path} cannot be: {error}", hint=RECOVER_HINT) from error
    if heading.format not in _FORMATS:
        raise Unsupported(
            f"{path} has format {heading.format}; this program knows those up to {max(_FORMATS)}", hint=NEWER_HINT
        )
    if not heading._is_possible():  # noqa: SLF001
        raise Corrupt(f"the heading of {path} has numbers that no program writes", hint=RECOVER_HINT)
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
    heading: Heading,
    position: int,
    seq: int,
    durable: int,
    continues: bool = False,
) -> bytes:
    """Returns the head of a record that begins at `position` of a journal; its meta bytes follow."""
    flags = (_CONTINUES if continues else 0) | (_IS_QUICK if heading.is_quick else 0)
    head = _RECORD_HEAD.pack(_RECORD_MAGIC, number, flags, len(meta), data_bytes, 0, seq, durable, data_sum)
    return head + _check(head + meta, flags, heading, position)


def _check(head: bytes, flags: int, heading: Heading, position: int) -> bytes:
    """Returns the checksum of a record's head and meta."""
    if not flags & _IS_QUICK:
        return check64(head)
    # A journal's bytes in a file that is written into a working layer must never be taken for the layer's records.
    seed = (heading.salt + position) & _SALT_MASK if heading.is_salted else 0
    return quick64(head, seed).to_bytes(8, "little")


def scan(
    fd: int, heading: Heading, start: int, size: int, *, expected: int | None = None, is_checked: bool = False
) -> Iterator[StoredRecord]:
    """Yields whole records from a position on; stops at the first that is not whole. Data is not checked.

    `expected`: the first one's number. `is_checked`: their checksums were verified before.
    """
    window = b""
    base = position = start
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
            or durable > position
            or meta_bytes > _META_BYTES_MAX
            or (expected is not None and seq != expected)
        ):
            return
        if at + HEAD_BYTES + meta_bytes > len(window):
            window, base, at = os.pread(fd, max(_WINDOW_BYTES, HEAD_BYTES + meta_bytes), position), position, 0
        meta = window[at + HEAD_BYTES : at + HEAD_BYTES + meta_bytes]
        if not is_checked and _check(window[at : at + _RECORD_HEAD.size] + meta, flags, heading, position) != checksum:
            return
        yield StoredRecord(number, flags, seq, durable, meta, data_position, data_bytes, data_sum, end)
        expected = seq if number == RecordType.SYNCED else seq + 1
        position = end


def find_record(fd: int, heading: Heading, start: int, size: int, expected: int) -> StoredRecord | None:
    """Returns the first whole record that begins behind `start`, where the record numbered `expected` is damaged.

    In journals without salt that may be one of another journal, in the data of a record.
    """
    base = start + 1
    while base + HEAD_BYTES <= size:
        window = os.pread(fd, _SEARCH_BYTES + HEAD_BYTES - 1, base)
        at = window.find(_RECORD_MAGIC)
        while 0 <= at <= len(window) - HEAD_BYTES:
            position = base + at
            _, _, flags, meta_bytes, _, zero, seq, _, _, _ = _RECORD.unpack_from(window, at)
            if (
                not zero
                and not flags & ~_KNOWN_FLAGS
                and meta_bytes <= _FOUND_META_BYTES_MAX
                and expected <= seq <= expected + (position - start) // HEAD_BYTES
            ):
                found = next(scan(fd, heading, position, size), None)
                if found is not None:
                    return found
            at = window.find(_RECORD_MAGIC, at + 1)
        base += _SEARCH_BYTES
    return None


def meta_end(fd: int, position: int) -> int:
    """Returns where the meta of a damaged record ends, according to its head, or where the head ends."""
    head = os.pread(fd, _RECORD_HEAD.size, position)
    if len(head) == _RECORD_HEAD.size and head.startswith(_RECORD_MAGIC):
        meta_bytes = int(_RECORD_HEAD.unpack(head)[3])
        if meta_bytes <= _FOUND_META_BYTES_MAX:
            return position + HEAD_BYTES + meta_bytes
    return position + HEAD_BYTES


def is_one_bit_off(fd: int, heading: Heading, position: int) -> bool:
    """Returns True if flipping one bit makes a record's head and meta valid: then no power cut has torn it."""
    raw = bytearray(os.pread(fd, HEAD_BYTES + _MENDED_META_BYTES_MAX, position))
    # No bit behind the first bytes makes them those of a record.
    flipped = raw if raw.startswith(_RECORD_MAGIC) else _RECORD_MAGIC
    for bit in range(8 * min(len(flipped), len(raw))):
        raw[bit // 8] ^= 1 << bit % 8
        if raw.startswith(_RECORD_MAGIC) and len(raw) >= HEAD_BYTES:
            _, _, flags, meta_bytes, *_, checksum = _RECORD.unpack_from(raw)
            end = HEAD_BYTES + meta_bytes
            if bit // 8 >= end or end > len(raw):
                if bit // 8 >= HEAD_BYTES:
                    return False
            elif _check(bytes(raw[: _RECORD_HEAD.size] + raw[HEAD_BYTES:end]), flags, heading, position) == checksum:
                return True
        raw[bit // 8] ^= 1 << bit % 8
    return False


def ends_synced(fd: int, heading: Heading, start: int, size: int) -> StoredRecord | None:
    """Returns the Synced record at the end of the file, None if there is none."""
    last = next(scan(fd, heading, size - _SYNCED_BYTES, size), None) if size - start >= _SYNCED_BYTES else None
    return last if last is not None and last.type == RecordType.SYNCED and last.end == size else None


def is_data_whole(fd: int, found: StoredRecord) -> bool:
    """Returns True if a record's data matches its checksum."""
    if not found.data_bytes:
        return True
    running = RunningQuick() if found.flags & _IS_QUICK else RunningHash()
    position = found.data_position
    while position < found.end:
        piece = os.pread(fd, min(_SEARCH_BYTES, found.end - position), position)
        if not piece:
            return False
        running.update(piece)
        position += len(piece)
    return running.number() == found.data_sum
