"""Packs: sealed files of blocks, at most 64 MiB, named by the hash of their bytes.

Invariant: a pack can be read without the index. Its trailer repeats the headers of all blocks, so that an index is
rebuilt with one or two reads of a pack; where the trailer is damaged, a scan of the blocks finds the same. Packs of
chunks and packs of tree nodes and commits are kept apart: the second are few, small and read together. Layout and
reasons: docs/format.md, "Packs".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from enum import IntEnum
from itertools import chain
from typing import NamedTuple
from zlib import crc32

from vfs.backend.protocol import ObjectBackend, Upload
from vfs.errors import Corrupt
from vfs.model.ids import Buffer, RunningHash
from vfs.store.packs.blocks import (
    HEADER_BYTES_MAX,
    MAGIC,
    BadBlock,
    Block,
    Header,
    ObjectType,
    StoredObject,
    open_block,
    parse_header,
)
from vfs.store.packs.compression import BadFrame, Compression
from vfs.store.packs.pack_hash import PackHash

PACK_BYTES_MAX = 64 * 1024 * 1024
PACK_OBJECTS_MAX = 16384
"""Bounds what a writer holds in memory for one pack, the trailer, and what a transfer indexes at once: ids are random,
so each may change a page of the index, which LMDB has in memory until the end of the transaction."""
PREFIX = "packs/"

_HEAD = struct.Struct("<8sB7x")
_MAGIC = b"VFSPACK\x01"
_FOOT = struct.Struct("<IIIxxxx8s")
_END = b"VFSPEND\x01"
_TAIL_GUESS = 64 * 1024
_HEX_DIGITS = 32
_KEY = r"packs/(data|tree)/([0-9a-f]{2})/([0-9a-f]{32})\.pack"
"""Compiled when it is first used, as most commands use it for no pack."""


class PackKind(IntEnum):
    """What a pack's blocks hold."""

    DATA = 1
    TREE = 2

    @property
    def folder(self) -> str:
        """The part of a key that says so."""
        return self.name.lower()

    @property
    def group_bytes(self) -> int:
        """What a group of small objects holds when it becomes a block (docs/decisions/0002-chunk-parameters.md).

        An object of half this size or more is a block of its own.
        """
        return 32 * 1024 if self is PackKind.DATA else 16 * 1024


_TYPES = {PackKind.DATA: {ObjectType.CHUNK}, PackKind.TREE: {ObjectType.NODE, ObjectType.COMMIT}}


class BadPack(Corrupt):
    """A pack's frame (head, trailer or the order of its blocks) is damaged."""


class PackName(NamedTuple):
    """What names a pack; `hex` are the first 32 hex digits of its BLAKE3."""

    kind: PackKind
    hex: str

    @property
    def key(self) -> str:
        """Where a backend keeps it."""
        return f"{PREFIX}{self.kind.folder}/{self.hex[:2]}/{self.hex}.pack"


class PlacedBlock(NamedTuple):
    """A block's place in its pack, from the first byte of its header, and what it holds."""

    offset: int
    block_bytes: int
    objects: Sequence[StoredObject]


class PackInfo(NamedTuple):
    """A pack's name, size and blocks: all that an index needs."""

    name: PackName
    size: int
    blocks: Sequence[PlacedBlock]


class Damage(NamedTuple):
    """A place of a pack that cannot be read, why, and the objects lost with it as far as they are known."""

    offset: int
    reason: str
    objects: Sequence[StoredObject] = ()


class PackScan(NamedTuple):
    """What a pack holds that can be read, and what is damaged in it."""

    info: PackInfo
    damage: Sequence[Damage]


def parse_key(key: str) -> PackName | None:
    """Returns the pack that a backend keeps under a key, or None for something else."""
    match = re.fullmatch(_KEY, key)
    if match is None or match[2] != match[3][:2]:
        return None
    return PackName(PackKind[match[1].upper()], match[3])


