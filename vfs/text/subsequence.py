"""Longest common subsequences of two sequences of integers: three exact algorithms, each for another kind of input.

- `middle` (Myers' O(ND), linear space) for sequences that differ in few places.
- `sparse_pairs` (Hunt and Szymanski) for items that seldom repeat, in whatever order they stand.
- `dense_pairs` (bit-parallel, Hyyrö) for few distinct items: rows of bits are Python integers, so one operation of the
  interpreter handles thousands of cells.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from math import isqrt

Pair = tuple[int, int]
"""A place in the old sequence and the place in the new one that it matches."""

_MASK_BITS_MAX = 1 << 28
"""Bits of cached rows that say where an item stands: 32 MiB."""


def middle(
    old: Sequence[int], new: Sequence[int], box: tuple[int, int, int, int], work: int
) -> tuple[Pair | None, int]:
    """Returns a point in the middle of a shortest edit script of a box, and the work done to find it.

    `box` is [old start, old end, new start, new end); neither side is empty, and the sides differ in their first and in
    their last items. Work is counted in steps of the search and compared items. The point is None where `work` of it
    did not suffice.
    """
    old_start, old_end, new_start, new_end = box
    n, m = old_end - old_start, new_end - new_start
    delta = n - m
    # Searching from the start and from the end, d edits each, visits about d * d points.
    rounds = min((n + m + 1) // 2, isqrt(work) + 1)
    zero = rounds + 1
    # The furthest place in `old` that d edits reach on each diagonal, from the start and from the end; -1: not reached.
    forward, backward = [-1] * (2 * rounds + 3), [-1] * (2 * rounds + 3)
    forward[zero + 1] = backward[zero + 1] = 0
    old_last, new_last = old_end - 1, new_end - 1
    done = 0
    for d in range(rounds + 1):
        lowest, highest = -(d - 2 * max(0, d - m)), d - 2 * max(0, d - n)
        for k in range(lowest, highest + 1, 2):
            x, over = forward[zero + k - 1] + 1, forward[zero + k + 1]
            if x <= over:
                x = over
            y = x - k
            if x < n and y < m and old[old_start + x] == new[new_start + y]:
                before = x
                while x < n and y < m and old[old_start + x] == new[new_start + y]:
                    x, y = x + 1, y + 1
                done += x - before
            forward[zero + k] = x
            if delta & 1 and -d < delta - k < d and x + backward[zero + delta - k] >= n:
                return (old_start + x, new_start + y), done
        for k in range(lowest, highest + 1, 2):
            x, over = backward[zero + k - 1] + 1, backward[zero + k + 1]
            if x <= over:
                x = over
            y = x - k
            if x < n and y < m and old[old_last - x] == new[new_last - y]:
                before = x
                while x < n and y < m and old[old_last - x] == new[new_last - y]:
                    x, y = x + 1, y + 1
                done += x - before
            backward[zero + k] = x
            if not delta & 1 and -d <= delta - k <= d and x + forward[zero + delta - k] >= n:
                return (old_end - x, new_end - y), done
        done += highest - lowest + 2
        if done > work:
            break
    return None, done


def longest_chain(pairs: Sequence[Pair]) -> list[Pair]:
    """Returns the longest run of pairs in which both places ascend.

    Pairs are given with the old place ascending, and those of one old place with the new place descending.
    """
    tails: list[int] = []  # the least new place at which a run of each length ends
    ends: list[int] = []  # the pair there
    before = array("q", bytes(8 * len(pairs)))
    for index, (_, place) in enumerate(pairs):
        length = bisect_left(tails, place)
        before[index] = ends[length - 1] if length else -1
        if length == len(tails):
            tails.append(place)
            ends.append(index)
        else:
            tails[length], ends[length] = place, index
    chain: list[Pair] = []
    index = ends[-1] if ends else -1
    while index >= 0:
        chain.append(pairs[index])
        index = before[index]
    return chain[::-1]


def sparse_pairs(old: Sequence[int], new: Sequence[int], pairs_max: int) -> list[Pair] | None:
    """Returns a longest common subsequence, or None where more than `pairs_max` pairs of places are equal."""
    places: dict[int, list[int]] = defaultdict(list)
    for place in reversed(range(len(new))):
        places[new[place]].append(place)
    count = 0
    for item in old:
        count += len(places.get(item, ()))
        if count > pairs_max:
            return None
    return longest_chain([(at, place) for at, item in enumerate(old) for place in places.get(item, ())])


def dense_pairs(old: Sequence[int], new: Sequence[int]) -> list[Pair]:
    """Returns a longest common subsequence.

    Takes time for every pair of places (a second for about three billion), and memory for 2 * sqrt(n) rows of bits.
    """
    if len(old) > len(new):
        return [(at, place) for place, at in dense_pairs(new, old)]
    masks = _masks(new, set(old))
    step = isqrt(len(old)) + 1
    row = (1 << len(new)) - 1
    saved: list[int] = []
    for start in range(0, len(old), step):
        saved.append(row)
        # Sums carry beyond the row; what is there is cut off now and then.
        row = list(_rows(row, old[start : start + step], masks))[-1] & ((1 << len(new)) - 1)
    found: list[Pair] = []
    at, place = len(old), len(new)
    for number in reversed(range(len(saved))):
        start = number * step
        # What lies right of `place` is decided: short rows make it cheap to ask for single bits.
        first = saved[number] & ((1 << place) - 1)
        rows = [first, *_rows(first, old[start:at], masks)]
        while at > start and place:
            if rows[at - start] >> (place - 1) & 1:
                place -= 1
                continue
            at -= 1
            if rows[at - start] >> (place - 1) & 1:
                place -= 1
                found.append((at, place))
    return found[::-1]


def _rows(row: int, items: Sequence[int], masks: Callable[[int], int]) -> Iterator[int]:
    """Yields the row of bits after each item: a bit is 0 where the subsequence up to there is longer by one."""
    for item in items:
        # Each run of ones moves its zero to the first place that has the item.
        hit = row & masks(item)
        row = (row + hit) | (row - hit)
        yield row


def _masks(items: Sequence[int], wanted: set[int]) -> Callable[[int], int]:
    """Returns a function that gives the bits of the places at which an item stands."""
    places: dict[int, array[int]] = defaultdict(lambda: array("Q"))
    for place, item in enumerate(items):
        if item in wanted:
            places[item].append(place)

    @lru_cache(maxsize=max(16, _MASK_BITS_MAX // max(1, len(items))))
    def mask(item: int) -> int:
        found = places.get(item)
        if found is None:
            return 0
        bits = bytearray(found[-1] // 8 + 1)
        for place in found:
            bits[place >> 3] |= 1 << (place & 7)
        return int.from_bytes(bits, "little")

    return mask
