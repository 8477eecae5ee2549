"""The places of a leaf's small files, which the native session layer looks up all at once."""

from __future__ import annotations

import os
import random
from array import array

import msgspec
import pytest

from support.native_layer import CHUNK_BYTES_MAX, DIRECTORY_INO, Kernel
from support.native_leaf import CHUNK_BYTES, ROW, Leaf, block_of
from support.native_pack import Pack
from support.waiting import wait_until
from vfs.model.ids import node_id
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


def test_the_first_file_of_a_leaf_makes_all_of_them_worth_locating(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, SIZES)
    assert leaf.prepare(0) == Prepared.NO
    assert leaf.keep()
    assert [leaf.prepare(at) for at in range(3)] == [Prepared.WORTH_LOCATING, Prepared.NO, Prepared.NO]
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
    # As if this were the id of a list.
    leaf.lists[leaf.entries[0].content] = encode_node(NodeKind.CHUNKS, 0, [ChunkRef(leaf.pieces[0][0].id, 5000)])
    assert leaf.keep()
    assert leaf.locate()
    assert leaf.prepare(0) == Prepared.NO
    assert leaf.prepare(1) == Prepared.YES
    assert [file.found for file in leaf.found(0, 1, 2)] == [Found.NO_PLACE, Found.PLACE, Found.NOT_LOCATED]


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


def _name(leaf: Leaf, at: int, node: bytes) -> None:
    """Has the file name this list."""
    leaf.entries[at] = msgspec.structs.replace(leaf.entries[at], content=node_id(node))
    leaf.lists[node_id(node)] = node


def test_a_list_that_is_wrong_gives_its_file_no_place(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [5000, 40_000, 50_000])
    right = leaf.lists[leaf.entries[1].content]
    for wrong in _wrong_lists(leaf):
        _name(leaf, 1, wrong)
        assert leaf.keep()
        assert leaf.locate()
        assert [leaf.prepare(at) for at in range(3)] == [Prepared.YES, Prepared.NO, Prepared.YES], wrong
        assert pack.read(leaf.ino(2), None) == leaf.contents[2]
    _name(leaf, 1, right)
    assert leaf.keep()
    assert leaf.locate()
    assert leaf.prepare(1) == Prepared.YES


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_lists_are_taken_out_of_blocks_of_nodes(kernel: Kernel, pack: Pack, is_shuffled: bool) -> None:
    leaf = Leaf(kernel, pack, [CHUNK_BYTES * chunks + 5000 for chunks in range(1, 9)])
    nodes = [bytes((NodeKind.ENTRIES, 0)) + os.urandom(size) for size in (1, 500, 3000)] + list(leaf.lists.values())
    if is_shuffled:
        random.Random(5).shuffle(nodes)
    leaf.blocks = [block_of(nodes[:6]), block_of(nodes[6:])]
    assert leaf.keep()
    assert leaf.locate()
    assert (len(leaf.asked), leaf.alone) == (2, [])
    for at in range(8):
        assert leaf.prepare(at) == Prepared.YES
        assert pack.read(leaf.ino(at), None) == leaf.contents[at]


def test_the_list_of_the_file_that_is_looked_up_is_asked_for_first(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [5000, *[CHUNK_BYTES + 5000 + at for at in range(5)]])
    for at in (4, 1, 5):
        leaf.asked = []
        assert leaf.keep()
        assert leaf.locate(at)
        others = [other for other in range(1, 6) if other != at]
        assert leaf.asked == [leaf.entries[each].content for each in (at, *others)]
        kernel.session.drop_leaves(DIRECTORY_INO)
    leaf.asked = []
    assert leaf.keep()
    assert leaf.locate(0)
    assert leaf.asked == [entry.content for entry in leaf.entries[1:]]


@pytest.mark.parametrize("chunks", [*range(1, 28), 28, 29, 60])
def test_a_node_is_hashed_as_python_does(kernel: Kernel, pack: Pack, chunks: int) -> None:
    """Up to 1,024 bytes; a larger one Python verifies."""
    leaf = Leaf(kernel, pack, [CHUNK_BYTES + 5000])
    piece, _ = leaf.pieces[0]
    node = encode_node(NodeKind.CHUNKS, 0, [ChunkRef(piece.id, 4000 - at) for at in range(chunks)])
    leaf.entries[0] = msgspec.structs.replace(leaf.entries[0], size=sum(4000 - at for at in range(chunks)))
    _name(leaf, 0, node)
    ids: list[bytes] = []
    leaf.on_find = ids.extend
    assert leaf.keep()
    leaf.locate()
    assert leaf.alone == ([node_id(node)] if len(node) > 1024 else [])
    assert ids == [piece.id] * chunks


