"""Matches the items of two sequences: lines of a text, rows of a table.

The result is a longest common subsequence wherever that is affordable: Myers' algorithm where the sequences differ
in few places, else one that suits how often the items repeat (`vfs/text/subsequence.py`). Work is bounded: sequences
above the bounds are divided at runs of items that occur once on both sides, and what cannot be divided is matched
through a window that moves along. Time then grows with the length, and not with its square.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import accumulate, pairwise
from math import log
from typing import NamedTuple

from vfs.text.subsequence import Pair, dense_pairs, longest_chain, middle, sparse_pairs

_STEPS_MAX = 1 << 20
"""Steps of Myers' search over all boxes, beside `_STEPS_PER_ITEM`: a quarter of a second."""
_STEPS_PER_BOX = 1 << 18
_STEPS_PER_ITEM = 4
_PAIRS_PER_ITEM = 8
_CELLS_MAX = 1 << 33
"""Lengths of boxes that are matched bit by bit, multiplied and added up: two or three seconds."""
_WINDOW = 4096
_SAMPLE, _SAMPLE_STEP, _SAMPLE_BETTER = 8192, 32, 1.05
"""Items of a side that show where it went as a whole; how many lie between corners; when that counts."""
_ANCHOR_RUN_MAX = 64
"""The longest run of items that anchors a match, if it occurs once on both sides."""
_CHANCE = 1000
"""A run of several items anchors if it would be there by chance in less than one of so many cases."""
_ITEMS_PER_ANCHOR = 512
"""With fewer anchors than one for so many items they may be what moved, and the rest is what stayed."""

_Box = tuple[int, int, int, int]
"""[old start, old end, new start, new end)."""


class Block(NamedTuple):
    """`size` items that are the same from `old` on in one sequence and from `new` on in the other."""

    old: int
    new: int
    size: int


def matching_blocks(old: Sequence[Hashable], new: Sequence[Hashable]) -> list[Block]:
    """Returns what both have in the same order, as long blocks that follow one another; none is empty."""
    start = _equal_prefix(old, new, (0, len(old), 0, len(new)))
    box = (start, len(old), start, len(new))
    end = _equal_suffix(old, new, box)
    numbers: dict[Hashable, int] = {}
    inner_old = [numbers.setdefault(item, len(numbers)) for item in old[start : len(old) - end]]
    inner_new = [numbers.setdefault(item, len(numbers)) for item in new[start : len(new) - end]]
    found = [Block(0, 0, start)]
    found += [Block(start + a, start + b, size) for a, b, size in _inner_blocks(inner_old, inner_new)]
    found.append(Block(len(old) - end, len(new) - end, end))
    return _slid_down(old, new, _coalesced(found))


def _inner_blocks(old: list[int], new: list[int]) -> list[Block]:
    """Matches items that the other side has, too: what it has not is in no common subsequence."""
    common = set(old) & set(new)
    kept_old, kept_new = _kept(old, common), _kept(new, common)
    matcher = _Matcher(
        old if len(kept_old) == len(old) else [old[place] for place in kept_old],
        new if len(kept_new) == len(new) else [new[place] for place in kept_new],
    )
    blocks: list[Block] = []
    pieces = _coalesced(matcher.match())
    while pieces:
        a, b, size = pieces.pop()
        if kept_old[a + size - 1] - kept_old[a] == size - 1 == kept_new[b + size - 1] - kept_new[b]:
            blocks.append(Block(kept_old[a], kept_new[b], size))
        else:
            # Something was left out inside.
            half = size // 2
            pieces += [Block(a, b, half), Block(a + half, b + half, size - half)]
    return blocks


def _kept(items: list[int], common: set[int]) -> array[int]:
    return array("Q", (place for place, item in enumerate(items) if item in common))


