"""The places of a leaf's small files, which the native session layer looks up all at once."""

from __future__ import annotations

import os
import random

import msgspec
import pytest

from support.native_layer import CHUNK_BYTES_MAX, DIRECTORY_INO, Kernel
from support.native_leaf import CHUNK_BYTES, ROW, Leaf
from support.native_pack import Pack
from support.waiting import wait_until
from vfs.model.nodes import NodeKind, encode_node
from vfs.model.objects import ChunkRef, Entry, Form, Kind
from vfs.native.session import Found, Prepared

SIZES = [1, 4096, CHUNK_BYTES, CHUNK_BYTES + 1, 100_000, CHUNK_BYTES_MAX]


def _located(kernel: Kernel, pack: Pack, sizes: list[int] = SIZES) -> Leaf:
    leaf = Leaf(kernel, pack, sizes)
    assert leaf.keep()
    assert leaf.locate()
    return leaf


def test_files_of_a_located_leaf_are_read_without_asking(kernel: Kernel, pack: Pack) -> None:
    leaf = _located(kernel, pack)
    for at in random.Random(1).sample(range(len(SIZES)), len(SIZES)):
        assert leaf.prepare(at) == Prepared.YES
        assert pack.read(leaf.ino(at), None) == leaf.contents[at]
    assert not pack.looked_up


def test_the_second_file_of_a_leaf_makes_all_of_them_worth_locating(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, SIZES)
    assert leaf.prepare(0) == Prepared.NO
    assert leaf.keep()
    assert [leaf.prepare(at) for at in range(4)] == [Prepared.NO, Prepared.WORTH_LOCATING, Prepared.NO, Prepared.NO]
    assert leaf.locate()
    assert leaf.prepare(0) == Prepared.YES
    assert kernel.session.prepare_at(DIRECTORY_INO, leaf.first + len(SIZES), leaf.ino(0)) == Prepared.NO
    assert kernel.session.prepare_at(DIRECTORY_INO, leaf.first - 1, leaf.ino(0)) == Prepared.NO
    kernel.session.drop_leaves(DIRECTORY_INO)
    assert leaf.prepare(0) == Prepared.NO


@pytest.mark.parametrize(
    "changes",
    [
        {"hole_bytes": 5, "form": Form.LIST},
        {"linked": True},
        {"size": CHUNK_BYTES_MAX + 1},
        {"form": Form.TINY},
        # The id of a chunk may have a NUL in it, which no target has.
        {"kind": Kind.SYMLINK, "form": Form.EMPTY, "size": 32, "content": b"x" * 32},
    ],
)
def test_other_entries_have_no_place(kernel: Kernel, pack: Pack, changes: dict[str, object]) -> None:
    leaf = Leaf(kernel, pack, [5000, 5000])
    leaf.entries[0] = msgspec.structs.replace(leaf.entries[0], **changes)
    leaf.lists[leaf.entries[0].content] = encode_node(NodeKind.CHUNKS, 0, [ChunkRef(leaf.pieces[0][0].id, 5000)])
    assert leaf.keep()
    assert leaf.locate()
    assert leaf.prepare(0) == Prepared.NO
    assert leaf.prepare(1) == Prepared.YES
    assert [file.found for file in leaf.find(0, 1, 2)] == [Found.NO_PLACE, Found.PLACE, Found.NOT_LOCATED]


def _list(*runs: tuple[bytes, int], level: int = 0, kind: NodeKind = NodeKind.CHUNKS) -> bytes:
    node = bytearray(encode_node(NodeKind.CHUNKS, 0, [ChunkRef(id_, size) for id_, size in runs]))
    node[:2] = kind, level
    return bytes(node)