class PackWriter:
    """A pack being written: blocks go straight to the backend, the name comes at the end. Owned by one thread."""

    def __init__(self, backend: ObjectBackend, kind: PackKind) -> None:
        self.kind = kind
        self._upload: Upload = backend.start()
        self._hash = PackHash()
        self._blocks: list[PlacedBlock] = []
        self._headers: list[bytes] = []
        self._trailer_bytes = _FOOT.size
        self._objects = 0
        try:
            self._write(_HEAD.pack(_MAGIC, kind))
        except BaseException:
            self._upload.abort()
            raise

    def fits(self, block: Block) -> bool:
        """Returns True if the pack stays within its limits with this block."""
        return self.fitting([block]) == 1

    def fitting(self, blocks: Sequence[Block]) -> int:
        """Returns how many of these blocks, from the first on, the pack has room for."""
        size, objects = self._upload.size + self._trailer_bytes, self._objects
        for number, block in enumerate(blocks):
            size += block.block_bytes + len(block.header)
            objects += len(block.objects)
            if size > PACK_BYTES_MAX or objects > PACK_OBJECTS_MAX:
                return number
        return len(blocks)

    def add(self, *blocks: Block) -> list[PlacedBlock]:
        """Appends blocks in one write; after an OSError the pack is as before and may be sealed or tried again."""
        at = self._upload.size
        self._write(*chain.from_iterable([(block.header, block.payload) for block in blocks]))
        added = []
        for block in blocks:
            added.append(PlacedBlock(at, block.block_bytes, block.objects))
            at += block.block_bytes
            self._headers.append(block.header)
            self._trailer_bytes += len(block.header)
            self._objects += len(block.objects)
        self._blocks += added
        return added

    def read(self, placed: PlacedBlock) -> bytes:
        """Returns a block that was added before."""
        return self._upload.read(placed.offset, placed.block_bytes)

    def seal(self) -> PackInfo:
        """Finishes the pack: durable and visible on return. After an error it is gone."""
        try:
            table = b"".join(self._headers)
            counts = struct.pack("<II", len(table), len(self._headers))
            self._write(table, _FOOT.pack(len(table), len(self._headers), crc32(counts, crc32(table)), _END))
            name = PackName(self.kind, self._hash.hex()[:_HEX_DIGITS])
            size = self._upload.size
            self._upload.commit(name.key)
        except BaseException:
            self.abort()
            raise
        return PackInfo(name, size, self._blocks)

    def abort(self) -> None:
        """Drops the pack."""
        self._hash.close()
        self._upload.abort()

    def _write(self, *pieces: Buffer) -> None:
        self._upload.write(*pieces)
        self._hash.update(pieces)


def read_info(backend: ObjectBackend, name: PackName, size: int) -> PackInfo:
    """Returns what a pack's trailer says; raises BadPack. Reads the trailer alone, and checks it against the size."""
    table, count = _read_table(backend, name, size)
    blocks = _place(table, name.kind)
    end = blocks[-1].offset + blocks[-1].block_bytes if blocks else _HEAD.size
    if len(blocks) != count or end + len(table) + _FOOT.size != size:
        raise BadPack("the pack's trailer contradicts its size")
    return PackInfo(name, size, blocks)


def _read_table(backend: ObjectBackend, name: PackName, size: int) -> tuple[bytes, int]:
    """Returns the table of a pack's trailer, and how many blocks that has; raises BadPack."""
    _check_size(size)
    tail_at = max(0, size - _TAIL_GUESS)
    tail = backend.read_range(name.key, tail_at, size - tail_at)
    if len(tail) != size - tail_at:
        raise BadPack("the pack was cut while it was read")
    table_bytes, count, check, end = _FOOT.unpack_from(tail, len(tail) - _FOOT.size)
    table_at = size - _FOOT.size - table_bytes
    if end != _END or table_at < _HEAD.size:
        raise BadPack("the pack has no trailer")
    if table_at < tail_at:
        table = backend.read_range(name.key, table_at, table_bytes)
    else:
        table = tail[table_at - tail_at : table_at - tail_at + table_bytes]
    if crc32(struct.pack("<II", table_bytes, count), crc32(table)) != check:
        raise BadPack("the pack's trailer is damaged")
    return table, count


def table_of(backend: ObjectBackend, name: PackName, size: int) -> bytes:
    """Returns the table of a pack's trailer, from which `info_of_table` makes the same as `read_info`.

    Raises BadPack where it does not match its checksum; what is in it is not looked at.
    """
    return _read_table(backend, name, size)[0]


def info_of_table(name: PackName, size: int, table: bytes) -> PackInfo:
    """Returns where a pack's blocks lie, by its trailer's table; raises BadPack where that does not fit its size."""
    _check_size(size)
    blocks = _place(table, name.kind)
    end = blocks[-1].offset + blocks[-1].block_bytes if blocks else _HEAD.size
    if end + len(table) + _FOOT.size != size:
        raise BadPack("the pack's table contradicts its size")
    return PackInfo(name, size, blocks)