class _Matcher:
    """Matches two sequences of numbers, box by box, within the bounds on work."""

    def __init__(self, old: list[int], new: list[int]) -> None:
        self._old = old
        self._new = new
        self._found: list[Block] = []
        self._steps = _STEPS_MAX
        self._cells = _CELLS_MAX

    def match(self) -> list[Block]:
        """Returns the blocks, in no order; some may be empty."""
        boxes = [(0, len(self._old), 0, len(self._new))]
        while boxes:
            box = self._without_equal_ends(boxes.pop())
            if box[0] < box[1] and box[2] < box[3]:
                boxes += self._divided(box)
        return self._found

    def _without_equal_ends(self, box: _Box) -> _Box:
        old_start, old_end, new_start, new_end = box
        prefix = _equal_prefix(self._old, self._new, box)
        self._found.append(Block(old_start, new_start, prefix))
        suffix = _equal_suffix(self._old, self._new, (old_start + prefix, old_end, new_start + prefix, new_end))
        self._found.append(Block(old_end - suffix, new_end - suffix, suffix))
        return old_start + prefix, old_end - suffix, new_start + prefix, new_end - suffix

    def _divided(self, box: _Box) -> list[_Box]:
        """Matches a box, or returns those that it falls into."""
        old_start, old_end, new_start, new_end = box
        items = old_end - old_start + new_end - new_start
        allowed = _STEPS_PER_ITEM * items + min(self._steps, _STEPS_PER_BOX)
        point, done = middle(self._old, self._new, box, allowed)
        self._steps = max(0, self._steps - max(0, done - _STEPS_PER_ITEM * items))
        if point is not None:
            return [(old_start, point[0], new_start, point[1]), (point[0], old_end, point[1], new_end)]
        old, new = self._old[old_start:old_end], self._new[new_start:new_end]
        pairs = sparse_pairs(old, new, _PAIRS_PER_ITEM * items)
        cells = len(old) * len(new)
        if pairs is None and (cells <= self._cells or items <= _WINDOW):
            self._cells = max(0, self._cells - cells)
            pairs = dense_pairs(old, new)
        if pairs is None:
            anchors = _anchors(old, new)
            corners = [(0, 0), *anchors, (len(old), len(new))]
            if anchors:
                return [
                    (old_start + a[0], old_start + b[0], new_start + a[1], new_start + b[1])
                    for a, b in pairwise(corners)
                ]
            self._found += [Block(old_start + a, new_start + b, size) for a, b, size in _approximate_blocks(old, new)]
        else:
            self._found += [Block(old_start + at, new_start + place, 1) for at, place in pairs]
        return []


