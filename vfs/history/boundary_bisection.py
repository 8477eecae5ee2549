"""Which of many changes are enough to make something bad, found by bisecting boundaries.

The changes are put in a row. With none of them the result is good, with all bad; somewhere between a prefix and the
next it flips, however the changes interact, so bisection finds a flip, and the change there is one that is needed. It
is put in front of all others, and the same goes on with what was before it, until the needed changes alone are bad.
Among n changes a culprit costs about log2(n) + 1 tests. Changes that are bad each by itself are alternatives: one of
them is found. Of very many that each do a little, the first ones found are named, the rest as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from math import ceil, log2
from typing import NamedTuple

Test = Callable[[frozenset[int]], bool | None]
"""(the numbers of the changes that are made): True for bad, False for good, None where it cannot be told."""


GROUPS_MAX = 8
"""Culprits that are told apart, at most: each costs a bisection."""


class Guilty(NamedTuple):
    """Changes that are bad together, in order; each entry of `groups` is one that is needed.

    A group has several changes where those between could not be tested, or were too many that each do a little: one
    of them is needed, or several.
    """

    groups: tuple[tuple[int, ...], ...]

    @property
    def changes(self) -> frozenset[int]:
        """All changes in the groups."""
        return frozenset(number for group in self.groups for number in group)


def guilty_changes(count: int, test: Test, order: Sequence[int] | None = None) -> Guilty:
    """Returns changes that are enough, of `count` that are bad all together; none of them is good.

    `order` puts the changes in a row. `test` is asked for one set after another, never twice for one.
    """
    row = list(order) if order is not None else list(range(count))
    needed: list[tuple[int, ...]] = []
    known: dict[frozenset[int], bool | None] = {frozenset(): False, frozenset(row): True}

    def ask(length: int) -> bool | None:
        chosen = frozenset(number for group in needed for number in group) | frozenset(row[:length])
        if chosen not in known:
            known[chosen] = test(chosen)
        return known[chosen]

    while row and ask(0) is not True:
        if len(needed) == GROUPS_MAX:
            needed.append(tuple(sorted(row)))
            break
        low, high = _flip(len(row), ask)
        needed.append(tuple(sorted(row[low:high])))
        row = row[:low]
    return Guilty(tuple(sorted(needed)))


def _flip(length: int, ask: Callable[[int], bool | None]) -> tuple[int, int]:
    """Returns the lengths of two prefixes, good and bad, between which nothing can be tested; adjacent, if all can."""
    low, high = 0, length
    search = _places(low, high)
    place = next(search, None)
    while place is not None:
        verdict = ask(place)
        if verdict is None:
            place = next(search, None)
            continue
        low, high = (low, place) if verdict else (place, high)
        search = _places(low, high)
        place = next(search, None)
    return low, high


def _places(low: int, high: int) -> Generator[int, None, None]:
    """Yields the places between two, the middle first, then those around it."""
    middle = (low + high) // 2
    for distance in range(high - low):
        for place in {middle - distance, middle + distance}:
            if low < place < high:
                yield place


def runs_expected(count: int) -> int:
    """Returns how many tests one culprit among `count` changes takes."""
    return ceil(log2(count)) + 1 if count > 1 else 0
