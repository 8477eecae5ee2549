"""Packs: what they hold is found without an index, and no damage or lie in one does harm."""

from __future__ import annotations

import os
import random
import struct
from zlib import crc32

import pytest

from vfs.backend.memory import MemoryBackend
from vfs.backend.protocol import ObjectBackend
from vfs.errors import Corrupt
from vfs.model.ids import RunningHash, chunk_id, node_id
from vfs.store.packs.blocks import Block, ObjectType, StoredObject, encode_block, find_object
from vfs.store.packs.compression import Compression
from vfs.store.packs.pack_file import (
    PACK_BYTES_MAX,
    PACK_OBJECTS_MAX,
    BadPack,
    PackInfo,
    PackKind,
    PackName,
    PackScan,
    PackWriter,
    parse_key,
    read_info,
    scan_pack,
    verify_pack,
)

COMPRESSION = Compression()


def block_of(*plains: bytes) -> Block:
    return encode_block([StoredObject(ObjectType.CHUNK, len(p), chunk_id(p)) for p in plains], plains, COMPRESSION)


def make_pack(backend: ObjectBackend, seed: int = 1) -> tuple[PackInfo, dict[bytes, bytes]]:
    """Returns a pack of grouped, single, raw and compressed blocks, and its objects."""
    noise = random.Random(seed)
    groups = [
        [b"%d-%d " % (seed, number) * 200 for number in range(5)],
        [noise.randbytes(3000)],
        [noise.randbytes(100) for _ in range(10)],
        [b"text %d" % seed * 3000],
    ]
    writer = PackWriter(backend, PackKind.DATA)
    for group in groups:
        writer.add(block_of(*group))
    return writer.seal(), {chunk_id(plain): plain for group in groups for plain in group}


def test_blocks_that_are_added_together_are_found_at_their_places() -> None:
    backend = MemoryBackend()
    blocks = [block_of(b"one" * 100, b"two" * 100), block_of(random.Random(1).randbytes(3000)), block_of(b"four" * 100)]
    alone, together = PackWriter(backend, PackKind.DATA), PackWriter(backend, PackKind.DATA)
    places = [place for block in blocks for place in alone.add(block)]
    assert together.fitting(blocks) == 3
    assert together.add(*blocks) == places
    assert [together.read(place) for place in places] == [block.header + bytes(block.payload) for block in blocks]
    assert together.seal() == alone.seal()


def found(scan: PackScan, data: bytes) -> dict[bytes, bytes]:
    """Returns the objects that a scan names and that can be read at the places it gives."""
    objects = {}
    for block in scan.info.blocks:
        for stored in block.objects:
            try:
                raw = data[block.offset : block.offset + block.block_bytes]
                objects[stored.id] = bytes(find_object(raw, stored.id, "p", COMPRESSION))
            except Corrupt:
                continue
    return objects


def store(data: bytes) -> tuple[MemoryBackend, PackName]:
    backend = MemoryBackend()
    running = RunningHash()
    running.update(data)
    name = PackName(PackKind.DATA, running.hex()[:32])
    backend.put(name.key, data)
    return backend, name


def test_a_pack_is_named_by_its_bytes_and_says_what_it_holds() -> None:
    backend = MemoryBackend()
    info, objects = make_pack(backend)
    data = backend.read(info.name.key)
    assert store(data)[1] == info.name
    assert len(data) == info.size
    scan = scan_pack(backend, info.name, info.size, COMPRESSION)
    assert not scan.damage
    assert scan.info == PackInfo(info.name, info.size, scan.info.blocks)
    assert [(b.offset, b.block_bytes, list(b.objects)) for b in scan.info.blocks] == [
        (b.offset, b.block_bytes, list(b.objects)) for b in info.blocks
    ]
    assert found(scan, data) == objects
    assert not verify_pack(backend, info.name, info.size, COMPRESSION).damage


def test_the_same_objects_make_the_same_pack() -> None:
    assert make_pack(MemoryBackend())[0].name == make_pack(MemoryBackend())[0].name
    assert make_pack(MemoryBackend(), 2)[0].name != make_pack(MemoryBackend())[0].name


def test_a_pack_without_blocks_is_whole() -> None:
    backend = MemoryBackend()
    info = PackWriter(backend, PackKind.TREE).seal()
    assert not read_info(backend, info.name, info.size).blocks
    assert not verify_pack(backend, info.name, info.size, COMPRESSION).damage


def test_keys_are_parsed_strictly() -> None:
    name = PackName(PackKind.TREE, "0123456789abcdef" * 2)
    assert name.key == "packs/tree/01/0123456789abcdef0123456789abcdef.pack"
    assert parse_key(name.key) == name
    for key in ("packs/tree/02/" + name.hex + ".pack", name.key + "x", name.key.upper(), "packs/x", "log"):
        assert parse_key(key) is None