def _wrong_lists(leaf: Leaf) -> list[bytes]:
    first, second = ((piece.id, piece.size) for piece in leaf.pieces[1])
    right = leaf.lists[leaf.entries[1].content]
    return [
        b"",
        right[:-1],
        right + b"\0",
        _list(first),
        _list(first, second, second),
        _list(first, (second[0], second[1] + 1)),
        _list(first, (second[0][:-1], second[1])),
        _list(first, (b"", second[1])),
        _list(first, second, level=1),
        _list(first, second, kind=NodeKind.ENTRIES),
        bytes((NodeKind.CHUNKS, 0)) + b"\xdd\xff\xff\xff\xff",
        # A size that is not in its shortest form.
        right.replace(second[1].to_bytes(2, "big"), b"", 1)[:-1] + b"\xce" + second[1].to_bytes(4, "big"),
        # So many of no bytes that they would fill all room.
        bytes((NodeKind.CHUNKS, 0)) + b"\xdc\xff\xff" + (b"\x92\xc4\x20" + bytes(32) + b"\x00") * 20,
    ]


def test_a_list_that_is_wrong_gives_its_file_no_place(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [5000, 40_000, 50_000])
    key = leaf.entries[1].content
    right = leaf.lists[key]
    for wrong in _wrong_lists(leaf):
        leaf.lists[key] = wrong
        assert leaf.keep()
        assert leaf.locate()
        assert [leaf.prepare(at) for at in range(3)] == [Prepared.YES, Prepared.NO, Prepared.YES], wrong
        assert pack.read(leaf.ino(2), None) == leaf.contents[2]
    leaf.lists[key] = right
    assert leaf.keep()
    assert leaf.locate()
    assert leaf.prepare(1) == Prepared.YES


def test_a_chunk_that_the_index_does_not_find_gives_its_file_no_place(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [40_000, 5000])
    piece = leaf.pieces[0][1]
    right = leaf.rows[piece.id]
    fields = ROW.unpack(right)
    for wrong in (
        bytes(ROW.size),
        ROW.pack(2, *fields[1:]),
        ROW.pack(*fields[:3], fields[3] + 1, fields[4]),
        ROW.pack(*fields[:4], 2),
        b"\xff" * ROW.size,
    ):
        leaf.rows[piece.id] = wrong
        assert leaf.keep()
        assert leaf.locate()
        assert (leaf.prepare(0), leaf.prepare(1)) == (Prepared.NO, Prepared.YES)


def test_a_wrong_place_is_found_out_when_it_is_read(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [5000, 5000])
    here, there = leaf.pieces[0][0], leaf.pieces[1][0]
    leaf.rows[here.id] = leaf.rows[there.id]
    assert leaf.keep()
    assert leaf.locate()
    assert leaf.prepare(0) == Prepared.YES
    pack.refuses(leaf.ino(0), pack.place(here._replace(offset=there.offset)))


def test_answers_for_another_number_of_chunks_are_refused(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [5000, 5000])
    assert leaf.keep()
    found: list[bytes] = []

    def find(ids: list[bytes]) -> tuple[bytes, list[tuple[int, int]]]:
        found.extend(ids)
        kernel.session.drop_leaves(DIRECTORY_INO)
        return b"".join(leaf.rows[key] for key in ids), [(1, leaf.descriptor)]

    assert not kernel.session.locate_leaf(DIRECTORY_INO, leaf.first, lambda _: [], find)
    assert found == [piece.id for (piece,) in leaf.pieces]
    assert not leaf.locate()


def test_places_stay_until_a_pack_is_removed(kernel: Kernel, pack: Pack) -> None:
    before = len(os.listdir("/proc/self/fd"))
    leaf = _located(kernel, pack)
    kernel.session.drop_places()
    assert leaf.prepare(0) == Prepared.YES
    pack.path.unlink()
    kernel.session.drop_places()
    wait_until(lambda: len(os.listdir("/proc/self/fd")) == before)
    assert leaf.prepare(0) == Prepared.NO
    # It is found again where the index has it then.
    assert leaf.prepare(1) == Prepared.WORTH_LOCATING


