"""Reads that the native session layer answers from blocks of a pack; a socket takes the kernel's place."""

from __future__ import annotations

import errno
import os
import random
import select
import struct
from collections.abc import Callable

import pytest

from support.native_layer import (
    BATCH_FORGET,
    CHUNK_BYTES_MAX,
    DIRECTORY_INO,
    FILE_INO,
    FORGET,
    HEADER,
    READ_,
    READ_BYTES_MAX,
    READ_PIECES_MAX,
    Kernel,
    read_body,
)
from support.native_pack import Pack, noise, text
from support.pages import forget_pages, pages_in_memory, wait_for_pages
from support.waiting import wait_until
from vfs.fuse.inodes import WORKING_START
from vfs.native.session import (
    HANDLE,
    PIECES_MAX,
    WINDOW_BYTES,
    Modes,
    Place,
    ReturnedRead,
)

SIZES = (1, 63, 64, 65, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 8191, 8192, 8193, 9216, 16385, 31744, 65536, 100_001)


@pytest.mark.parametrize("make", [noise, text])
@pytest.mark.parametrize("size", [*SIZES, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX])
def test_a_read_is_answered_from_a_block_if_the_bytes_have_their_id(
    pack: Pack, size: int, make: Callable[[int], bytes]
) -> None:
    data = make(size)
    assert pack.read(FILE_INO, pack.place(*pack.add(data))) == data


def test_a_read_of_some_chunks_is_answered_without_what_it_does_not_ask_for(pack: Pack) -> None:
    made = [noise(5000), text(70_000), b"x", text(30_000), noise(40_000)]
    first, _, *others = [
        *pack.add(made[0]),
        *pack.add(text(99)),
        *pack.add(made[1]),
        *pack.add(noise(10), made[2], text(20)),
        *pack.add(made[3]),
        *pack.add(made[4]),
    ]
    place = pack.place(first, others[0], others[2], *others[4:])
    whole = b"".join(made)
    for offset, size in ((0, len(whole)), (0, READ_BYTES_MAX), (4999, 3), (75_000, 1), (60_000, 50_000), (3, 20)):
        # Twice: what was unpacked in part is kept.
        for _ in range(2):
            assert pack.read(FILE_INO, place, offset, size) == whole[offset : offset + size]
    many = [pack.add(bytes([at]) * 3)[0] for at in range(READ_PIECES_MAX)]
    assert pack.read(FILE_INO, pack.place(*many)) == b"".join(bytes([at]) * 3 for at in range(READ_PIECES_MAX))


def test_chunks_that_share_a_block_are_read_by_many_files(pack: Pack) -> None:
    made = [text(size) for size in (1, 900, 3000, 12_000)]
    for _ in range(3):
        for piece, data in zip(pack.add(*made), made, strict=True):
            assert pack.read(FILE_INO, pack.place(piece)) == data


def test_more_blocks_than_are_kept_are_read_in_parts(pack: Pack) -> None:
    made = [text(60_000) for _ in range(40)]
    place = pack.place(*[piece for data in made for piece in pack.add(data)])
    whole = b"".join(made)
    for start in [*range(30_000, len(whole), 60_000), *range(0, len(whole), 45_000)]:
        assert pack.read(FILE_INO, place, start, 60_000) == whole[start : start + 60_000]


@pytest.mark.parametrize("make", [noise, text])
def test_bytes_with_another_id_are_not_answered_but_given_back(
    kernel: Kernel, pack: Pack, make: Callable[[int], bytes]
) -> None:
    data = make(3000)
    (right,), (wrong,) = pack.add(make(1000)), pack.add(data)
    for piece in (
        wrong._replace(offset=wrong.offset + 1),
        wrong._replace(size=2999),
        wrong._replace(block_bytes=wrong.block_bytes - 1),
        wrong._replace(offset=1 << 40),
        wrong._replace(id=right.id),
    ):
        pack.refuses(FILE_INO, pack.place(right, piece))
        kernel.session.answer(kernel.requests, errno.EIO)
        assert kernel.answer() == (errno.EIO, b"")
    assert pack.read(FILE_INO, pack.place(wrong)) == data