@pytest.mark.parametrize("sizes", [[40_000, 5000], [40_000]])
def test_files_whose_lists_were_left_out_are_not_located(kernel: Kernel, pack: Pack, sizes: list[int]) -> None:
    leaf = Leaf(kernel, pack, sizes)
    right, leaf.lists = leaf.lists, {}
    leaf.is_partial = True
    files = range(len(sizes))
    assert leaf.keep()
    assert leaf.prepare(0) == Prepared.WORTH_LOCATING
    assert leaf.locate() == (len(sizes) > 1)
    # Nothing was found: it would not be either the next time.
    assert [file.found for file in leaf.found(*files)] == [Found.NO_PLACE, Found.PLACE][: len(sizes)]
    assert leaf.prepare(0) == Prepared.NO
    leaf.lists, leaf.is_partial = right, False
    assert leaf.locate()
    assert [file.found for file in leaf.found(*files)] == [Found.PLACE] * len(sizes)
    pack.path.unlink()
    kernel.session.drop_places()
    leaf.is_partial = True
    assert leaf.locate()
    kernel.session.drop_places()
    assert leaf.prepare(0) == Prepared.WORTH_LOCATING


def test_lists_that_were_left_out_are_asked_for_again_and_no_others(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [CHUNK_BYTES + 5000 + at for at in range(5)])
    right = leaf.lists
    ids = list(right)
    assert leaf.keep()
    leaf.is_partial = True
    for done in range(5):
        leaf.lists, leaf.asked = {ids[done]: right[ids[done]]}, []
        assert leaf.prepare(done) == Prepared.WORTH_LOCATING
        assert leaf.locate(done)
        assert leaf.asked == ids[done:]
        assert [file.found for file in leaf.found(*range(5))] == [Found.PLACE] * (done + 1) + [Found.NOT_LOCATED] * (
            4 - done
        )
        assert [leaf.prepare(at) for at in range(done + 1)] == [Prepared.YES] * (done + 1)
    assert pack.read(leaf.ino(2), None) == leaf.contents[2]


def test_a_node_with_another_id_is_not_taken_for_a_list(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [CHUNK_BYTES + 5000, CHUNK_BYTES + 6000, CHUNK_BYTES + 7000])
    lists, ids = list(leaf.lists.values()), list(leaf.lists)
    for at in range(3):
        swapped = [*lists]
        swapped[at] = lists[at - 1]
        leaf.blocks = [block_of(swapped, ids)]
        leaf.asked = []
        assert leaf.keep()
        assert leaf.locate()
        assert (leaf.asked, leaf.alone) == ([ids[0]], [])
        places = [Prepared.NO if number == at else Prepared.YES for number in range(3)]
        assert [leaf.prepare(number) for number in range(3)] == places
        kernel.session.drop_leaves(DIRECTORY_INO)


