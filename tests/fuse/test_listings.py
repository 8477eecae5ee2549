"""Open directories: positions that can be taken up again, and lookups counted for what the kernel took."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator

import pytest
from pyfuse3 import EntryAttributes

from vfs.fuse.listings import Listing, Reply


class Names:
    """A directory of names that may change, and a kernel that takes some entries at a time."""

    def __init__(self, names: list[bytes], *, lasting: bool = False) -> None:
        self.names = names
        self.starts = 0
        self.held: list[bytes] = []
        self.broken: set[bytes] = set()
        self.listing: Listing[int, None] = Listing(1, self._start, lasting=lasting)

    def _start(self, after: bytes | None) -> Iterator[tuple[bytes, None]]:
        self.starts += 1
        for name in sorted(self.names):
            if after is None or name > after:
                yield name, None

    def read(self, position: int, count: int) -> list[tuple[bytes, int]]:
        taken: list[tuple[bytes, int]] = []

        def reply(name: bytes, _attr: EntryAttributes, following: int) -> bool:
            if len(taken) == count:
                return False
            taken.append((name, following))
            return True

        self._fill(position, reply)
        return taken

    def _fill(self, position: int, reply: Reply) -> None:
        self.listing.seek(position)
        self.listing.fill(reply, self._resolve, self.held.append)

    def _resolve(self, name: bytes, _item: None) -> tuple[bytes, EntryAttributes] | None:
        if name in self.broken:
            raise ValueError(name)
        return (name, EntryAttributes()) if name in self.names else None

    def read_all(self, count: int) -> list[bytes]:
        position, names = 0, []
        while part := self.read(position, count):
            names += [name for name, _ in part]
            position = part[-1][1]
        return names


@pytest.mark.parametrize("lasting", [True, False])
@pytest.mark.parametrize("count", [1, 3, 100])
def test_every_name_is_given_once_whatever_fits_into_a_reply(count: int, lasting: bool) -> None:
    names = [b"%03d" % number for number in range(20)]
    directory = Names(names, lasting=lasting)
    assert directory.read_all(count) == names
    assert directory.held == names


def test_a_listing_that_lasts_is_walked_once() -> None:
    directory = Names([b"a", b"b", b"c"], lasting=True)
    directory.read_all(1)
    assert directory.starts == 1


def test_what_comes_and_goes_meanwhile_makes_no_other_name_skipped_or_doubled() -> None:
    directory = Names([b"b", b"d", b"f", b"h"])
    (_, _), (_, position) = directory.read(0, 2)
    directory.names += [b"a", b"c", b"e"]
    directory.names.remove(b"b")
    directory.names.remove(b"d")
    assert [name for name, _ in directory.read(position, 9)] == [b"e", b"f", b"h"]


def test_every_position_can_be_resumed() -> None:
    directory = Names([b"a", b"b", b"c", b"d"], lasting=True)
    positions = [position for _, position in directory.read(0, 9)]
    for index, position in enumerate(positions):
        assert [name for name, _ in directory.read(position, 9)] == [b"a", b"b", b"c", b"d"][index + 1 :]
    assert [name for name, _ in directory.read(0, 9)] == [b"a", b"b", b"c", b"d"]


def test_a_position_that_was_never_given_is_refused() -> None:
    with pytest.raises(OSError, match="not a position"):
        Names([b"a"]).read(7, 9)


def test_an_error_ends_the_reply_before_it_and_is_met_by_the_next() -> None:
    directory = Names([b"a", b"b", b"c"], lasting=True)
    directory.broken.add(b"b")
    assert directory.read(0, 9) == [(b"a", 1)]
    assert directory.held == [b"a"]
    with pytest.raises(ValueError, match="b"):
        directory.read(1, 9)
    directory.broken.clear()
    assert directory.read(1, 9) == [(b"b", 2), (b"c", 3)]


def test_positions_that_are_taken_up_again_after_changes_are_those_of_the_last_listing() -> None:
    """A program seeks to and fro in a directory that changes; a dict says what was listed last at each position."""
    chance = random.Random(4)
    directory = Names([b"%04d" % number for number in range(0, 400, 4)])
    behind: dict[int, bytes] = {}
    position = 0
    for _ in range(2000):
        if chance.random() < 0.3:
            name = b"%04d" % chance.randrange(400)
            if name in directory.names:
                directory.names.remove(name)
            else:
                directory.names.append(name)
        if chance.random() < 0.2 or not behind:
            position = chance.choice([0, *behind])
        if not position:
            behind.clear()
        after = behind.get(position, b"")
        listed = directory.read(position, chance.randrange(1, 9))
        assert [name for name, _ in listed] == sorted(name for name in directory.names if name > after)[: len(listed)]
        behind.update((given, name) for name, given in listed)
        position = listed[-1][1] if listed else position


def test_a_name_that_was_listed_takes_little_memory() -> None:
    count = 100_000
    directory = Names([b"file-%07d" % number for number in range(count)])
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        directory.listing.seek(0)
        directory.listing.fill(lambda *_: True, lambda name, _: (name, EntryAttributes()), lambda _: None)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert directory.read(count // 2, 1)[0][0] == b"file-%07d" % (count // 2)
    assert taken < 30 * count


def test_positions_between_which_others_listed_are_found_by_counting() -> None:
    """Where the native session layer answers a part of a listing."""
    names = Names([b"%03d" % number for number in range(100)])
    names.listing.counts = True
    assert names.read(0, 10)[-1] == (b"009", 10)
    # Others list up to 50; there nothing is taken.
    assert names.read(50, 0) == []
    assert names.read(50, 3) == [(b"050", 51), (b"051", 52), (b"052", 53)]
    names.broken.add(b"070")
    with pytest.raises(ValueError, match="070"):
        names.read(70, 3)
    names.broken.clear()
    assert names.read(70, 1) == [(b"070", 71)]
    assert names.read(100, 5) == []
    assert names.read(100, 5) == []
