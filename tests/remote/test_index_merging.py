"""The number of index objects stays small, whatever the number of pushes."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from vfs.remote.format import INDEX_BYTES_MAX, IndexName
from vfs.remote.index_merging import merged_from


def _pushed(sizes: list[int]) -> tuple[list[int], int]:
    """Returns the sizes of index objects after pushes with entries of these sizes, and all bytes that were written."""
    found: list[int] = []
    written = 0
    for size in sizes:
        kept = merged_from([IndexName("a" * 32, known, 1) for known in found], size)
        found[kept:] = [size + sum(found[kept:])]
        written += found[-1]
    return found, written


def test_after_ten_thousand_pushes_there_are_at_most_twelve() -> None:
    for seed in range(5):
        sizes = [int(random.Random(seed + number).lognormvariate(7.5, 1)) for number in range(10_000)]
        found, written = _pushed(sizes)
        assert sum(found) == sum(sizes)
        assert len(found) <= 12
        assert written <= 10_000 * 400_000


@given(st.lists(st.integers(1, INDEX_BYTES_MAX), max_size=60))
def test_no_object_passes_the_limit_and_none_is_lost(sizes: list[int]) -> None:
    found, _ = _pushed(sizes)
    assert sum(found) == sum(sizes)
    assert all(size <= INDEX_BYTES_MAX for size in found)
