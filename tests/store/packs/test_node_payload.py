"""Blocks of nodes without ids: round trips, what is left out, and payloads that lie."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.model.ids import chunk_id, node_id
from vfs.model.nodes import NodeKind, encode_node
from vfs.model.objects import ChildRef, ChunkRef, Entry, Form, Kind, TinyItem
from vfs.store.packs.blocks import (
    BadBlock,
    Block,
    DamagedObject,
    ObjectType,
    StoredObject,
    encode_block,
    find_object,
    object_id_of,
    open_block,
    parse_header,
)
from vfs.store.packs.compression import BadFrame, Codec, Compression
from vfs.store.packs.node_payload import PART_BYTES, NodePayload, pack_nodes

OLD, NEW = Compression(), Compression(node_blocks=True)
MARK = b"\xc4\x20"


def stored_objects(plains: Sequence[bytes]) -> list[StoredObject]:
    return [StoredObject(ObjectType.NODE, len(plain), node_id(plain)) for plain in plains]


def block_of(plains: Sequence[bytes], compression: Compression = NEW) -> Block:
    return encode_block(stored_objects(plains), plains, compression)


def raw(block: Block) -> bytes:
    return block.header + bytes(block.payload)


def with_payload(block: Block, payload: bytes) -> bytes:
    """Returns the block with another payload, under a header that is right for it."""
    head = struct.pack("<4sBBHII", b"VBK1", block.header[4], 0, len(block.objects), len(payload), _plain_bytes(block))
    records = block.header[20:]
    return head + struct.pack("<I", crc32(records, crc32(head))) + records + payload


def _plain_bytes(block: Block) -> int:
    return sum(stored.size for stored in block.objects)


def parts_of(block: Block) -> NodePayload:
    return NodePayload(block.payload, [(stored.size, stored.id) for stored in block.objects], NEW)


def directory(seed: int, files: int, size: int = 900) -> list[bytes]:
    """Returns a directory of tiny files as a writer stores it: leaves, the node above them, the entries."""
    source = random.Random(seed)
    items = [
        TinyItem(b"file-%05d" % number, b"%d " % source.getrandbits(400) * (size // 120)) for number in range(files)
    ]
    leaves = [encode_node(NodeKind.TINY, 0, items[start : start + 16]) for start in range(0, files, 16)]
    children = [
        ChildRef(items[min(start + 15, files - 1)].name, node_id(leaf), 16, 16, 16 * size)
        for start, leaf in zip(range(0, files, 16), leaves, strict=True)
    ]
    entries = [
        Entry(
            item.name,
            Kind.FILE,
            0o644,
            0,
            0,
            source.getrandbits(60),
            len(item.data),
            chunk_id(item.data),
            Form.TINY,
        )
        for item in items
    ]
    return [*leaves, encode_node(NodeKind.TINY, 1, children), encode_node(NodeKind.ENTRIES, 0, entries)]


IDS = st.binary(min_size=32, max_size=32)
PIECES = st.one_of(IDS.map(lambda found: MARK + found), st.binary(max_size=70), st.just(MARK), st.just(b"\xc4"))
ANY = st.lists(PIECES, max_size=12).map(b"".join)
TINY_LEAVES = st.dictionaries(
    st.binary(min_size=1, max_size=9), st.one_of(ANY, st.binary(max_size=300)).filter(bool), min_size=1, max_size=9
).map(lambda files: encode_node(NodeKind.TINY, 0, [TinyItem(name, data) for name, data in sorted(files.items())]))


@st.composite
def blocks(draw: st.DrawFn) -> list[bytes]:
    """Objects of which later ones name earlier ones and contents of their tiny files, mixed with any other bytes."""
    plains: list[bytes] = []
    known: list[bytes] = []
    for _ in range(draw(st.integers(1, 9))):
        if draw(st.booleans()):
            leaf = draw(TINY_LEAVES)
            plains.append(leaf)
        else:
            names = draw(st.lists(st.one_of(IDS, st.sampled_from(known) if known else IDS), max_size=9))
            plains.append(draw(ANY) + b"".join(MARK + found + draw(st.binary(max_size=4)) for found in names))
        known.append(node_id(plains[-1]))
        known += [chunk_id(plains[-1][at : at + 8]) for at in range(0, min(16, len(plains[-1])), 8)]
        if plains[-1][:2] == b"\x02\x00":
            known += [chunk_id(data) for data in _contents(plains[-1])]
    return plains


def _contents(leaf: bytes) -> list[bytes]:
    try:
        return [data for _, data in msgspec.msgpack.decode(leaf[2:], type=list[tuple[bytes, bytes]])]
    except msgspec.MsgspecError:
        return []


@given(blocks())
def test_objects_come_back_as_they_went_in(plains: list[bytes]) -> None:
    ids = [node_id(plain) for plain in plains]
    payload = pack_nodes(ids, plains, NEW)
    objects = [(len(plain), found) for plain, found in zip(plains, ids, strict=True)]
    together = NodePayload(payload, objects, NEW).unpack(range(len(plains)))
    assert [bytes(together[number]) for number in range(len(plains))] == plains
    for number, plain in enumerate(plains):
        assert bytes(NodePayload(payload, objects, NEW).unpack([number])[number]) == plain


@given(blocks())
def test_a_block_in_the_new_form_is_read_like_one_in_the_old(plains: list[bytes]) -> None:
    for compression in (OLD, NEW):
        block = block_of(plains, compression)
        opened = open_block(parse_header(block.header), block.payload, OLD)
        assert [bytes(view) for _, view in opened.good] == plains
        assert all(view.readonly for _, view in opened.good)
        for plain in plains:
            assert find_object(raw(block), node_id(plain), "p", OLD) == plain


def test_ids_that_follow_from_a_block_are_not_in_it() -> None:
    plains = directory(1, 100)
    block = block_of(plains)
    assert parse_header(block.header).codec == Codec.NODES
    ids = [chunk_id(data) for leaf in plains[:7] for data in _contents(leaf)]
    assert not any(bytes(found) in bytes(block.payload) for found in ids)
    assert block.block_bytes < block_of(plains, OLD).block_bytes - 100 * 32
    # Of another directory's files nothing is known: their ids are all there.
    others = block_of([*plains[:8], directory(2, 100)[-1]])
    assert sum(part.stored for part in parts_of(others).parts) == 100
    assert sum(part.stored for part in parts_of(block).parts) == 0


def test_a_tiny_file_is_read_though_another_part_is_damaged() -> None:
    """The entries need the files' bytes, so they go with them; other files, and the node above them, do not."""
    plains = directory(1, 150)
    good = block_of(plains)
    parts = parts_of(good).parts
    assert len(parts) > 2
    assert sum(len(plains[number]) for number in parts[0].numbers) >= PART_BYTES
    damaged = bytearray(raw(good))
    at = len(good.header) + parts[0].offset
    damaged[at : at + 4] = bytes(4)
    lost = {node_id(plains[number]) for number in parts[0].numbers} | {node_id(plains[-1])}
    header = parse_header(good.header)
    opened = open_block(header, damaged[header.header_bytes :], OLD)
    assert {stored.id for stored in opened.bad} == lost
    for plain in plains:
        if node_id(plain) in lost:
            with pytest.raises(DamagedObject, match="compressed block"):
                find_object(bytes(damaged), node_id(plain), "p", OLD)
        else:
            assert find_object(bytes(damaged), node_id(plain), "p", OLD) == plain


