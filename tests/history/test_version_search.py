"""The first bad version is found in linear histories, in those with merges, past skips, and with what is not read."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from vfs.history.version_search import IsSame, Verdict, VersionSearch
from vfs.model.ids import CommitId


def commit(number: int) -> CommitId:
    """Returns an id."""
    return CommitId(number.to_bytes(32, "big"))


def number(commit_id: CommitId) -> int:
    """Returns what an id was made from."""
    return int.from_bytes(commit_id, "big")


def linear(commit_id: CommitId) -> list[CommitId]:
    """A history of one line."""
    return [commit(number(commit_id) - 1)] if number(commit_id) > 1 else []


def since(first_bad: int) -> Callable[[int], Verdict]:
    """Returns what gives the verdicts of a history that is bad from a version on."""
    return lambda version: "bad" if version >= first_bad else "good"


def apart_from(read: list[int]) -> IsSame:
    """Returns what says that versions are the same as those before them, but for some."""
    return lambda found, _parent: number(found) not in read


def finish(search: VersionSearch, verdict: Callable[[int], Verdict]) -> list[int]:
    """Goes through a search and returns what was tested."""
    tested = []
    while (found := search.next()) is not None:
        assert found not in search.results
        tested.append(number(found))
        search.mark(found, verdict(number(found)))
    return tested


def test_a_thousand_versions_in_ten_tests() -> None:
    for first_bad in (2, 3, *range(4, 1000, 61), 500, 501, 502, 999, 1000):
        search = VersionSearch(linear, [commit(1)], commit(1000))
        tested = finish(search, since(first_bad))
        assert [number(found) for found in search.suspects()] == [first_bad]
        assert len(tested) <= 10


def test_versions_in_which_nothing_differs_that_is_read_are_not_tested() -> None:
    chance = random.Random(3)
    for _ in range(50):
        relevant = sorted(chance.sample(range(2, 1000), 30))
        first_bad = chance.choice(relevant)
        search = VersionSearch(linear, [commit(1)], commit(1000), apart_from(relevant))
        tested = finish(search, since(first_bad))
        assert [number(found) for found in search.suspects()] == [first_bad]
        assert len(tested) <= 6


def test_what_is_read_later_is_learned_on_the_way() -> None:
    """The program reads a second file only from version 500 on, and that file makes 700 bad."""
    known = {500}
    search = VersionSearch(linear, [commit(1)], commit(1000), lambda found, _parent: number(found) not in known)

    def run(version: int) -> Verdict:
        if version >= 500:
            known.add(700)
        return "bad" if version >= 700 else "good"

    assert len(finish(search, run)) <= 4
    assert [number(found) for found in search.suspects()] == [700]


def test_skipped_versions_are_left_out_or_named() -> None:
    search = VersionSearch(linear, [commit(1)], commit(100))
    tested = finish(search, lambda version: "skip" if 40 <= version <= 60 else "bad" if version >= 80 else "good")
    assert [number(found) for found in search.suspects()] == [80]
    assert len(tested) < 20
    search = VersionSearch(linear, [commit(1)], commit(100))
    finish(search, lambda version: "skip" if 40 <= version <= 60 else "bad" if version >= 50 else "good")
    assert [number(found) for found in search.suspects()] == list(range(40, 62))


@pytest.mark.parametrize("seed", range(40))
def test_merges_are_walked_as_their_parents_are(seed: int) -> None:
    chance = random.Random(seed)
    parents: dict[int, list[int]] = {1: []}
    for version in range(2, 120):
        recent = range(max(1, version - 12), version)
        parents[version] = sorted(set(chance.sample(recent, min(len(recent), chance.choice([1, 1, 2])))))
    above: dict[int, set[int]] = {}
    for version, those in parents.items():
        above[version] = {version}.union(*(above[parent] for parent in those))
    reachable = sorted(above[119])
    culprit = chance.choice(reachable[1:])
    search = VersionSearch(
        lambda found: [commit(parent) for parent in parents[number(found)]], [commit(1)], commit(119)
    )
    tested = finish(search, lambda version: "bad" if culprit in above[version] else "good")
    assert [number(found) for found in search.suspects()] == [culprit]
    assert len(tested) <= 12


def test_a_bad_version_below_a_good_one_is_a_contradiction() -> None:
    assert VersionSearch(linear, [commit(9)], commit(3)).is_contradiction
    assert not VersionSearch(linear, [commit(3)], commit(9)).is_contradiction
