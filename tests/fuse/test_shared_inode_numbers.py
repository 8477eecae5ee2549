"""Goal: no two inodes of a mount's working layers have one number, and a number that was given stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfs.backend.rooted_path import RootedPath
from vfs.fuse.inodes import WORKING_START, CollisionTable
from vfs.fuse.shared_inode_numbers import RemappedNumbers

A, B = "layer a", "layer b"
INO = WORKING_START + 5


def shared(path: Path, hash_bits: int = 64) -> RemappedNumbers[str]:
    return RemappedNumbers(CollisionTable(RootedPath.of(path)), hash_bits=hash_bits)


def give(numbers: RemappedNumbers[str], layer: str, branch: bytes, ino: int) -> int:
    number = numbers.number(layer, branch, ino)
    numbers.hold(number, layer, ino)
    return number


def test_a_number_is_the_overlays_own_while_it_is_unused(tmp_path: Path) -> None:
    numbers = shared(tmp_path / "inodes")
    assert give(numbers, A, b"a", INO) == INO
    assert give(numbers, A, b"a", INO) == INO
    assert give(numbers, B, b"b", INO + 1) == INO + 1
    assert numbers.find(INO) == (A, INO)
    assert not numbers.has_given
    assert not (tmp_path / "inodes").exists()


def test_where_two_layers_meet_the_second_gets_another_number_for_good(tmp_path: Path) -> None:
    numbers = shared(tmp_path / "inodes")
    give(numbers, A, b"a", INO)
    other = give(numbers, B, b"b", INO)
    assert other != INO
    assert numbers.find(INO) == (A, INO)
    assert numbers.find(other) == (B, INO)
    assert numbers.known(b"b", INO) == other
    assert numbers.known(b"a", INO) == INO
    # Also when the first one has gone, and after another mount.
    numbers.drop(INO)
    assert give(numbers, B, b"b", INO) == other
    again = shared(tmp_path / "inodes")
    assert again.has_given
    assert give(again, B, b"b", INO) == other
    assert give(again, A, b"a", INO) == INO


def test_a_given_number_is_never_reused_even_while_it_is_not_in_use(tmp_path: Path) -> None:
    numbers = shared(tmp_path / "inodes")
    give(numbers, A, b"a", INO)
    other = give(numbers, B, b"b", INO)
    numbers.drop(other)
    assert give(numbers, A, b"a", other) not in (other, INO)
    # Nor in the layer that has it as another inode's.
    assert give(numbers, B, b"b", other) not in (other, INO)


def test_a_forgotten_number_is_stale(tmp_path: Path) -> None:
    numbers = shared(tmp_path / "inodes")
    give(numbers, A, b"a", INO)
    numbers.drop(INO)
    with pytest.raises(OSError, match="does not know"):
        numbers.find(INO)


def test_numbers_of_few_bits_are_given_once_each(tmp_path: Path) -> None:
    numbers = shared(tmp_path / "inodes", hash_bits=6)
    given = [
        give(numbers, layer, branch, WORKING_START + n) for n in range(20) for layer, branch in ((A, b"a"), (B, b"b"))
    ]
    assert len(set(given)) == len(given)