def test_damage_takes_the_entries_of_its_own_directory_alone() -> None:
    """Though the entries of both, and those of the directory above, are in one part."""
    damaged_directory, other = directory(1, 40), directory(2, 40)
    above = encode_node(
        NodeKind.ENTRIES,
        0,
        [
            Entry(name, Kind.DIR, 0o755, 0, 0, 0, 1, node_id(nodes[-1]), tiny=node_id(nodes[-2]), files=40)
            for name, nodes in ((b"a", damaged_directory), (b"b", other))
        ],
    )
    plains = [*damaged_directory, *other, above]
    good = block_of(plains)
    parts = parts_of(good).parts
    assert [len(damaged_directory) - 1, len(plains) - 2, len(plains) - 1] in [part.numbers for part in parts]
    damaged = bytearray(raw(good))
    at = len(good.header) + parts[0].offset
    damaged[at : at + 4] = bytes(4)
    opened = open_block(parse_header(good.header), damaged[len(good.header) :], OLD)
    lost = {node_id(plains[number]) for number in parts[0].numbers} | {node_id(damaged_directory[-1])}
    assert {stored.id for stored in opened.bad} == lost
    for nodes in (other[-1], above):
        assert find_object(bytes(damaged), node_id(nodes), "p", OLD) == nodes


