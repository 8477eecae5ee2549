"""TreeBlock: what a block of nodes gives is what was put, or nothing."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Sequence

import pytest

from vfs.model.ids import chunk_id, commit_id, node_id
from vfs.model.nodes import NodeKind, encode_node
from vfs.model.objects import ChunkRef, Entry, Form, Kind, TinyItem
from vfs.store.packs import tree_blocks
from vfs.store.packs.blocks import DamagedObject, ObjectType, StoredObject, encode_block, object_id_of
from vfs.store.packs.compression import Compression
from vfs.store.packs.tree_blocks import TreeBlock, open_tree_block

PLAIN, WITHOUT_IDS = Compression(), Compression(node_blocks=True)


def small_lists(count: int) -> list[bytes]:
    source = random.Random(count)
    return [encode_node(NodeKind.CHUNKS, 0, [ChunkRef(source.randbytes(32), 70_000)]) for _ in range(count)]


def directory(files: int) -> list[bytes]:
    """Returns leaves of tiny files, and the entries that name their contents."""
    source = random.Random(files)
    items = [TinyItem(b"file%05d" % number, b"%d " % source.getrandbits(400) * 8) for number in range(files)]
    leaves = [encode_node(NodeKind.TINY, 0, items[start : start + 16]) for start in range(0, files, 16)]
    entries = [
        Entry(item.name, Kind.FILE, 0o644, 0, 0, 1, len(item.data), chunk_id(item.data), Form.TINY) for item in items
    ]
    return [*leaves, encode_node(NodeKind.ENTRIES, 0, entries)]


def block_of(plains: Sequence[bytes], compression: Compression) -> bytes:
    objects = [StoredObject(ObjectType.NODE, len(plain), node_id(plain)) for plain in plains]
    block = encode_block(objects, plains, compression)
    return block.header + bytes(block.payload)


def found_in(block: TreeBlock, plain: bytes) -> bytes | None:
    view = block.get(node_id(plain), ObjectType.NODE)
    return None if view is None else bytes(view)


def test_the_object_and_all_that_came_with_it_are_found() -> None:
    for plains in (small_lists(1), small_lists(100), directory(5)):
        for compression in (PLAIN, WITHOUT_IDS):
            block = open_tree_block(block_of(plains, compression), node_id(plains[-1]), "p", compression)
            assert list(block.ids) == [node_id(plain) for plain in plains]
            assert [found_in(block, plain) for plain in plains] == plains


def test_of_a_block_in_parts_neighbours_of_the_part_are_there_and_no_others() -> None:
    plains = directory(400)
    block = open_tree_block(block_of(plains, WITHOUT_IDS), node_id(plains[0]), "p", WITHOUT_IDS)
    assert [found_in(block, plain) for plain in plains[:2]] == plains[:2]
    assert node_id(plains[-2]) not in block.ids


def test_an_object_is_hashed_when_it_is_first_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []

    def note(kind: int, plain: bytes) -> bytes:
        hashed.append(bytes(plain))
        return object_id_of(kind, plain)

    monkeypatch.setattr(tree_blocks, "object_id_of", note)
    plains = small_lists(100)
    block = open_tree_block(block_of(plains, PLAIN), node_id(plains[7]), "p", PLAIN)
    assert not hashed
    for number in (7, 8, 7, 8):
        assert found_in(block, plains[number]) == plains[number]
    assert hashed == plains[7:9]


def test_an_object_of_one_type_is_never_given_as_another() -> None:
    plain = small_lists(1)[0]
    for kind, other, object_id in (
        (ObjectType.NODE, ObjectType.COMMIT, node_id(plain)),
        (ObjectType.COMMIT, ObjectType.NODE, commit_id(plain)),
    ):
        block = TreeBlock([object_id], [len(plain)], plain)
        for _ in range(2):
            assert bytes(block.get(object_id, kind) or b"") == plain
            assert block.get(object_id, other) is None


def test_damaged_bytes_are_not_given_and_neighbours_are() -> None:
    plains = small_lists(3)
    damaged = bytearray(b"".join(plains))
    damaged[len(plains[0]) + 20] ^= 1
    block = TreeBlock([node_id(plain) for plain in plains], [len(plain) for plain in plains], damaged)
    for _ in range(2):
        assert [found_in(block, plain) for plain in plains] == [plains[0], None, plains[2]]


@pytest.mark.parametrize("compression", [PLAIN, WITHOUT_IDS])
def test_no_flipped_bit_gives_wrong_bytes_or_another_error(compression: Compression) -> None:
    plains = [*directory(40), *small_lists(5)]
    good = block_of(plains, compression)
    for at in range(0, len(good), max(1, len(good) // 700)):
        bad = bytearray(good)
        bad[at] ^= 1 << (at % 8)
        for plain in (plains[0], plains[2], plains[-1]):
            try:
                block = open_tree_block(bytes(bad), node_id(plain), "p", compression)
            except DamagedObject:
                continue
            assert found_in(block, plain) in (None, plain)


def test_a_block_that_lacks_the_object_or_is_cut_is_an_error() -> None:
    good = block_of(small_lists(3), PLAIN)
    for raw, wanted in ((good, bytes(32)), (good + b"x", node_id(small_lists(3)[0])), (good[:-1], bytes(32))):
        with pytest.raises(DamagedObject, match="another block") as caught:
            open_tree_block(raw, wanted, "p", PLAIN)
        assert (caught.value.object_id, caught.value.pack) == (wanted, "p")
    with pytest.raises(DamagedObject, match="cut short"):
        open_tree_block(good[:9], bytes(32), "p", PLAIN)


def test_the_cost_is_about_what_a_block_takes_in_memory() -> None:
    raws = [
        (block_of(plains, PLAIN), node_id(plains[0])) for plains in (small_lists(number) for number in range(1, 200))
    ]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        blocks = [open_tree_block(raw, wanted, "p", PLAIN) for raw, wanted in raws]
        kept = {found: block for block in blocks for found in block.ids}
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(kept) == 199 * 100
    assert 0.8 < sum(block.cost for block in blocks) / taken < 1.25


def test_of_an_object_that_a_block_has_twice_the_right_copy_is_found() -> None:
    plains = small_lists(3)
    key = node_id(plains[0])
    stored = [StoredObject(ObjectType.NODE, len(plain), key) for plain in (plains[1], plains[0])]
    block = encode_block(stored, [plains[1], plains[0]], PLAIN)
    found = open_tree_block(bytes(block.header) + bytes(block.payload), key, "p", PLAIN)
    for _ in range(2):
        assert bytes(found.get(key, ObjectType.NODE) or b"") == plains[0]
