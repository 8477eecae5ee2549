"""Inode numbers: the same after reopening, committing and renaming; never two inodes with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.working import Bench, working_layer
from vfs.overlay.inode_numbers import FIRST_INO, UNUSED, Numbers
from vfs.overlay.layer_nodes import ROOT_INO


def fill(bench: Bench) -> list[bytes]:
    bench.mkdir(b"d")
    bench.mkdir(b"d/e")
    for path in (b"a", b"b", b"d/a", b"d/e/a", b"d/e/b"):
        bench.put(path, path)
    bench.link(b"d/a", b"d/e/l")
    return [b"d", b"d/e", b"a", b"b", b"d/a", b"d/e/a", b"d/e/b", b"d/e/l"]


def test_numbers_are_in_their_range(bench: Bench) -> None:
    for path in fill(bench):
        assert FIRST_INO <= bench.ino(path) < 2 * FIRST_INO
    assert bench.ino(b"") == ROOT_INO


@pytest.mark.parametrize("ends", ["reopen", "crash", "commit", "commit and reopen", "forget"])
def test_numbers_survive(bench: Bench, ends: str) -> None:
    paths = fill(bench)
    bench.rename(b"a", b"d/moved")
    bench.rename(b"d/e", b"moved")
    renamed = {b"a": b"d/moved", b"d/e": b"moved"}
    paths = [renamed.get(path, path.replace(b"d/e/", b"moved/")) for path in paths]
    for _ in range(3):
        before = {path: bench.ino(path) for path in paths}
        if "commit" in ends:
            bench.commit()
        if "reopen" in ends:
            bench.reopen()
        if ends == "crash":
            bench.crash()
        if ends == "forget":
            for ino in before.values():
                bench.overlay.forget(ino)
        assert {path: bench.ino(path) for path in paths} == before


def test_moving_a_directory_of_a_version_moves_no_number_below_it(bench: Bench) -> None:
    fill(bench)
    bench.commit()
    bench.reopen()
    before = {path: bench.ino(path) for path in (b"d/e", b"d/e/a", b"d/e/b", b"d/e/l", b"d/a")}
    bench.rename(b"d", b"x")
    for _ in range(2):
        for path, ino in before.items():
            assert bench.ino(path.replace(b"d/", b"x/", 1)) == ino
        bench.commit()
        bench.reopen()


def test_a_new_file_at_an_old_place_gets_a_number_of_its_own(bench: Bench) -> None:
    old = bench.put(b"f", b"old").ino
    bench.commit()
    bench.rename(b"f", b"g")
    new = bench.put(b"f", b"new").ino
    assert new != old
    bench.commit()
    bench.reopen()
    assert (bench.ino(b"f"), bench.ino(b"g")) == (new, old)


def test_saving_by_rename_again_and_again(bench: Bench) -> None:
    bench.put(b"f", b"0")
    for number in range(6):
        made = bench.put(b"f.tmp", b"%d" % number).ino
        assert made != bench.ino(b"f")
        bench.rename(b"f.tmp", b"f")
        if number % 2:
            bench.commit()
        bench.reopen()
        assert bench.ino(b"f") == made
        assert bench.read(b"f") == b"%d" % number


@pytest.mark.parametrize("bits", [5, 6])
def test_colliding_hashes_give_each_inode_its_own_number(tmp_path: Path, bits: int) -> None:
    with working_layer(tmp_path, ino_bits=bits) as bench:
        for number in range(20):
            bench.put(b"%d" % number)
        inos = {number: bench.ino(b"%d" % number) for number in range(20)}
        assert len(set(inos.values())) == 20
        bench.commit()
        assert {number: bench.ino(b"%d" % number) for number in range(20)} == inos
        bench.reopen()
        # While all are referred to, in whatever order they come.
        found = [bench.ino(b"%d" % number) for number in reversed(range(20))]
        assert len(set(found)) == 20
        assert found == [inos[number] for number in reversed(range(20))]


def test_a_number_found_by_a_later_probe_stays(tmp_path: Path) -> None:
    """Names of a version that have one hash: the first that is looked up gets the number, the other a pin."""
    with working_layer(tmp_path, ino_bits=3) as bench:
        names = [b"%d" % number for number in range(6)]
        for name in names:
            bench.put(name)
        bench.commit()
        bench.reopen()
        first = {name: bench.ino(name) for name in names}
        for _ in range(2):
            bench.reopen()
            assert {name: bench.ino(name) for name in reversed(names)} == first


def test_pins_are_found_and_taken_back() -> None:
    numbers = Numbers(lambda _ino: UNUSED)
    place = (1, b"a")
    derived = numbers.derived(place)
    numbers.pin(place, 77)
    assert numbers.of_base(place) == (77, False)
    assert numbers.owner(77) == place
    numbers.pin(place, 78)
    assert numbers.owner(77) == UNUSED
    numbers.unpin(place)
    assert numbers.of_base(place) == (derived, False)
    assert list(numbers.pins()) == []


def test_pins_do_not_pile_up(bench: Bench) -> None:
    """Renaming back, removing files and removing directories takes away what renaming has pinned."""
    bench.put(b"keep")
    bench.commit()
    size = (bench.directory / "base").stat().st_size
    for _ in range(3):
        bench.mkdir(b"d")
        bench.put(b"x")
        bench.rename(b"x", b"d/y")
        bench.commit()
        bench.unlink(b"d/y")
        bench.rmdir(b"d")
        bench.commit()
    bench.rename(b"keep", b"kept")
    bench.commit()
    bench.rename(b"kept", b"keep")
    bench.commit()
    before = (bench.directory / "base").stat().st_size
    bench.commit()
    assert (bench.directory / "base").stat().st_size - before < 150
    assert before > size