@pytest.mark.parametrize("files", [3, 40, 150])
def test_no_flipped_bit_gives_wrong_bytes_or_another_error(files: int) -> None:
    plains = directory(files, files, 300)
    good = raw(block_of(plains))
    header = parse_header(good)
    for at in range(0, len(good), max(1, len(good) // 700)):
        bad = bytearray(good)
        bad[at] ^= 1 << (at % 8)
        for plain in (plains[0], plains[-2], plains[-1]):
            try:
                assert find_object(bytes(bad), node_id(plain), "p", OLD) == plain
            except DamagedObject:
                continue
        try:
            opened = open_block(header, bad[header.header_bytes :], OLD)
        except BadFrame:
            continue
        assert all(object_id_of(stored.type, view) == stored.id for stored, view in opened.good)
        assert len(opened.good) + len(opened.bad) == len(plains)


@given(blocks(), st.data())
def test_a_payload_that_lies_is_damage_and_nothing_else(plains: list[bytes], data: st.DataObject) -> None:
    """Whatever stands in the payload, behind a header whose checksum is right, and in its frames."""
    block = block_of(plains)
    if parse_header(block.header).codec != Codec.NODES:
        return
    payload = bytearray(block.payload)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(payload) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "copy"]))
        if kind == "flip":
            payload[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del payload[at : at + data.draw(st.integers(1, 40))]
        elif kind == "insert":
            payload[at:at] = data.draw(st.binary(max_size=9))
        else:
            payload[at : at + 14] = payload[:14]
        if not payload:
            return
    _reads_or_is_damaged(with_payload(block, bytes(payload)), plains)


@given(st.lists(st.integers(0, 0xFFFF), max_size=30), st.binary(max_size=60), st.integers(0, 3), st.integers(0, 3))
def test_a_frame_that_lies_is_damage_and_nothing_else(numbers: list[int], rest: bytes, leaves: int, ids: int) -> None:
    """Counts, places and bytes of a part at will: references to itself, to what comes later, to files that are not."""
    plains = [*directory(1, 40)[:leaves], bytes(200), bytes(100)]
    frame = struct.pack(f"<{len(numbers)}H", *numbers) + rest
    block = block_of([*directory(1, 40)[:leaves], b"text " * 40, b"text " * 20])
    first = NEW.compress_densely(struct.pack(f"<{leaves}H", *[0] * leaves) + b"".join(plains[:leaves]))
    second = NEW.compress_densely(frame)
    heads = [(2, ids, len(second), len(frame))]
    bodies = second + bytes(32 * ids)
    if leaves:
        size = 2 * leaves + sum(map(len, plains[:leaves]))
        heads, bodies = [(leaves, 0, len(first), size), *heads], first + bodies
    table = b"".join(struct.pack("<HIII", *head) for head in heads)
    members = bytes(leaves) + bytes([len(heads) - 1] * 2)
    payload = bytes((len(heads),)) + table + members + bodies
    header = bytearray(block.header)
    header[4] = Codec.NODES
    _reads_or_is_damaged(with_payload(block._replace(header=bytes(header)), payload), plains)


def _reads_or_is_damaged(raw_block: bytes, plains: Sequence[bytes]) -> None:
    try:
        header = parse_header(raw_block)
    except BadBlock:
        return
    for stored in header.objects:
        try:
            assert object_id_of(stored.type, find_object(raw_block, stored.id, "p", OLD)) == stored.id
        except DamagedObject:
            continue
    try:
        opened = open_block(header, raw_block[header.header_bytes :], OLD)
    except BadFrame:
        return
    assert {stored.id for stored, _ in opened.good} <= {node_id(plain) for plain in plains}


def test_a_node_takes_no_id_from_itself_or_from_a_node_that_lacks_its_own() -> None:
    """A chain of leaves, each of which would have to be whole for the next, ends at once."""
    leaf = encode_node(NodeKind.TINY, 0, [TinyItem(b"a", MARK + bytes(32))])
    count = 2000
    objects = [(len(leaf), bytes(32))] * count
    frame = struct.pack("<HHH", 1, 0, 1) + leaf[: -len(bytes(32))]
    packed = NEW.compress_densely(frame)
    parts = 250
    payload = (
        bytes((parts,))
        + struct.pack("<HIII", 1, 0, len(packed), len(frame)) * parts
        + bytes(range(parts))
        + packed * parts
    )
    for number in (0, 1, parts - 1):
        with pytest.raises(BadFrame, match=r"not before it|not whole"):
            NodePayload(payload, objects[:parts], NEW).unpack([number])


def test_a_frame_may_not_be_larger_than_its_objects() -> None:
    bomb = NEW.compress_densely(bytes(1 << 24))
    payload = bytes((1,)) + struct.pack("<HIII", 1, 0, len(bomb), 1 << 24) + b"\0" + bomb
    with pytest.raises(BadFrame, match="contradicts itself"):
        NodePayload(payload, [(1000, bytes(32))], NEW)


def test_lists_of_chunks_keep_their_ids_and_little_else() -> None:
    source = random.Random(1)
    runs = [ChunkRef(source.randbytes(32), 65536 + source.randrange(9000)) for _ in range(400)]
    plain = encode_node(NodeKind.CHUNKS, 0, runs)
    block = block_of([plain])
    assert bytes(parts_of(block).unpack([0])[0]) == plain
    assert 400 * 32 < len(block.payload) < 400 * 34.2
