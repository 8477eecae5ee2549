"""Which reads of one file are sequential, and what is prefetched for them."""

from __future__ import annotations

import random

import pytest

from vfs.store.sequential_readahead import FIRST_BYTES, RUN_BYTES, STREAMS_MAX, WINDOW_BYTES, AccessPattern

SIZE = 1 << 40
PIECE = 128 * 1024


def ahead_of(reads: list[tuple[int, int]], size: int = SIZE) -> list[tuple[int, int]]:
    """Returns the stretches prefetched for reads of (offset, bytes)."""
    pattern = AccessPattern()
    found = [pattern.record(offset, min(offset + count, size), size) for offset, count in reads]
    return [stretch for stretch in found if stretch is not None]


def test_a_file_read_from_its_start_is_prefetched_completely_and_once() -> None:
    size = 20 * 1024 * 1024 + 7
    prefetched = ahead_of([(offset, PIECE) for offset in range(0, size, PIECE)], size)
    assert prefetched[0][0] == FIRST_BYTES
    assert [start for start, _ in prefetched[1:]] == [end for _, end in prefetched[:-1]]
    assert prefetched[-1][1] == size


def test_prefetching_is_bounded_by_the_bytes_read_and_the_window() -> None:
    pattern = AccessPattern()
    for offset in range(0, 16 * 1024 * 1024, PIECE):
        end = offset + PIECE
        stretch = pattern.record(offset, end, SIZE)
        if stretch is not None:
            assert stretch[1] <= end + min(end, WINDOW_BYTES)


@pytest.mark.parametrize("count", [4096, PIECE, 1024 * 1024])
def test_random_reads_prefetch_nothing(count: int) -> None:
    rng = random.Random(count)
    places = [rng.randrange(1, SIZE // count) * count for _ in range(2_000)]
    # A read of a place comes as requests one after the other.
    assert not ahead_of([(place + at, min(count, PIECE)) for place in places for at in range(0, count, PIECE)])


def test_one_read_at_the_start_prefetches_nothing() -> None:
    assert not ahead_of([(0, FIRST_BYTES - 1)])


def test_reading_on_from_the_middle_is_a_sequence_after_a_while() -> None:
    middle = 512 * 1024 * 1024
    prefetched = ahead_of([(middle + offset, PIECE) for offset in range(0, 2 * RUN_BYTES, PIECE)])
    assert prefetched[0] == (middle + RUN_BYTES, middle + 2 * RUN_BYTES)


def test_a_jump_ends_a_sequence() -> None:
    start = [(offset, PIECE) for offset in range(0, 2 * RUN_BYTES, PIECE)]
    assert len(ahead_of([*start, (SIZE // 2, PIECE), (SIZE // 2 + PIECE, PIECE)])) == len(ahead_of(start))


@pytest.mark.parametrize("readers", [2, STREAMS_MAX])
def test_readers_of_one_file_that_take_turns_are_each_followed(readers: int) -> None:
    starts = [number << 30 for number in range(readers)]
    prefetched = ahead_of([(start + at, PIECE) for at in range(0, 2 * RUN_BYTES, PIECE) for start in starts])
    for start in starts:
        own = [stretch for stretch in prefetched if start <= stretch[0] < start + (1 << 30)]
        assert own == ahead_of([(start + at, PIECE) for at in range(0, 2 * RUN_BYTES, PIECE)])


def test_the_state_of_a_file_does_not_grow() -> None:
    pattern = AccessPattern()
    for place in range(1_000):
        pattern.record(place << 20, (place << 20) + 4096, SIZE)
    # The first one was forgotten long ago: it is no sequence that goes on here.
    assert not any(pattern.record(4096 + at, 4096 + at + PIECE, SIZE) for at in range(0, RUN_BYTES - PIECE, PIECE))
