"""Guilty changes are found whatever they do together, in as many tests as promised."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.history.boundary_bisection import GROUPS_MAX, guilty_changes


class Counted:
    """A test that counts how often it is asked, and for what."""

    def __init__(self, is_bad: object) -> None:
        self._is_bad = is_bad
        self.asked: list[frozenset[int]] = []

    def __call__(self, chosen: frozenset[int]) -> bool | None:
        assert chosen not in self.asked
        self.asked.append(chosen)
        return self._is_bad(chosen)  # type: ignore[operator,no-any-return]


@pytest.mark.parametrize(("culprits", "runs"), [(1, 11), (2, 22), (3, 33)])
def test_culprits_that_must_meet_among_a_thousand(culprits: int, runs: int) -> None:
    chance = random.Random(7)
    for _ in range(300):
        wanted = frozenset(chance.sample(range(1000), culprits))
        test = Counted(wanted.issubset)
        assert guilty_changes(1000, test).changes == wanted
        assert len(test.asked) <= runs


@given(st.integers(1, 12), st.integers(0, 2**64), st.randoms(use_true_random=True))
def test_what_is_found_is_bad_and_needs_each_of_its_parts(count: int, seed: int, chance: random.Random) -> None:
    """Bad and good are thrown for every set: nothing is monotone."""

    def is_bad(chosen: frozenset[int]) -> bool:
        if not chosen or len(chosen) == count:
            return bool(chosen)
        return random.Random(hash((seed, chosen))).random() < 0.4

    found = guilty_changes(count, Counted(is_bad))
    assert is_bad(found.changes)
    order = list(range(count))
    chance.shuffle(order)
    assert is_bad(guilty_changes(count, Counted(is_bad), order).changes)


@given(st.integers(2, 40), st.sets(st.integers(0, 39), max_size=10), st.data())
def test_what_cannot_be_tested_widens_the_answer(count: int, odd: set[int], data: st.DataObject) -> None:
    culprit = data.draw(st.integers(0, count - 1))

    def is_bad(chosen: frozenset[int]) -> bool | None:
        return None if len(chosen) in odd and 0 < len(chosen) < count else culprit in chosen

    found = guilty_changes(count, Counted(is_bad))
    assert culprit in found.changes
    if not odd:
        assert found.groups == ((culprit,),)


def test_of_many_that_each_do_a_little_the_rest_is_one_group() -> None:
    test = Counted(lambda chosen: len(chosen) > 600)
    found = guilty_changes(1000, test)
    assert [len(group) for group in found.groups if len(group) == 1] == [1] * GROUPS_MAX
    assert len(found.groups) == GROUPS_MAX + 1
    assert len(found.changes) == 601
    assert len(test.asked) <= 11 * GROUPS_MAX


def test_one_change_needs_no_test() -> None:
    test = Counted(lambda _chosen: True)
    assert guilty_changes(1, test).groups == ((0,),)
    assert not test.asked