def _table(pack: Pack) -> tuple[Place, bytes]:
    """Returns the place of a file that several READs answer, each from many blocks, and its bytes."""
    made = [[make(size)] for size in (70_000, 40_000, 90_000, 130_000) for make in (noise, text) for _ in range(4)]
    made.insert(5, [text(3000), text(5000), text(2000)])
    place = pack.place(*[piece for chunks in made for piece in pack.add(*chunks)])
    return place, b"".join(chunk for chunks in made for chunk in chunks)


def test_reads_of_many_blocks_that_are_under_way_at_once_are_answered(kernel: Kernel, pack: Pack) -> None:
    place, whole = _table(pack)
    source = random.Random(5)
    for _ in range(10):
        asked: dict[int, bytes] = {}
        before = kernel.session.counts()[0]
        # All answers have to fit into the socket.
        for ino in range(FILE_INO, FILE_INO + 6):
            pack.places[ino] = place
            start = source.randrange(len(whole))
            size = source.choice((READ_BYTES_MAX, source.randrange(1, READ_BYTES_MAX)))
            kernel.post(READ_, ino, read_body(ino | HANDLE, start, size))
            asked[kernel.requests] = whole[start : start + size]
        while kernel.session.counts()[0] < before + len(asked):
            kernel.take()
        answers = [kernel.next_answer() for _ in asked]
        assert {unique: (error, body) for unique, error, body in answers} == {
            unique: (0, data) for unique, data in asked.items()
        }


def test_damage_in_one_block_of_many_gives_the_read_back_once(kernel: Kernel, pack: Pack) -> None:
    place, whole = _table(pack)
    size = READ_BYTES_MAX
    begun = [piece for at, piece in enumerate(place.pieces) if sum(one.size for one in place.pieces[:at]) < size]
    for piece in begun:
        end = piece.offset + piece.block_bytes - 1
        pack.flip(end)
        # Other numbers: the right blocks may be kept.
        others = [one._replace(pack=one.pack + piece.offset + 1) for one in place.pieces]
        assert pack.asked(FILE_INO, pack.place(*others), 0, size) is None
        assert pack.given_back() == ReturnedRead(kernel.requests, FILE_INO, 0, size)
        assert not select.select([pack.event], [], [], 0)[0]
        assert not kernel.has_answer()
        pack.flip(end)
    assert pack.read(FILE_INO, place, 0, size) == whole[:size]


def test_reads_of_many_blocks_are_answered_when_the_layer_ends(kernel: Kernel, pack: Pack) -> None:
    place, whole = _table(pack)
    for _ in range(5):
        begun = set()
        for ino in range(FILE_INO, FILE_INO + 6):
            if pack.asked(ino, place, 1000, 900_000) is None:
                begun.add(kernel.requests)
        kernel.session.detach()
        assert {kernel.next_answer() for _ in begun} == {(unique, 0, whole[1000:901_000]) for unique in begun}
        kernel.attach(Modes.OPEN | Modes.OPENDIR)
        kernel.session.serve_reads(pack)


def test_with_one_processor_a_read_of_many_blocks_that_is_alone_is_answered_at_once(kernel: Kernel, pack: Pack) -> None:
    place, whole = _table(pack)
    processors = os.sched_getaffinity(0)
    kernel.session.detach()
    os.sched_setaffinity(0, {min(processors)})
    try:
        kernel.attach(Modes.OPEN | Modes.OPENDIR)
        kernel.session.serve_reads(pack)
    finally:
        os.sched_setaffinity(0, processors)
    assert pack.asked(FILE_INO, place) is None
    answer = kernel.answer() if kernel.is_crowded else kernel.answer_at_hand()
    assert answer is not None
    assert answer[-1] == whole[:READ_BYTES_MAX]


def test_after_some_small_reads_of_a_kept_window_the_disk_reads_all_of_it(pack: Pack) -> None:
    data = [noise(25_000) for _ in range(PIECES_MAX)]
    pieces = [pack.add(chunk)[0] for chunk in data]
    place = pack.place(*pieces, is_kept=True)
    forget_pages(pack.path)
    for start in range(14_000_000, 0, -1_750_000):
        assert pack.read(FILE_INO, place, start, 1000) == b"".join(data)[start : start + 1000]
        assert sum(pages_in_memory(pack.path)) < 2000
    assert pack.read(FILE_INO, place, 15_000_000, 1000) == b"".join(data)[15_000_000:][:1000]
    assert pack.looked_up == 1
    wait_for_pages(pack.path, range(3800))


