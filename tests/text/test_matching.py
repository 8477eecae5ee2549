"""Goal: what two sequences have in common is found in order, and at a cost that does not grow with their product."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.text import matching
from vfs.text.matching import Block, matching_blocks
from vfs.text.subsequence import dense_pairs, middle, sparse_pairs

_lines = st.lists(st.sampled_from("abcdefgh"), max_size=25)
LABELS = [b"cat\n", b"dog\n", b"bird\n"]


def longest(old: list[int], new: list[int]) -> int:
    """Returns the length of a longest common subsequence, by the table of all pairs of places."""
    above = [0] * (len(new) + 1)
    for item in old:
        row = [0]
        for place, other in enumerate(new):
            row.append(above[place] + 1 if item == other else max(above[place + 1], row[place]))
        above = row
    return above[-1]


@st.composite
def _pairs_of_sequences(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Two sequences over a small alphabet: unrelated, or one made of the other by insertions, removals and moves."""
    items = st.integers(0, draw(st.sampled_from([0, 1, 2, 4, 30])))
    old = draw(st.lists(items, max_size=60))
    if draw(st.booleans()):
        return old, draw(st.lists(items, max_size=60))
    new = list(old)
    for _ in range(draw(st.integers(0, 5))):
        at, size = draw(st.integers(0, len(new))), draw(st.integers(0, 9))
        piece, new[at : at + size] = new[at : at + size], draw(st.lists(items, max_size=4))
        if draw(st.booleans()):
            to = draw(st.integers(0, len(new)))
            new[to:to] = piece
    return old, new


def matched(old: list[int], new: list[int]) -> int:
    """Returns how many items are matched; what is found must be equal, ascend, and be as long as blocks can be."""
    old_end = new_end = total = 0
    for number, (at, place, size) in enumerate(matching_blocks(old, new)):
        assert size > 0
        assert at >= old_end
        assert place >= new_end
        assert (at, place) != (old_end, new_end) or number == 0
        assert old[at : at + size] == new[place : place + size]
        old_end, new_end, total = at + size, place + size, total + size
    return total


@given(_pairs_of_sequences())
def test_as_many_items_are_matched_as_can_be(pair: tuple[list[int], list[int]]) -> None:
    assert matched(*pair) == longest(*pair)


@given(_pairs_of_sequences())
def test_each_algorithm_matches_as_many_items_as_can_be(pair: tuple[list[int], list[int]]) -> None:
    old, new = pair
    best = longest(old, new)
    sparse = sparse_pairs(old, new, len(old) * len(new))
    assert sparse is not None
    for found in (sparse, dense_pairs(old, new)):
        assert [old[at] for at, _ in found] == [new[place] for _, place in found]
        assert found == sorted(found)
        assert len({at for at, _ in found}) == len({place for _, place in found}) == len(found) == best
    if old and new and old[0] != new[0] and old[-1] != new[-1]:
        point, _ = middle(old, new, (0, len(old), 0, len(new)), 10_000)
        assert point is not None
        at, place = point
        assert longest(old[:at], new[:place]) + longest(old[at:], new[place:]) == best
        assert 0 < at + place < len(old) + len(new)


def test_a_search_that_takes_more_work_than_it_may_says_so() -> None:
    rng = random.Random(1)
    old, new = ([rng.randrange(2) for _ in range(500)] for _ in range(2))
    old[0], old[-1], new[0], new[-1] = 7, 7, 8, 8
    point, done = middle(old, new, (0, 500, 0, 500), 1000)
    assert point is None
    assert done < 2000
    assert sparse_pairs(old, new, 1000) is None


@pytest.mark.parametrize("letters", [2, 3, 20])
@pytest.mark.parametrize("share", [0.02, 0.3, 1])
def test_without_work_left_nearly_as_many_items_are_matched(
    monkeypatch: pytest.MonkeyPatch, letters: int, share: float
) -> None:
    monkeypatch.setattr(matching, "_STEPS_MAX", 0)
    monkeypatch.setattr(matching, "_STEPS_PER_ITEM", 0)
    monkeypatch.setattr(matching, "_PAIRS_PER_ITEM", 0)
    monkeypatch.setattr(matching, "_CELLS_MAX", 0)
    monkeypatch.setattr(matching, "_WINDOW", 256)
    rng = random.Random(letters)
    old = [rng.randrange(letters) for _ in range(1500)]
    new = [rng.randrange(letters) if rng.random() < share else item for item in old]
    new[500:500] = [rng.randrange(letters) for _ in range(100)]
    del new[100:150]
    assert matched(old, new) >= 0.95 * longest(old, new)


