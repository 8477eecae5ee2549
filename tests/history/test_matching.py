"""Goal: what two sequences have in common is found in order, and at a cost that does not grow with their product."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vfs.history.matching import Block, matching_blocks

_lines = st.lists(st.sampled_from("abcdefgh"), max_size=25)


@given(_lines, _lines)
def test_blocks_are_equal_ascending_apart_and_as_long_as_they_can_be(old: list[str], new: list[str]) -> None:
    blocks = matching_blocks(old, new)
    old_end = new_end = 0
    for block in blocks:
        assert block.size > 0
        assert block.old >= old_end
        assert block.new >= new_end
        assert (block.old, block.new) != (old_end, new_end) or block is blocks[0]
        assert old[block.old : block.old + block.size] == new[block.new : block.new + block.size]
        old_end, new_end = block.old + block.size, block.new + block.size


@given(_lines, _lines, _lines)
def test_what_surrounds_a_change_is_matched_whole(before: list[str], changed: list[str], after: list[str]) -> None:
    blocks = matching_blocks([*before, "was", *after], before + changed + after)
    assert sum(block.size for block in blocks) == len(before) + len(after)


def test_an_insertion_and_a_removal_are_told_apart() -> None:
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