@pytest.mark.parametrize("region", ["head", "blocks", "trailer"])
def test_every_flipped_bit_is_found_and_costs_only_its_own_block(region: str) -> None:
    backend = MemoryBackend()
    info, objects = make_pack(backend)
    good = backend.read(info.name.key)
    table_at = info.blocks[-1].offset + info.blocks[-1].block_bytes
    places = {"head": range(16), "blocks": range(16, table_at, 37), "trailer": range(table_at, len(good), 5)}[region]
    for at in places:
        bad = bytearray(good)
        bad[at] ^= 1 << (at % 8)
        backend.put(info.name.key, bytes(bad))
        deep = verify_pack(backend, info.name, info.size, COMPRESSION)
        assert deep.damage, at
        survivors = found(deep, bytes(bad))
        hit = [block for block in info.blocks if block.offset <= at < block.offset + block.block_bytes]
        lost = {stored.id for block in hit for stored in block.objects}
        assert survivors.keys() >= objects.keys() - lost, at
        assert all(objects[key] == plain for key, plain in survivors.items())
        quick = found(scan_pack(backend, info.name, info.size, COMPRESSION), bytes(bad))
        assert quick.keys() >= objects.keys() - lost, at


def test_a_pack_cut_anywhere_gives_the_whole_blocks_before_the_cut() -> None:
    backend = MemoryBackend()
    info, _ = make_pack(backend)
    good = backend.read(info.name.key)
    for size in range(0, len(good), 97):
        backend.put(info.name.key, good[:size])
        with pytest.raises(BadPack):
            read_info(backend, info.name, size)
        scan = scan_pack(backend, info.name, size, COMPRESSION)
        assert scan.damage
        whole = {s.id for b in info.blocks if b.offset + b.block_bytes <= size for s in b.objects}
        assert found(scan, good[:size]).keys() == whole


def test_bytes_of_a_file_that_look_like_a_block_are_no_harm() -> None:
    """A user's file holds a block that claims a foreign chunk's id; a scan after damage meets it inside the payload."""
    lie = bytearray(block_of(os.urandom(50)).header)
    victim = chunk_id(b"victim")
    lie[-32:] = victim
    lie[16:20] = crc32(lie[20:], crc32(lie[:16])).to_bytes(4, "little")
    carrier = os.urandom(200) + bytes(lie) + os.urandom(300)
    backend = MemoryBackend()
    writer = PackWriter(backend, PackKind.DATA)
    writer.add(block_of(carrier))
    writer.add(block_of(b"victim"))
    info = writer.seal()
    data = bytearray(backend.read(info.name.key))
    data[info.blocks[0].offset] ^= 1
    data[-1] ^= 1
    backend.put(info.name.key, bytes(data))
    scan = scan_pack(backend, info.name, info.size, COMPRESSION)
    assert [(b.offset, [s.id for s in b.objects]) for b in scan.info.blocks] == [(info.blocks[1].offset, [victim])]


def trailer(table: bytes, count: int, *, table_bytes: int | None = None) -> bytes:
    length = len(table) if table_bytes is None else table_bytes
    check = crc32(struct.pack("<II", length, count), crc32(table))
    return table + struct.pack("<IIIxxxx8s", length, count, check, b"VFSPEND\x01")


def test_trailers_that_lie_are_refused() -> None:
    head = b"VFSPACK\x01\x01" + bytes(7)
    block = block_of(b"abc")
    raw = block.header + bytes(block.payload)
    good, name = store(head + raw + trailer(block.header, 1))
    assert len(read_info(good, name, good.size(name.key)).blocks) == 1
    node = encode_block([StoredObject(ObjectType.NODE, 3, node_id(b"abc"))], [b"abc"], COMPRESSION)
    for data in (
        head + raw + trailer(block.header, 2),
        head + raw + trailer(block.header * 2, 2),
        head + raw + trailer(block.header[:-1], 1),
        head + raw + trailer(b"", 0),
        head + raw + trailer(block.header, 1, table_bytes=(1 << 32) - 1),
        head + raw + b"x" + trailer(block.header, 1),
        head + node.header + bytes(node.payload) + trailer(node.header, 1),
        trailer(b"", 0),
        b"",
    ):
        backend, name = store(data)
        with pytest.raises(BadPack):
            read_info(backend, name, len(data))
        assert verify_pack(backend, name, len(data), COMPRESSION).damage


def test_a_file_of_impossible_size_is_not_read() -> None:
    name = PackName(PackKind.DATA, "00" * 16)
    scan = scan_pack(MemoryBackend(), name, PACK_BYTES_MAX + 1, COMPRESSION)
    assert [damage.reason for damage in scan.damage] == ["the pack's size is impossible"]


def test_a_pack_under_a_wrong_name_is_noticed() -> None:
    backend = MemoryBackend()
    info, objects = make_pack(backend)
    other = PackName(PackKind.DATA, "ab" * 16)
    backend.put(other.key, backend.read(info.name.key))
    scan = verify_pack(backend, other, info.size, COMPRESSION)
    assert [damage.reason for damage in scan.damage] == ["the pack's bytes do not match its name"]
    assert found(scan, backend.read(other.key)) == objects


def test_a_pack_stays_within_its_limits() -> None:
    backend = MemoryBackend()
    writer = PackWriter(backend, PackKind.DATA)
    big = Block(block_of(b"x").header, bytes(16 * 1024 * 1024), ())
    added = 0
    while writer.fits(big):
        writer.add(big)
        added += 1
    assert added == 3
    info = writer.seal()
    assert info.size <= PACK_BYTES_MAX
    many = PackWriter(backend, PackKind.DATA)
    group = block_of(*(b"%d" % number for number in range(4096)))
    while many.fits(group):
        many.add(group)
    assert sum(len(block.objects) for block in many.seal().blocks) == PACK_OBJECTS_MAX