def test_long_stretches_that_moved_far_are_matched_without_work_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "_CELLS_MAX", 0)
    rng = random.Random(2)
    kinds = [[number] * 20_000 for number in range(3)]
    old, new = kinds[0] + kinds[1] + kinds[2], kinds[2] + kinds[0] + kinds[1]
    for at in rng.sample(range(60_000), 600):
        new[at] = 9
    assert matched(old, new) >= 0.95 * sum(item in (0, 1) for item in new)


def test_two_changes_in_many_labels_are_two_changes() -> None:
    rng = random.Random(3)
    old = [rng.randrange(3) for _ in range(200_000)]
    new = list(old)
    new[5] = new[150_000] = 9
    assert matching_blocks(old, new) == [Block(0, 0, 5), Block(6, 6, 149_994), Block(150_001, 150_001, 49_999)]


def test_many_labels_that_have_nothing_to_do_with_each_other_are_matched_in_bounded_work() -> None:
    rng = random.Random(4)
    old, new = ([rng.randrange(3) for _ in range(150_000)] for _ in range(2))
    # Two random texts of three letters have about 0.72 of their length in common.
    assert matched(old, new) > 0.7 * len(old)
    assert matched(old, [item + 3 for item in new]) == 0


@pytest.mark.parametrize("changes", [2, 40, 700])
def test_no_more_lines_differ_than_git_finds(tmp_path: Path, changes: int) -> None:
    rng = random.Random(changes)
    old = [rng.choice(LABELS) for _ in range(4000)]
    new = list(old)
    for _ in range(changes):
        at = rng.randrange(len(new))
        new[at : at + rng.randrange(3)] = [rng.choice(LABELS) for _ in range(rng.randrange(3))]
    for name, lines in (("old", old), ("new", new)):
        (tmp_path / name).write_bytes(b"".join(lines))
    command = ["git", "diff", "--no-index", "--minimal", "--numstat", "old", "new"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, text=True).stdout.split()
    same = sum(block.size for block in matching_blocks(old, new))
    assert (len(new) - same, len(old) - same) == (int(told[0]), int(told[1]))


def test_of_places_that_are_as_good_the_last_is_taken() -> None:
    assert matching_blocks("xaab", "xaaab") == [Block(0, 0, 3), Block(3, 4, 1)]
    assert matching_blocks("xaaab", "xaab") == [Block(0, 0, 3), Block(4, 3, 1)]
    assert matching_blocks("{a}{b}", "{a}{n}{b}") == [Block(0, 0, 4), Block(4, 7, 2)]


@given(_lines, _lines, _lines)
def test_what_surrounds_a_change_is_matched_whole(before: list[str], changed: list[str], after: list[str]) -> None:
    blocks = matching_blocks([*before, "was", *after], before + changed + after)
    assert sum(block.size for block in blocks) == len(before) + len(after)


def test_an_insertion_and_a_removal_are_distinguished() -> None:
    assert matching_blocks(list("abcdef"), list("abXdef")) == [Block(0, 0, 2), Block(3, 3, 3)]
    assert matching_blocks(list("abcdef"), list("bcdefg")) == [Block(1, 0, 5)]
    assert matching_blocks([], list("a")) == []


class Counted:
    """An item that counts how often it is compared."""

    compared = 0

    def __init__(self, value: int) -> None:
        self.value = value

    def __hash__(self) -> int:
        return hash(self.value)

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return isinstance(other, Counted) and self.value == other.value


def test_a_long_table_with_many_changed_rows_takes_few_comparisons() -> None:
    size = 20_000
    old = [Counted(number) for number in range(size)]
    new = [Counted(number if number % 10 else -number) for number in range(size)]
    Counted.compared = 0
    assert sum(block.size for block in matching_blocks(old, new)) >= size * 9 // 10
    assert Counted.compared < size * 20