def test_a_program_that_reads_more_leaves_than_are_kept_locates_few(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [5000] * 2)
    # Of such leaves some twenty are kept.
    target = b"x" * 4000
    leaf.entries += [Entry(b"%05d" % at, Kind.SYMLINK, 0, 0, 0, 0, 4000, target) for at in range(2, 200)]
    located = 0
    for _ in range(5):
        for leaf.first in range(0, 60 * 200, 200):
            assert leaf.keep()
            assert leaf.prepare(0) == Prepared.NO
            if leaf.prepare(1) == Prepared.WORTH_LOCATING:
                located += 1
                assert leaf.locate()
    assert 20 < located < 60


def test_no_more_packs_are_kept_open_than_there_is_room_for(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [5000])
    (key,) = leaf.rows
    fields = ROW.unpack(leaf.rows[key])[1:]
    before = len(os.listdir("/proc/self/fd"))
    for leaf.first in range(300):
        leaf.rows = {key: ROW.pack(leaf.first + 1, *fields)}
        leaf.pack = leaf.first + 1
        assert leaf.keep()
        assert leaf.locate()
    assert len(os.listdir("/proc/self/fd")) == before + 256
    found = [file.found for file in kernel.session.find_files(DIRECTORY_INO, range(300))]
    assert found == [Found.PLACE] * 256 + [Found.NO_PLACE] * 44
    kernel.session.drop_leaves(DIRECTORY_INO)
    assert len(os.listdir("/proc/self/fd")) == before
    assert leaf.keep()
    assert leaf.locate()
    assert leaf.prepare(0) == Prepared.YES


def test_a_leaf_of_the_most_entries_is_located_as_far_as_there_is_room(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [CHUNK_BYTES + 5000])
    one = leaf.entries[0]
    leaf.entries = [Entry(b"%05d" % at, one.kind, 0, 0, 0, 0, one.size, one.content, one.form) for at in range(2048)]
    assert leaf.keep()
    assert leaf.locate()
    found = [file.found for file in leaf.find(*range(2048))]
    assert found == [Found.PLACE] * 256 + [Found.NO_PLACE] * 1792


def test_leaves_of_the_same_positions_replace_each_other(kernel: Kernel, pack: Pack) -> None:
    """A hostile tree may say that a leaf begins within another one."""
    leaf = Leaf(kernel, pack, [5000] * 20)
    other = Leaf(kernel, pack, [6000] * 20, leaf.first + 10)
    for one in (leaf, other):
        assert one.keep()
        assert one.locate()
    assert [file.found for file in leaf.find(0, 9, 10, 29)] == [Found.NOT_LOCATED] * 2 + [Found.PLACE] * 2
    assert kernel.session.prepare_at(DIRECTORY_INO, leaf.first + 12, leaf.ino(12)) == Prepared.NO
    assert other.prepare(2) == Prepared.YES


def test_a_leaf_that_is_handed_over_again_keeps_its_places(kernel: Kernel, pack: Pack) -> None:
    leaf = _located(kernel, pack)
    assert leaf.keep()
    assert leaf.prepare(0) == Prepared.YES
    leaf.entries[0] = msgspec.structs.replace(leaf.entries[0], mode=0)
    assert leaf.keep()
    assert leaf.prepare(0) == Prepared.NO


def test_what_was_looked_up_in_vain_is_not_looked_up_again(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [5000] * 5)

    def fail(_: list[bytes]) -> tuple[bytes, list[tuple[int, int]]]:
        raise KeyError

    assert leaf.keep()
    with pytest.raises(KeyError):
        kernel.session.locate_leaf(DIRECTORY_INO, leaf.first, lambda _: [], fail)
    assert [leaf.prepare(at % 5) for at in range(20)] == [Prepared.NO] * 20
    assert [file.found for file in leaf.find(0, 4)] == [Found.NO_PLACE] * 2