def _equal_prefix(old: Sequence[Hashable], new: Sequence[Hashable], box: _Box) -> int:
    """Returns how many items are the same from the start of a box on; long runs are compared in pieces."""
    old_start, old_end, new_start, new_end = box
    most, at, piece = min(old_end - old_start, new_end - new_start), 0, 1
    while at < most:
        size = min(piece, most - at)
        if old[old_start + at : old_start + at + size] == new[new_start + at : new_start + at + size]:
            at, piece = at + size, min(2 * piece, 1 << 16)
        elif size == 1:
            break
        else:
            piece = max(1, size // 8)
    return at


def _equal_suffix(old: Sequence[Hashable], new: Sequence[Hashable], box: _Box) -> int:
    """Returns how many items are the same up to the end of a box."""
    old_start, old_end, new_start, new_end = box
    most, at, piece = min(old_end - old_start, new_end - new_start), 0, 1
    while at < most:
        size = min(piece, most - at)
        if old[old_end - at - size : old_end - at] == new[new_end - at - size : new_end - at]:
            at, piece = at + size, min(2 * piece, 1 << 16)
        elif size == 1:
            break
        else:
            piece = max(1, size // 8)
    return at


def _anchors(old: list[int], new: list[int]) -> list[Pair]:
    """Returns the starts of runs that occur once on either side, in the same order; none where there are few."""
    # How unlikely a run is: sums of the logarithms of how often its items occur.
    counts = Counter(new)
    rarity = [0.0, *accumulate(log(len(new) / counts[item]) if item in counts else 0.0 for item in old)]
    least = log(len(new) * _CHANCE)
    length = 1
    while length <= _ANCHOR_RUN_MAX:
        once = _unique_places(new)
        pairs = [
            (place, once[run])
            for run, place in _unique_places(old).items()
            if run in once and (length == 1 or rarity[place + length] - rarity[place] > least)
        ]
        chain = longest_chain(sorted(pairs))
        if len(chain) * _ITEMS_PER_ANCHOR >= max(len(old), len(new)):
            return chain
        old, new = _doubled_runs(old, new, length)
        length *= 2
    return []


def _doubled_runs(old: list[int], new: list[int], length: int) -> tuple[list[int], list[int]]:
    """Returns numbers for runs of twice the length, given those of runs of `length`."""
    numbers: dict[Pair, int] = {}
    return (
        [numbers.setdefault(run, len(numbers)) for run in zip(old, old[length:], strict=False)],
        [numbers.setdefault(run, len(numbers)) for run in zip(new, new[length:], strict=False)],
    )


def _unique_places(items: list[int]) -> dict[int, int]:
    """Returns the places of items that occur once."""
    places: dict[int, int] = {}
    for place, item in enumerate(items):
        places[item] = -1 if item in places else place
    return {item: place for item, place in places.items() if place >= 0}


def _approximate_blocks(old: list[int], new: list[int]) -> list[Block]:
    """Returns a common subsequence that is nearly a longest one, in time that grows with the length."""
    blocks = list(_runs(_windowed_pairs(old, new)))
    stride = -(-max(len(old), len(new)) // _SAMPLE)
    sample = dense_pairs(old[::stride], new[::stride])
    if len(sample) * stride > sum(block.size for block in blocks) * _SAMPLE_BETTER:
        # Long runs moved further than a window reaches: items that kept their order are found in a sample, too.
        corners = [(0, 0), *((a * stride, b * stride) for a, b in sample[::_SAMPLE_STEP]), (len(old), len(new))]
        guided = [
            Block(a[0] + block.old, a[1] + block.new, block.size)
            for a, b in pairwise(corners)
            for block in _runs(_windowed_pairs(old[a[0] : b[0]], new[a[1] : b[1]]))
        ]
        return max(blocks, guided, key=lambda found: sum(block.size for block in found))
    return blocks


def _runs(pairs: Iterable[Pair]) -> Iterable[Block]:
    """Yields pairs that follow one another as blocks."""
    start = place = size = 0
    for pair in pairs:
        if pair == (start + size, place + size):
            size += 1
            continue
        if size:
            yield Block(start, place, size)
        start, place, size = *pair, 1
    if size:
        yield Block(start, place, size)


def _windowed_pairs(old: list[int], new: list[int]) -> Iterable[Pair]:
    """Yields a common subsequence that is the longest within windows, each of which begins inside the one before."""
    most = _WINDOW * 3 // 4
    at = place = 0
    while at < len(old) and place < len(new):
        # Where a match leaves the first three quarters, the next window goes on.
        next_at, next_place = at + most, place + most
        for a, b in dense_pairs(old[at : at + _WINDOW], new[place : place + _WINDOW]):
            if a >= most or b >= most:
                next_at, next_place = at + min(a, most), place + min(b, most)
                break
            yield at + a, place + b
        at, place = next_at, next_place


def _coalesced(blocks: list[Block]) -> list[Block]:
    joined: list[Block] = []
    for block in sorted(block for block in blocks if block.size):
        last = joined[-1] if joined else None
        if last is not None and (last.old + last.size, last.new + last.size) == (block.old, block.new):
            joined[-1] = last._replace(size=last.size + block.size)
        else:
            joined.append(block)
    return joined


def _slid_down(old: Sequence[Hashable], new: Sequence[Hashable], blocks: list[Block]) -> list[Block]:
    """Moves what is only added or only removed as far down as equal items let it.

    Of several places that are as good this takes the same on both sides of a merge, and a line that was replaced is not
    removed at one place and added at another.
    """
    slid = [Block(0, 0, 0)]
    for block in blocks:
        last = slid[-1]
        old_gap, new_gap = last.old + last.size, last.new + last.size
        moved = 0
        if old_gap == block.old and new_gap < block.new:
            while moved < block.size and new[new_gap + moved] == new[block.new + moved]:
                moved += 1
        elif new_gap == block.new and old_gap < block.old:
            while moved < block.size and old[old_gap + moved] == old[block.old + moved]:
                moved += 1
        slid[-1] = last._replace(size=last.size + moved)
        if moved < block.size:
            slid.append(Block(block.old + moved, block.new + moved, block.size - moved))
    return slid if slid[0].size else slid[1:]
