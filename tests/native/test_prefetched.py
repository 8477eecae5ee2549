"""Small files that the native session layer reads and verifies before the kernel asks for them."""

from __future__ import annotations

import os
import struct

import pytest

from support.native_layer import BATCH_FORGET, DIRECTORY_INO, FORGET, LOOKUP, READ_BYTES_MAX, Kernel
from support.native_leaf import CHUNK_BYTES, Leaf
from support.native_names import PREFIX, SLOT, Names
from support.native_pack import Pack
from support.waiting import wait_until
from vfs.model.nodes import NodeKind, encode_node
from vfs.native.session import ReadKind

SIZES = [100, 4096, CHUNK_BYTES, 100_000] * 10


@pytest.fixture
def leaf(kernel: Kernel, pack: Pack) -> Leaf:
    kernel.session.forget_first_reads()
    made = Leaf(kernel, pack, SIZES)
    assert made.keep()
    assert made.locate()
    return made


def _read(pack: Pack, leaf: Leaf, at: int, offset: int = 0, size: int = READ_BYTES_MAX) -> bytes:
    """Returns what is read of a file, which the layer has to answer without asking."""
    data = pack.read(leaf.ino(at), None, offset, size)
    assert not pack.looked_up
    return data


def test_prefetched_files_are_answered_without_asking(pack: Pack, leaf: Leaf) -> None:
    leaf.prefetch(*range(len(SIZES)))
    for at, content in enumerate(leaf.contents):
        assert _read(pack, leaf, at, len(content) // 3, 1) == content[len(content) // 3 :][:1]
        assert _read(pack, leaf, at) == content


def test_a_read_that_is_faster_than_the_thread_is_answered_too(pack: Pack, leaf: Leaf) -> None:
    for _ in range(4):
        for at in (7, 3, 39):
            leaf.prefetch(*range(at % 5, len(SIZES)))
            assert _read(pack, leaf, at) == leaf.contents[at]


def test_the_read_of_one_file_is_told(kernel: Kernel, pack: Pack, leaf: Leaf) -> None:
    kernel.session.watch(DIRECTORY_INO, is_watched=True)
    leaf.prefetch(*range(8), told=4)
    _settle(pack, leaf, 7)
    for at in range(8):
        for size in (1, READ_BYTES_MAX):
            _read(pack, leaf, at, 0, size)
    reads = kernel.session.take_first_reads()
    assert {read.ino for read in reads if read.kind != ReadKind.PREFETCHED} == {leaf.ino(4)}
    assert {read.ino for read in reads} == {leaf.ino(at) for at in range(8)}


def _settle(pack: Pack, leaf: Leaf, last: int) -> None:
    """Waits until a file is prefetched, and with it all that were before."""
    assert _read(pack, leaf, last, 0, 1) == leaf.contents[last][:1]


def test_a_damaged_file_is_left_to_python(kernel: Kernel, pack: Pack, leaf: Leaf) -> None:
    for _ in range(5):
        pack.flip(leaf.pieces[2][0].offset + 1000)
        leaf.prefetch(0, 1, 2, 3)
        passed = pack.asked(leaf.ino(2), None)
        if passed is None:
            assert pack.given_back().ino == leaf.ino(2)
        assert not kernel.has_answer()
        pack.flip(leaf.pieces[2][0].offset + 1000)
        kernel.send(FORGET, leaf.ino(2), struct.pack("<Q", 1))


def test_a_forgotten_number_is_another_files(kernel: Kernel, pack: Pack, leaf: Leaf) -> None:
    for request in (
        lambda ino: (FORGET, ino, struct.pack("<Q", 1)),
        lambda ino: (BATCH_FORGET, 0, struct.pack("<IIQQ", 1, 0, ino, 1)),
    ):
        leaf.prefetch(*range(8))
        kernel.send(*request(leaf.ino(3)))
        assert pack.asked(leaf.ino(3), None) is not None
        assert pack.read(leaf.ino(5), None) == leaf.contents[5]


def test_what_is_dropped_is_asked_for_and_no_descriptor_stays_open(kernel: Kernel, pack: Pack, leaf: Leaf) -> None:
    leaf.prefetch(0)
    _settle(pack, leaf, 0)
    before = len(os.listdir("/proc/self/fd"))
    leaf.prefetch(*range(len(SIZES)))
    kernel.session.drop_places()
    assert pack.asked(leaf.ino(3), None) is not None
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_the_oldest_are_dropped_when_there_are_many(kernel: Kernel, pack: Pack) -> None:
    leaf = Leaf(kernel, pack, [100_000] * 250)
    assert leaf.keep()
    assert leaf.locate()
    for start in range(0, 250, 10):
        leaf.prefetch(*range(start, start + 10))
        assert _read(pack, leaf, start + 9, 0, 1) == leaf.contents[start + 9][:1]
    # 16 MiB are kept, in which one is that is read.
    assert pack.asked(leaf.ino(0), None) is not None
    pack.looked_up = 0
    # One that was read may have been taken from the thread before: then it is kept among fewer others.
    for at in (at for at in range(150, 250) if at % 10 != 9):
        assert _read(pack, leaf, at) == leaf.contents[at]


@pytest.mark.parametrize("is_same", [True, False])
def test_the_content_of_a_number_that_the_kernel_does_not_know_waits_for_its_look_up(
    kernel: Kernel, pack: Pack, leaf: Leaf, *, is_same: bool
) -> None:
    names = Names(kernel.session)
    kernel.session.serve_names(names)
    kernel.session.watch(DIRECTORY_INO, is_watched=True)
    leaf.prefetch(0, 1, 2, 3, known=False)
    assert pack.asked(leaf.ino(2), None) is not None
    names.known_files.are_derived(are_derived=is_same)
    passed = kernel.send(LOOKUP, DIRECTORY_INO, leaf.entries[2].name + b"\0")
    assert (passed is None) == is_same
    # Python is not asked whether to prefetch what is there.
    assert names.answered == []
    pack.looked_up = 0
    if is_same:
        kernel.answer()
        assert _read(pack, leaf, 2) == leaf.contents[2]
    else:
        assert pack.asked(leaf.ino(2), None) is not None


def test_the_content_of_another_file_with_the_number_is_dropped(kernel: Kernel, pack: Pack, leaf: Leaf) -> None:
    kernel.session.serve_names(Names(kernel.session))
    (file,) = leaf.found(2)
    kernel.session.prefetch(DIRECTORY_INO, [file._replace(check=file.check ^ 1)], 0)
    assert kernel.send(LOOKUP, DIRECTORY_INO, leaf.entries[2].name + b"\0") is None
    kernel.answer()
    assert pack.asked(leaf.ino(2), None) is not None


def test_a_leaf_without_places_prefetches_nothing(kernel: Kernel, pack: Pack, leaf: Leaf) -> None:
    files = leaf.found(0, 1)
    node = encode_node(NodeKind.ENTRIES, 0, leaf.entries)
    assert kernel.session.keep_leaf(DIRECTORY_INO, SLOT, leaf.first, PREFIX, node)
    kernel.session.prefetch(DIRECTORY_INO, files, 0)
    assert pack.asked(leaf.ino(0), None) is not None


def test_the_end_answers_what_is_under_way(kernel: Kernel, pack: Pack, leaf: Leaf) -> None:
    leaf.prefetch(*range(len(SIZES)))
    assert pack.asked(leaf.ino(3), None) is None
    kernel.session.detach()
    assert kernel.answer()[1] == leaf.contents[3]
