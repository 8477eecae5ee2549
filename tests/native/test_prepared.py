"""Files whose place or content the native session layer has before a read; a socket takes the kernel's place."""

from __future__ import annotations

import os
import struct

import pytest

from support.native_layer import (
    BATCH_FORGET,
    FILE_INO,
    FORGET,
    READ_BYTES_MAX,
    READ_PIECES_MAX,
    Kernel,
)
from support.native_pack import Pack, noise, text
from support.waiting import wait_until
from vfs.native.session import (
    CONTENT_BYTES_MAX,
    Place,
)


def _taken(kernel: Kernel) -> list[int]:
    return [read.ino for read in kernel.session.take_first_reads()]


def test_a_given_content_is_answered_once(kernel: Kernel, pack: Pack) -> None:
    data = noise(CONTENT_BYTES_MAX)
    kernel.session.give(FILE_INO, data)
    assert pack.read(FILE_INO, None) == data
    assert not pack.looked_up
    assert pack.asked(FILE_INO, None) is not None
    for offset, size in ((100, 50), (4000, 4096), (0, 4096)):
        kernel.session.give(FILE_INO, data)
        assert pack.read(FILE_INO, None, offset, size) == data[offset : offset + size]
    assert _taken(kernel) == [FILE_INO] * 4
    kernel.session.give(FILE_INO, data + b"x")
    kernel.session.give(FILE_INO, b"first")
    kernel.session.give(FILE_INO, b"second")
    assert pack.asked(FILE_INO, None, 6, 4096) is not None
    assert _taken(kernel) == []
    assert pack.read(FILE_INO, None) == b"second"
    assert pack.asked(FILE_INO, None) is not None


def test_a_content_is_given_when_it_is_asked_where_it_lies(kernel: Kernel, pack: Pack) -> None:
    data = noise(2000)
    pack.given[FILE_INO] = data
    assert pack.read(FILE_INO, None) == data
    assert pack.read(FILE_INO, None) == data
    assert _taken(kernel) == [FILE_INO] * 2
    kernel.session.give(FILE_INO + 1, b"")
    assert pack.asked(FILE_INO + 1, None) is not None


def test_given_contents_are_dropped_with_their_files_and_when_there_are_many(kernel: Kernel, pack: Pack) -> None:
    for request in (
        (FORGET, FILE_INO, struct.pack("<Q", 1)),
        (BATCH_FORGET, 0, struct.pack("<IIQQQQ", 2, 0, 5, 1, FILE_INO, 1)),
    ):
        kernel.session.give(FILE_INO, b"old")
        kernel.session.give(FILE_INO + 1, b"other")
        kernel.send(*request)
        assert pack.asked(FILE_INO, None) is not None
        assert pack.read(FILE_INO + 1, None) == b"other"
    for ino in range(FILE_INO, FILE_INO + 200):
        kernel.session.give(ino, b"%d" % ino)
    assert pack.asked(FILE_INO, None) is not None
    for ino in range(FILE_INO + 180, FILE_INO + 200):
        assert pack.read(ino, None) == b"%d" % ino


def test_a_prepared_file_is_read_without_asking(kernel: Kernel, pack: Pack) -> None:
    data = text(300_000)
    place = pack.place(*pack.add(data[:100_000]), *pack.add(data[100_000:200_000]), *pack.add(data[200_000:]))
    assert _taken(kernel) == []
    for times in range(1, 3):
        assert kernel.session.prepare(FILE_INO, place)
        for offset, size in ((0, 4096), (99_000, 150_000), (0, READ_BYTES_MAX)):
            assert pack.read(FILE_INO, None, offset, size) == data[offset : offset + size]
        assert pack.looked_up == times - 1
        assert _taken(kernel) == [FILE_INO]
        # Behind its end, Python is asked.
        assert pack.asked(FILE_INO, None, 300_000) is not None
    kernel.session.drop_places()
    assert pack.asked(FILE_INO, None) is not None


def test_a_damaged_prepared_file_is_left_to_python(kernel: Kernel, pack: Pack) -> None:
    (piece,) = pack.add(noise(50_000))
    pack.flip(piece.offset + 1000)
    assert kernel.session.prepare(FILE_INO, pack.place(piece))
    pack.refuses(FILE_INO, pack.place(piece))
    # It is asked again then: the bytes may lie elsewhere.
    assert pack.asked(FILE_INO, None) is not None
    assert pack.looked_up


def test_prepared_files_are_dropped_with_their_files_and_when_there_are_many(kernel: Kernel, pack: Pack) -> None:
    data = noise(5000)
    place = pack.place(*pack.add(data))
    before = len(os.listdir("/proc/self/fd"))
    for ino in range(FILE_INO, FILE_INO + 200):
        assert kernel.session.prepare(ino, place)
    assert len(os.listdir("/proc/self/fd")) < before + 100
    assert pack.asked(FILE_INO, None) is not None
    last = FILE_INO + 199
    assert pack.read(last, None) == data
    kernel.send(FORGET, last, struct.pack("<Q", 1))
    assert pack.asked(last, None) is not None
    kernel.session.drop_places()
    # A thread closes its own once it has answered.
    wait_until(lambda: len(os.listdir("/proc/self/fd")) == before)


@pytest.mark.parametrize("is_part", [True, False])
def test_what_cannot_be_read_natively_is_not_prepared(kernel: Kernel, pack: Pack, *, is_part: bool) -> None:
    (piece,) = pack.add(noise(5000))
    missing = Place(0, 10_000, [piece]) if is_part else pack.place(piece._replace(descriptor=-1))
    for place in (missing, Place(0, 0, []), pack.place(*[piece] * (READ_PIECES_MAX + 1))):
        assert not kernel.session.prepare(FILE_INO, place)
        assert pack.asked(FILE_INO, None) is not None


def test_reads_are_noted_as_far_as_there_is_room(kernel: Kernel, pack: Pack) -> None:
    for ino in range(FILE_INO, FILE_INO + 1000):
        kernel.session.give(ino, b"x")
        assert pack.read(ino, None) == b"x"
    assert _taken(kernel) == list(range(FILE_INO, FILE_INO + 256))
    assert _taken(kernel) == []