@pytest.mark.parametrize("count", [1, 3])
def test_no_flipped_bit_of_a_block_is_answered(pack: Pack, count: int) -> None:
    made = [text(150) for _ in range(count)]
    last = pack.add(*made)[-1]
    for at in range(last.block_bytes):
        pack.flip(last.offset + at)
        # Another number: the right block is kept.
        passed = pack.asked(FILE_INO, pack.place(last._replace(pack=100 + at)), 0, 100)
        if passed is None:
            # What is not part of the chunk.
            assert pack.answer() in (None, made[-1][:100])
        pack.flip(last.offset + at)


def test_a_kept_place_is_not_asked_for_again_until_it_is_dropped(kernel: Kernel, pack: Pack) -> None:
    first, second = text(100_000), noise(100_000)
    place = pack.place(*pack.add(first), *pack.add(second), is_kept=True)
    forget = FORGET, FILE_INO, struct.pack("<Q", 1)
    for request in (None, forget, (BATCH_FORGET, 0, struct.pack("<IIQQQQ", 2, 0, 5, 1, FILE_INO, 1))):
        before = pack.looked_up
        assert pack.read(FILE_INO, place, 0, 4096) == first[:4096]
        # It has the pack open, and needs no answer.
        for offset in (0, 99_000, 150_000):
            assert pack.read(FILE_INO, None, offset, 4096) == (first + second)[offset : offset + 4096]
        assert pack.looked_up == pack.told == before + 1
        assert pack.asked(FILE_INO + 1, None) is not None
        if request is None:
            kernel.session.drop_places()
        else:
            kernel.send(*request)
        assert pack.asked(FILE_INO, None) is not None
    kernel.send(FORGET, FILE_INO, b"")
    kernel.send(BATCH_FORGET, 0, struct.pack("<II", 9, 0))


def test_a_block_of_two_parts_is_read(kernel: Kernel, pack: Pack) -> None:
    first, middle, last = (noise(30_000) for _ in range(3))
    pieces = [*pack.add(first), *pack.add(middle), *pack.add(last)]
    block = pack.path.read_bytes()[pieces[1].offset :][: pieces[1].block_bytes]
    for rest in (1, 10, 20_000, len(block) - 1):
        end = pack.path.stat().st_size
        with pack.path.open("ab") as file:
            file.write(block[-rest:] + b"between" + block[:-rest])
        parted = pieces[1]._replace(offset=end + rest + len(b"between"), rest_offset=end, rest_bytes=rest)
        assert kernel.session.prepare(FILE_INO + 1, pack.place(pieces[0], parted, pieces[2]))
        assert pack.read(FILE_INO, pack.place(pieces[0], parted, pieces[2])) == first + middle + last
        assert pack.read(FILE_INO, pack.place(parted, pieces[2]), 500, 100) == middle[500:600]
        for wrong in (
            parted._replace(rest_offset=end + 1),
            parted._replace(rest_bytes=len(block)),
            parted._replace(rest_bytes=0),
        ):
            pack.refuses(FILE_INO, pack.place(wrong))
            kernel.session.answer(kernel.requests, errno.EIO)
            assert kernel.answer() == (errno.EIO, b"")


def test_the_kept_places_of_a_file_are_dropped_when_one_is_wrong(pack: Pack) -> None:
    (piece,) = pack.add(noise(1000))
    wrong = pack.place(piece._replace(id=bytes(32)), is_kept=True)
    pack.refuses(FILE_INO, wrong)
    looked_up = pack.looked_up
    assert pack.read(FILE_INO, pack.place(piece))
    assert pack.looked_up == pack.told == looked_up + 1


