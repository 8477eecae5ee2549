"""Which items of one sequence go on in another: lines of a text, rows of a table.

Items that occur once on both sides anchor the match (the longest run of them in the same order), what lies between two
anchors is matched in the same way, and short stretches without anchors item by item. So a table of a million different
rows takes a sort, and not the square of its length.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import NamedTuple

_EXACT_PRODUCT_MAX = 1_000_000
"""Lengths of two stretches without anchors, multiplied: above it frequent items do not start a match."""


class Block(NamedTuple):
    """`size` items that are the same from `old` on in one sequence and from `new` on in the other."""

    old: int
    new: int
    size: int


def matching_blocks(old: Sequence[Hashable], new: Sequence[Hashable]) -> list[Block]:
    """Returns what both have in the same order, as long blocks that follow one another; none is empty."""
    found: list[Block] = []
    stack = [(0, len(old), 0, len(new))]
    while stack:
        old_start, old_end, new_start, new_end = stack.pop()
        start = old_start
        while old_start < old_end and new_start < new_end and old[old_start] == new[new_start]:
            old_start, new_start = old_start + 1, new_start + 1
        found.append(Block(start, new_start - (old_start - start), old_start - start))
        end = old_end
        while old_start < old_end and new_start < new_end and old[old_end - 1] == new[new_end - 1]:
            old_end, new_end = old_end - 1, new_end - 1
        found.append(Block(old_end, new_end, end - old_end))
        if old_start < old_end and new_start < new_end:
            anchors = _anchors(old, new, old_start, old_end, new_start, new_end)
            if anchors:
                corners = [(old_start, new_start), *anchors, (old_end, new_end)]
                stack += [(a[0], b[0], a[1], b[1]) for a, b in pairwise(corners)]
            else:
                found += _plain_blocks(old[old_start:old_end], new[new_start:new_end], old_start, new_start)
    return _joined(found)


def _anchors(
    old: Sequence[Hashable], new: Sequence[Hashable], old_start: int, old_end: int, new_start: int, new_end: int
) -> list[tuple[int, int]]:
    """Returns the longest ascending run of (old, new) places of items that occur once on either side."""
    old_counts = Counter(old[old_start:old_end])
    new_places: dict[Hashable, int] = {}
    new_counts: Counter[Hashable] = Counter()
    for place in range(new_start, new_end):
        new_counts[new[place]] += 1
        new_places[new[place]] = place
    pairs = [
        (place, new_places[item])
        for place in range(old_start, old_end)
        if old_counts[item := old[place]] == 1 and new_counts[item] == 1
    ]
    # The longest ascending subsequence of the places in `new`: `tails` holds the least end of a run of each length.
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for index, (_, place) in enumerate(pairs):
        length = bisect_left(tails, place)
        before.append(ends[length - 1] if length else -1)
        if length == len(tails):
            tails.append(place)
            ends.append(index)
        else:
            tails[length], ends[length] = place, index
    chain: list[tuple[int, int]] = []
    index = ends[-1] if ends else -1
    while index >= 0:
        chain.append(pairs[index])
        index = before[index]
    return chain[::-1]


def _plain_blocks(old: Sequence[Hashable], new: Sequence[Hashable], old_start: int, new_start: int) -> list[Block]:
    is_long = len(old) * len(new) > _EXACT_PRODUCT_MAX
    matcher = SequenceMatcher(None, old, new, autojunk=is_long)
    return [Block(old_start + a, new_start + b, size) for a, b, size in matcher.get_matching_blocks()]


def _joined(blocks: list[Block]) -> list[Block]:
    joined: list[Block] = []
    for block in sorted(block for block in blocks if block.size):
        last = joined[-1] if joined else None
        if last is not None and (last.old + last.size, last.new + last.size) == (block.old, block.new):
            joined[-1] = last._replace(size=last.size + block.size)
        else:
            joined.append(block)
    return joined