def _place(table: bytes, kind: PackKind) -> list[PlacedBlock]:
    blocks: list[PlacedBlock] = []
    at, offset = 0, _HEAD.size
    while at < len(table):
        try:
            header = parse_header(table, at)
        except BadBlock as error:
            raise BadPack(f"the pack's trailer is damaged: {error}") from error
        _check_types(header, kind)
        blocks.append(PlacedBlock(offset, header.block_bytes, header.objects))
        at += header.header_bytes
        offset += header.block_bytes
    return blocks


def scan_pack(backend: ObjectBackend, name: PackName, size: int, compression: Compression) -> PackScan:
    """Returns a pack's blocks by its trailer or, where that is damaged, by reading all of it."""
    try:
        return PackScan(read_info(backend, name, size), ())
    except BadPack as error:
        scan = verify_pack(backend, name, size, compression)
        # The blocks may all be whole; the pack is damaged none the less.
        return scan if scan.damage else scan._replace(damage=[Damage(0, error.message)])


def verify_pack(backend: ObjectBackend, name: PackName, size: int, compression: Compression) -> PackScan:
    """Reads every byte of a pack; returns the objects whose hash is right and every damage.

    Finds blocks by walking them, and by their magic after a damaged one: a block that is found this way counts only
    as far as its objects' hashes are right, so bytes of a user's file that look like a block are harmless.
    """
    try:
        _check_size(size)
    except BadPack as error:
        return PackScan(PackInfo(name, size, ()), [Damage(0, error.message)])
    data = memoryview(backend.read(name.key))
    blocks: list[PlacedBlock] = []
    damage: list[Damage] = []
    end = _blocks_end(backend, name, len(data), damage)
    if data[: _HEAD.size] != _HEAD.pack(_MAGIC, name.kind):
        damage.append(Damage(0, "the pack's head is damaged"))
    at = _HEAD.size
    while at < end:
        try:
            header = parse_header(data[: min(end, at + HEADER_BYTES_MAX)], at)
            _check_types(header, name.kind)
            if at + header.block_bytes > end:
                raise BadBlock("a block reaches past the pack's end")
        except Corrupt as error:
            damage.append(Damage(at, error.message))
            at = _next_block(data, at + 1, end)
            continue
        _verify_block(data, at, header, compression, blocks, damage)
        at += header.block_bytes
    _check_name(data, name, damage)
    return PackScan(PackInfo(name, size, blocks), damage)


def _blocks_end(backend: ObjectBackend, name: PackName, size: int, damage: list[Damage]) -> int:
    """Returns where the blocks end and the trailer begins; the pack's end where the trailer is damaged."""
    try:
        info = read_info(backend, name, size)
    except BadPack as error:
        damage.append(Damage(size, error.message))
        return size
    return info.blocks[-1].offset + info.blocks[-1].block_bytes if info.blocks else _HEAD.size


def _verify_block(
    data: memoryview,
    at: int,
    header: Header,
    compression: Compression,
    blocks: list[PlacedBlock],
    damage: list[Damage],
) -> None:
    payload = data[at + header.header_bytes : at + header.block_bytes]
    try:
        opened = open_block(header, payload, compression)
    except BadFrame as error:
        damage.append(Damage(at, error.message, header.objects))
        return
    if opened.bad:
        damage.append(Damage(at, "objects do not match their ids", opened.bad))
    if opened.good:
        blocks.append(PlacedBlock(at, header.block_bytes, [stored for stored, _ in opened.good]))


def _next_block(data: memoryview, at: int, end: int) -> int:
    # memoryview cannot search; one copy of a damaged pack is the price of finding what follows the damage.
    found = bytes(data[at:end]).find(MAGIC)
    return end if found < 0 else at + found


def _check_name(data: memoryview, name: PackName, damage: list[Damage]) -> None:
    running = RunningHash()
    running.update(data)
    if running.hex()[:_HEX_DIGITS] != name.hex and not damage:
        damage.append(Damage(0, "the pack's bytes do not match its name"))


def _check_types(header: Header, kind: PackKind) -> None:
    allowed = _TYPES[kind]
    if any(stored.type not in allowed for stored in header.objects):
        raise BadPack(f"a pack of {kind.folder} holds an object of another type")


def _check_size(size: int) -> None:
    if not _HEAD.size + _FOOT.size <= size <= PACK_BYTES_MAX:
        raise BadPack("the pack's size is impossible")