def test_places_of_many_files_and_windows_are_kept(pack: Pack) -> None:
    data = noise(1000)
    (piece,) = pack.add(data)
    for ino in range(FILE_INO, FILE_INO + 300):
        assert pack.read(ino, pack.place(piece, is_kept=True)) == data
    assert pack.asked(FILE_INO, None) is not None
    assert pack.read(FILE_INO + 299, None) == data
    far = Place(WINDOW_BYTES - 500, WINDOW_BYTES + 500, [piece], is_kept=True)
    assert pack.read(FILE_INO, far, WINDOW_BYTES - 100, 200) == data[400:600]
    assert pack.read(FILE_INO, far, WINDOW_BYTES, 200) == data[500:700]
    assert pack.read(FILE_INO, None, WINDOW_BYTES + 400, 200) == data[900:]
    assert pack.read(FILE_INO, None, WINDOW_BYTES - 500, 1) == data[:1]
    assert pack.asked(FILE_INO, None, WINDOW_BYTES - 501, 1) is not None


def test_a_place_has_each_pack_open_once_and_few_packs(kernel: Kernel, pack: Pack) -> None:
    data = [noise(100) for _ in range(34)]
    pieces = [pack.add(chunk)[0] for chunk in data]
    descriptors = [os.open(pack.path, os.O_RDONLY) for _ in range(17)]
    try:
        before = len(os.listdir("/proc/self/fd"))
        two = [piece._replace(descriptor=descriptors[at % 2]) for at, piece in enumerate(pieces)]
        assert pack.read(FILE_INO, pack.place(*two, is_kept=True)) == b"".join(data)
        assert pack.read(FILE_INO, None) == b"".join(data)
        wait_until(lambda: len(os.listdir("/proc/self/fd")) == before + 2)
        # One more than a place may have: Python answers, or is asked again; a read that is alone opens none.
        many = [piece._replace(descriptor=descriptors[at % 17]) for at, piece in enumerate(pieces)]
        asked = pack.asked(FILE_INO + 1, pack.place(*many, is_kept=True))
        assert asked is not None or (not kernel.is_crowded and kernel.answer() == (0, b"".join(data)))
        assert pack.read(FILE_INO + 1, pack.place(*many, is_kept=True), 100, 200) == data[1] + data[2]
        assert pack.asked(FILE_INO + 1, None) is not None
        wait_until(lambda: len(os.listdir("/proc/self/fd")) == before + 2)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_reads_that_are_not_located_reach_the_binding(kernel: Kernel, pack: Pack) -> None:
    (piece,) = pack.add(noise(1000))
    for place in (
        None,
        Place(0, 0, []),
        Place(0, 1001, [piece]),
        Place(1, 1001, [piece]),
        pack.place(piece._replace(size=CHUNK_BYTES_MAX + 1)),
        pack.place(piece._replace(block_bytes=1 << 20)),
        pack.place(*[piece] * (READ_PIECES_MAX + 1)),
        pack.place(*[piece] * (PIECES_MAX + 1)),
        pack.place(piece, piece._replace(descriptor=-1)),
    ):
        passed = pack.asked(FILE_INO, place)
        assert passed is not None
        assert passed[HEADER.size :] == read_body(FILE_INO | HANDLE, 0, READ_BYTES_MAX)
    assert pack.asked(FILE_INO, pack.place(piece), 1000) is not None
    assert pack.asked(FILE_INO, pack.place(*[piece._replace(size=CHUNK_BYTES_MAX)] * 7), 0, 2 << 20) is not None
    for ino in (DIRECTORY_INO, WORKING_START):
        assert pack.asked(ino, pack.place(piece)) is not None
    assert kernel.send(READ_, FILE_INO, read_body(3)) is not None
    assert not kernel.has_answer()


def test_what_is_under_way_is_answered_when_the_layer_ends(kernel: Kernel, pack: Pack) -> None:
    # Short answers: all of them have to fit into the socket.
    data = text(200_000)
    place = pack.place(*pack.add(data))
    begun = set()
    for ino in range(FILE_INO, FILE_INO + 20):
        if pack.asked(ino, place, 100_000, 100) is None:
            begun.add(kernel.requests)
    kernel.session.detach()
    assert begun
    assert {kernel.next_answer() for _ in begun} == {(unique, 0, data[100_000:100_100]) for unique in begun}
