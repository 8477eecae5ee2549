"""Inode numbers: derived, proved unique, kept, counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vfs.backend.rooted_path import RootedPath
from vfs.fuse.inodes import DIRECTORY_BITS, LINK_BITS, CollisionTable, Inode, InodeTable


class Thing:
    """An inode that is what its key says."""

    def __init__(self, key: bytes) -> None:
        self.ino = 0
        self.lookups = 0
        self.key = key

    def same_as(self, other: Inode) -> bool:
        return isinstance(other, Thing) and other.key == self.key


def _admit(table: InodeTable, key: bytes) -> Inode:
    return table.admit(Thing(key), key, LINK_BITS)


def _hold(table: InodeTable, key: bytes) -> int:
    inode = _admit(table, key)
    table.hold(inode)
    return inode.ino


def _keys(count: int) -> Iterator[bytes]:
    return (b"key %d" % number for number in range(count))


def test_a_number_is_the_same_after_forget_and_in_another_table() -> None:
    table = InodeTable()
    first = _hold(table, b"a")
    table.forget(first, 1)
    assert table.find(first) is None
    assert _hold(table, b"a") == first
    assert _hold(InodeTable(), b"a") == first
    assert 1 << LINK_BITS <= first < 1 << LINK_BITS + 1


def test_the_same_inode_is_found_again_while_it_is_held() -> None:
    table = InodeTable()
    held = _admit(table, b"a")
    table.hold(held)
    assert _admit(table, b"a") is held


def test_inodes_in_use_never_share_a_number_however_narrow_the_hash() -> None:
    table = InodeTable(hash_bits=6)
    numbers = {_hold(table, key) for key in _keys(64)}
    assert len(numbers) == 64


def test_a_full_range_is_an_error_and_not_a_shared_number() -> None:
    table = InodeTable(hash_bits=3)
    for key in _keys(8):
        _hold(table, key)
    with pytest.raises(OSError, match="no inode number"):
        _admit(table, b"one more")


def test_a_probed_number_stays_after_its_rival_is_gone_and_after_a_remount(tmp_path: Path) -> None:
    path = tmp_path / "inodes"
    table = InodeTable(CollisionTable(RootedPath.of(path)), hash_bits=4)
    numbers = {key: _hold(table, key) for key in _keys(16)}
    for ino in numbers.values():
        table.forget(ino, 1)
    again = InodeTable(CollisionTable(RootedPath.of(path)), hash_bits=4)
    backwards = {key: _hold(again, key) for key in reversed(list(numbers))}
    assert backwards == numbers


def test_a_persistent_number_is_never_given_to_another_inode(tmp_path: Path) -> None:
    path = tmp_path / "inodes"
    table = InodeTable(CollisionTable(RootedPath.of(path)), hash_bits=4)
    for key in _keys(12):
        _hold(table, key)
    kept = {int(line.split()[0]) for line in path.read_text().splitlines()}
    assert kept
    again = InodeTable(CollisionTable(RootedPath.of(path)), hash_bits=4)
    others = {_hold(again, b"other %d" % number) for number in range(16 - len(kept))}
    assert not others & kept


def test_a_torn_or_invalid_line_of_the_kept_numbers_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "inodes"
    path.write_bytes(b"12 6161\nnonsense\n13 6262")
    kept = CollisionTable(RootedPath.of(path))
    assert (kept.number_of(b"aa"), kept.number_of(b"bb"), len(kept)) == (12, None, 1)


def test_no_changed_byte_of_the_kept_numbers_lets_two_inodes_share_one(tmp_path: Path) -> None:
    path = tmp_path / "inodes"
    kept = CollisionTable(RootedPath.of(path))
    numbers = {b"key %d" % number: (1 << 60) + number for number in range(4)}
    for key, number in numbers.items():
        kept.add(key, number)
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes((data[at] ^ 1 << at % 8,)) + data[at + 1 :])
        again = CollisionTable(RootedPath.of(path))
        assert all(again.number_of(key) in (None, number) for key, number in numbers.items())
        assert len(again) < 4


def test_lookups_are_counted_and_the_last_one_back_drops_the_inode() -> None:
    table = InodeTable()
    inode = _admit(table, b"a")
    for _ in range(3):
        table.hold(inode)
    table.forget(inode.ino, 2)
    assert table.find(inode.ino) is inode
    table.forget(inode.ino, 1)
    assert len(table) == 0


def test_admitting_alone_keeps_nothing() -> None:
    table = InodeTable()
    _admit(table, b"a")
    assert len(table) == 0


def test_forgetting_too_much_or_the_unknown_is_logged_and_harmless(caplog: pytest.LogCaptureFixture) -> None:
    table = InodeTable()
    ino = _hold(table, b"a")
    table.forget(ino, 5)
    table.forget(ino, 1)
    assert len(caplog.records) == 2
    assert len(table) == 0


def test_a_number_that_cannot_be_kept_is_given_all_the_same(tmp_path: Path) -> None:
    """As on a disk that is full or read-only: looking up needs no writing."""
    kept = CollisionTable(RootedPath(tmp_path / "gone", "work", "inodes"))
    kept.add(b"key", 77)
    assert kept.number_of(b"key") == 77
    assert not kept.free_for(77, b"other")


class File:
    """A file of a version."""

    def __init__(self) -> None:
        self.ino = 0
        self.check = 0


class Directory:
    """What holds rows of files."""

    slot = -1


def test_numbers_are_the_derived_ones_until_one_is_probed() -> None:
    assert not InodeTable(hash_bits=8).numbers_are_derived
    probed = CollisionTable()
    table = InodeTable(probed)
    told: list[bool] = []
    table.on_first_probe(lambda: told.append(table.numbers_are_derived))
    assert table.numbers_are_derived
    for number in (77, 78):
        probed.add(b"%d" % number, number)
    # Before: what asks meanwhile must not use them any more.
    assert told == [True]
    assert not table.numbers_are_derived


def test_forgotten_directories_of_versions_are_told() -> None:
    table = InodeTable()
    told: list[object] = []
    table.on_directory_forgotten = told.append
    link = _hold(table, b"a")
    directory = table.admit(Thing(b"b"), b"b", DIRECTORY_BITS)
    for _ in range(2):
        table.hold(directory)
    table.forget(link, 1)
    table.forget(directory.ino, 1)
    assert told == []
    table.forget(directory.ino, 1)
    assert told == [directory]
