"""Blocks and compression: round trips, and headers and frames that lie."""

from __future__ import annotations

import os
import struct
from zlib import crc32

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from support.threads import together
from vfs.errors import Corrupt
from vfs.model.ids import chunk_id, commit_id, node_id
from vfs.store.memory_cache import ByteCache
from vfs.store.packs.blocks import (
    BLOCK_OBJECTS_MAX,
    HEAD_BYTES,
    OBJECT_BYTES_MAX,
    BadBlock,
    Block,
    DamagedObject,
    ObjectType,
    StoredObject,
    encode_block,
    encode_chunk_blocks,
    find_object,
    open_block,
    parse_header,
)
from vfs.store.packs.compression import BadFrame, Codec, Compression

COMPRESSION = Compression()
_IDS = {ObjectType.CHUNK: chunk_id, ObjectType.NODE: node_id, ObjectType.COMMIT: commit_id}


def make(*plains: bytes, kind: ObjectType = ObjectType.CHUNK) -> Block:
    return encode_block([StoredObject(kind, len(plain), _IDS[kind](plain)) for plain in plains], plains, COMPRESSION)


@given(st.lists(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5), max_size=5))
def test_blocks_that_are_encoded_together_are_those_encoded_alone(groups: list[list[bytes]]) -> None:
    members = [([StoredObject(ObjectType.CHUNK, len(p), chunk_id(p)) for p in plains], plains) for plains in groups]
    together = [(block.objects, raw(block)) for block in encode_chunk_blocks(members, COMPRESSION)]
    alone = [encode_block(objects, plains, COMPRESSION) for objects, plains in members]
    assert together == [(block.objects, raw(block)) for block in alone]


def raw(block: Block) -> bytes:
    return block.header + bytes(block.payload)


def header_with(
    *, magic: bytes = b"VBK1", codec: int = 0, reserved: int = 0, count: int = 1, stored: int = 3, plain: int = 3,
    records: bytes | None = None,
) -> bytes:  # fmt: skip
    """Returns a header whose checksum is right, whatever it claims."""
    if records is None:
        records = struct.pack("<BI32s", 1, plain, chunk_id(b"abc"))
    head = struct.pack("<4sBBHII", magic, codec, reserved, count, stored, plain)
    return head + struct.pack("<I", crc32(records, crc32(head))) + records


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20), st.sampled_from(list(ObjectType)))
def test_objects_come_back_as_they_went_in(plains: list[bytes], kind: ObjectType) -> None:
    block = make(*plains, kind=kind)
    header = parse_header(block.header)
    assert header.block_bytes == block.block_bytes == len(raw(block))
    opened = open_block(header, block.payload, COMPRESSION)
    assert [bytes(view) for _, view in opened.good] == plains
    assert all(view.readonly for _, view in opened.good)
    assert not opened.bad
    for plain in plains:
        assert find_object(raw(block), _IDS[kind](plain), "p", COMPRESSION) == plain


def test_what_does_not_compress_is_stored_raw_and_not_copied() -> None:
    plain = os.urandom(80_000)
    block = make(plain)
    assert block.payload is plain
    assert parse_header(block.header).codec == Codec.RAW
    text = b"all work and no play\n" * 1000
    assert parse_header(make(text).header).codec == Codec.ZSTD
    assert len(make(text).payload) < 1000


def test_nodes_are_compressed_denser_than_chunks_and_read_alike() -> None:
    lines = [b"%d %.6f %.6f\n" % (number % 7, number * 0.37 % 1, number * 0.61 % 1) for number in range(800)]
    plain = b"".join(lines)
    chunk, node = make(plain), make(plain, kind=ObjectType.NODE)
    assert node.block_bytes < 0.9 * chunk.block_bytes
    assert COMPRESSION.decompress(Codec.ZSTD, node.payload, len(plain)) == plain
    highest = Compression(19)
    assert len(highest.compress(plain, is_dense=True)[1]) == len(highest.compress(plain)[1])


def test_the_same_bytes_under_another_type_are_another_object() -> None:
    block = make(b"bytes", kind=ObjectType.CHUNK)
    with pytest.raises(DamagedObject, match="another block"):
        find_object(raw(block), node_id(b"bytes"), "p", COMPRESSION)


