"""Goal: whatever a disk, a copy or a person does to a repository's files, nothing is wrong without a word.

In large: `scripts/damage-rounds 5000`. A damage that was found there, and mended, has its name here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.damage import BAD, Driver, Tally, rounds
from support.damaging import CHANGES, Damage, chosen_damage, files, kind_of
from support.memory import memory_directory

ROUNDS = 80
SEED = 20


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    with memory_directory() as directory:
        yield Driver(directory)


@pytest.mark.slow
def test_damage_of_all_kinds_is_reported(driver: Driver) -> None:
    tally = Tally()
    rounds(driver, range(ROUNDS), SEED, tally)
    assert [f"{finding.damage}: {finding.outcome}: {finding.evidence}" for finding in tally.bad] == []
    assert tally.outcomes["reported"] > ROUNDS // 5
    assert sum(tally.outcomes.values()) > ROUNDS // 2


def test_every_kind_of_file_is_damaged_in_every_way(driver: Driver) -> None:
    chosen = [chosen_damage(driver.scenes, number, SEED) for number in range(5000)]
    there = {kind_of(name) for scene in driver.scenes for name in files(scene.path)}
    assert {"packs/data", "packs/tree", "log", "work/journal", "work/base", "work/merge", "retired"} < there
    assert {kind_of(damage.path) for damage in chosen} == there
    assert {damage.how for damage in chosen} == CHANGES.keys()
    assert {damage.scene for damage in chosen} == set(range(len(driver.scenes)))


FOUND = {
    "the log without a line, and no index": ("closed", "log", "zero a block", 346124634, False),
    "a journal of another branch": ("closed", "work/main/journal-4", "swap", 2243061934, True),
    "a journal that is gone": ("closed", "work/main/journal-4", "delete", 1, True),
    "a state of a merge that the log does not know": ("merge", "log", "bring back an older state", 3, False),
    "the newest journal of two is gone": ("killed in a commit", "work/main/journal-5", "delete", 1, False),
    "the newest journal of two as it was": (
        "killed in a commit",
        "work/main/journal-5",
        "bring back an older state",
        1,
        False,
    ),
    "the only journal as it was": ("killed", "work/main/journal-4", "bring back an older state", 7, True),
    "a page of the index that is zeros": ("undone", "index/data.mdb", "zero a block", 2033903837, True),
    "the log twice": ("killed in a commit", "log", "append", 1544839326, True),
}


@pytest.mark.parametrize("name", list(FOUND))
def test_formerly_silent_damage_is_reported(driver: Driver, name: str) -> None:
    scene, path, how, seed, keeps_index = FOUND[name]
    number = next(at for at, each in enumerate(driver.scenes) if each.name == scene)
    assert path in files(driver.scenes[number].path)
    (finding,) = driver.apart([Damage(number, path, how, seed, keeps_index)])
    assert finding.outcome == "reported", finding.evidence
    assert finding.outcome not in BAD