def test_a_list_that_is_not_in_its_block_is_left_out(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [CHUNK_BYTES + 5000, CHUNK_BYTES + 6000, 5000])
    right = block_of(list(leaf.lists.values()))
    # Behind what counts is what would make the last node right.
    cut = right._replace(plain_bytes=right.plain_bytes - 1)
    ends = [right.plain_bytes // 2, right.plain_bytes]
    leaf.blocks = [cut]
    assert leaf.keep()
    assert leaf.locate()
    assert [leaf.prepare(at) for at in range(3)] == [Prepared.YES, Prepared.NO, Prepared.YES]
    for wrong in ([ends[1], ends[0]], [ends[1] + 1, ends[1]], [2**32 - 1, 2**32 - 1], [0, 2**32 - 1], [0, 0]):
        leaf.blocks = [right._replace(ends=array("I", wrong).tobytes())]
        kernel.session.drop_leaves(DIRECTORY_INO)
        assert leaf.keep()
        assert leaf.locate()
        assert [file.found for file in leaf.found(0, 1, 2)] == [Found.NO_PLACE] * 2 + [Found.PLACE], wrong
    leaf.blocks = [right._replace(nodes=0)]
    kernel.session.drop_leaves(DIRECTORY_INO)
    assert leaf.keep()
    assert leaf.locate()
    assert [file.found for file in leaf.found(0, 1, 2)] == [Found.NO_PLACE] * 2 + [Found.PLACE]


def test_files_of_the_same_content_share_a_list(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [CHUNK_BYTES + 5000])
    leaf.entries = [msgspec.structs.replace(leaf.entries[0], name=b"%05d" % at) for at in range(3)]
    assert leaf.keep()
    assert leaf.locate()
    assert (len(leaf.asked), leaf.alone) == (1, [])
    assert [leaf.prepare(at) for at in range(3)] == [Prepared.YES] * 3


@pytest.mark.parametrize("chunks", [5, 7])
def test_more_chunks_than_there_is_room_for_have_no_place(kernel: Kernel, pack: Pack, chunks: int) -> None:
    """Of 1,024 chunks those of a file are kept, or none."""
    leaf = Leaf(kernel, pack, [CHUNK_BYTES * (chunks - 1) + 5000])
    leaf.entries = [msgspec.structs.replace(leaf.entries[0], name=b"%05d" % at) for at in range(256)]
    assert leaf.keep()
    assert leaf.locate()
    found = [file.found for file in leaf.found(*range(256))]
    most = 1024 // chunks
    assert found == [Found.PLACE] * most + [Found.NO_PLACE] * (256 - most)


def test_a_leaf_that_is_replaced_while_it_is_located_has_no_place(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [CHUNK_BYTES + 5000, 5000])
    other = Leaf(kernel, pack, [CHUNK_BYTES + 6000, 5000])
    assert leaf.keep()
    leaf.on_ask = other.keep
    leaf.rows |= other.rows
    assert leaf.locate()
    assert [file.found for file in other.found(0, 1)] == [Found.NO_PLACE, Found.PLACE]
    assert other.prepare(1) == Prepared.YES
    assert pack.read(other.ino(1), None) == other.contents[1]


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


def test_answers_for_another_number_of_chunks_are_refused(
    kernel: Kernel, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaf = Leaf(kernel, pack, [5000, 5000])
    assert leaf.keep()
    found: list[bytes] = []
    find = leaf.find

    def find_and_drop(ids: list[bytes]) -> tuple[bytes, list[tuple[int, int]]]:
        found.extend(ids)
        kernel.session.drop_leaves(DIRECTORY_INO)
        return find(ids)

    monkeypatch.setattr(leaf, "find", find_and_drop)
    assert not leaf.locate()
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
    assert leaf.prepare(0) == Prepared.WORTH_LOCATING
    # It is found again where the index has it then.
    assert leaf.locate()
    assert leaf.prepare(1) == Prepared.YES


@pytest.mark.parametrize(("wanted", "least", "most"), [(1, 20, 60), (7, 20, 60), (8, 300, 300)])
def test_a_program_that_reads_few_files_of_more_leaves_than_are_kept_locates_few(
    kernel: Kernel, pack: Pack, wanted: int, least: int, most: int
) -> None:
    leaf = Leaf(kernel, pack, [5000] * 2)
    # Of such leaves some twenty are kept.
    target = b"x" * 4000
    leaf.entries += [Entry(b"%05d" % at, Kind.SYMLINK, 0, 0, 0, 0, 4000, target) for at in range(2, 200)]
    located = 0
    for _ in range(5):
        for leaf.first in range(0, 60 * 200, 200):
            assert leaf.keep()
            if leaf.prepare(0) == Prepared.WORTH_LOCATING:
                located += 1
                assert leaf.locate()
            for _ in range(wanted - 1):
                leaf.prepare(1)
    assert least <= located <= most


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
    found = [file.found for file in leaf.found(*range(2048))]
    assert found == [Found.PLACE] * 256 + [Found.NO_PLACE] * 1792


def test_leaves_of_the_same_positions_replace_each_other(kernel: Kernel, pack: Pack) -> None:
    """A hostile tree may say that a leaf begins within another one."""
    leaf = Leaf(kernel, pack, [5000] * 20)
    other = Leaf(kernel, pack, [6000] * 20, leaf.first + 10)
    for one in (leaf, other):
        assert one.keep()
        assert one.locate()
    assert [file.found for file in leaf.found(0, 9, 10, 29)] == [Found.NOT_LOCATED] * 2 + [Found.PLACE] * 2
    assert kernel.session.prepare_at(DIRECTORY_INO, leaf.first + 12, leaf.ino(12)) == Prepared.NO
    assert other.prepare(2) == Prepared.YES


def test_a_leaf_that_is_handed_over_again_keeps_its_places(kernel: Kernel, pack: Pack) -> None:
    leaf = _located(kernel, pack)
    assert leaf.keep()
    assert leaf.prepare(0) == Prepared.YES
    leaf.entries[0] = msgspec.structs.replace(leaf.entries[0], mode=0)
    assert leaf.keep()
    assert leaf.prepare(0) == Prepared.WORTH_LOCATING


def test_what_was_looked_up_in_vain_is_not_looked_up_again(
    kernel: Kernel, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaf = Leaf(kernel, pack, [5000] * 5)

    def fail(_: list[bytes]) -> tuple[bytes, list[tuple[int, int]]]:
        raise KeyError

    monkeypatch.setattr(leaf, "find", fail)
    assert leaf.keep()
    with pytest.raises(KeyError):
        leaf.locate()
    assert [leaf.prepare(at % 5) for at in range(20)] == [Prepared.NO] * 20
    assert [file.found for file in leaf.found(0, 4)] == [Found.NO_PLACE] * 2