@pytest.mark.parametrize("plains", [(b"x" * 5000, b"y" * 100, b"z"), (os.urandom(3000),), (b"",)])
def test_no_flipped_bit_of_a_block_gives_wrong_bytes(plains: tuple[bytes, ...]) -> None:
    good = raw(make(*plains))
    step = max(1, len(good) // 400)
    for at in range(0, len(good), step):
        bad = bytearray(good)
        bad[at] ^= 1 << (at % 8)
        for plain in plains:
            try:
                found = find_object(bytes(bad), chunk_id(plain), "p", COMPRESSION)
            except DamagedObject:
                continue
            assert found == plain


@pytest.mark.parametrize("cut", [0, 1, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 36, HEAD_BYTES + 37, -1])
def test_a_block_that_is_cut_short_is_damaged(cut: int) -> None:
    good = raw(make(b"abc" * 100))
    with pytest.raises(DamagedObject):
        find_object(good[:cut], chunk_id(b"abc" * 100), "p", COMPRESSION)


@pytest.mark.parametrize(
    "header",
    [
        header_with(magic=b"VBK2"),
        header_with(reserved=1),
        header_with(count=0, records=b""),
        header_with(count=BLOCK_OBJECTS_MAX + 1),
        header_with(stored=4),
        header_with(stored=(1 << 32) - 1, plain=(1 << 32) - 1),
        header_with(stored=3, plain=OBJECT_BYTES_MAX + 1),
        header_with(records=struct.pack("<BI32s", 1, 4, bytes(32))),
        header_with(records=struct.pack("<BI32s", 0, 3, bytes(32))),
        header_with(records=struct.pack("<BI32s", 4, 3, bytes(32))),
        header_with(count=2, records=struct.pack("<BI32sBI32s", 1, (1 << 32) - 1, bytes(32), 1, 4, bytes(32))),
    ],
)
def test_a_header_that_no_writer_makes_is_refused_though_its_checksum_is_right(header: bytes) -> None:
    parse_header(header_with())
    with pytest.raises(BadBlock):
        parse_header(header)


def test_a_header_that_claims_another_payload_is_refused() -> None:
    with pytest.raises(BadFrame):
        open_block(parse_header(header_with(codec=7)), b"abc", COMPRESSION)
    with pytest.raises(BadFrame):
        open_block(parse_header(header_with(codec=1)), b"abc", COMPRESSION)
    with pytest.raises(BadFrame):
        open_block(parse_header(header_with(stored=2)), b"ab", COMPRESSION)


@pytest.mark.parametrize("size", [1 << 28, 1, 99_999, 100_001])
def test_a_frame_that_states_another_size_is_refused_before_memory_is_taken(size: int) -> None:
    frame = zstandard.ZstdCompressor().compress(bytes(size))
    with pytest.raises(BadFrame):
        COMPRESSION.decompress(Codec.ZSTD, frame, 100_000)


def test_frames_without_a_size_cut_or_with_more_behind_are_refused() -> None:
    plain = b"text " * 1000
    frame = zstandard.ZstdCompressor().compress(plain)
    sizeless = zstandard.ZstdCompressor(write_content_size=False).compress(plain)
    for bad in (sizeless, frame[:-1], frame + b"x", frame + frame, b"", b"\0" * 50):
        with pytest.raises(BadFrame):
            COMPRESSION.decompress(Codec.ZSTD, bad, len(plain))
    assert COMPRESSION.decompress(Codec.ZSTD, frame, len(plain)) == plain


def test_threads_share_a_compression_without_damage() -> None:
    texts = [b"%d " % number * 20_000 for number in range(4)]

    def work(number: int) -> None:
        for _ in range(100):
            codec, stored = COMPRESSION.compress(texts[number])
            assert COMPRESSION.decompress(codec, stored, len(texts[number])) == texts[number]

    together(4, work)


def test_one_damaged_object_does_not_take_its_neighbours_along() -> None:
    plains = [os.urandom(100) for _ in range(3)]
    block = bytearray(raw(make(*plains)))
    block[-150] ^= 1
    cache: ByteCache[memoryview] = ByteCache(1 << 20)
    assert find_object(bytes(block), chunk_id(plains[0]), "p", COMPRESSION, cache) == plains[0]
    neighbour = cache.get(chunk_id(plains[2]))
    assert neighbour is not None
    assert bytes(neighbour) == plains[2]
    assert cache.get(chunk_id(plains[1])) is None
    with pytest.raises(DamagedObject) as caught:
        find_object(bytes(block), chunk_id(plains[1]), "packs/x", COMPRESSION)
    assert caught.value.object_id == chunk_id(plains[1])
    assert "packs/x" in caught.value.message
    assert isinstance(caught.value, Corrupt)
