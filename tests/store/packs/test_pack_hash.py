"""PackHash: the same hash whether a thread computes it or not, and no thread is left."""

import random
import threading

import pytest

from vfs.model.ids import chunk_id
from vfs.store.packs.pack_hash import PackHash

DATA = random.Random(1).randbytes(40 * 1024 * 1024)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> object:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("piece_bytes", [700_000, 3_000_000])
def test_pieces_make_the_hash_of_the_whole(piece_bytes: int) -> None:
    running = PackHash()
    for start in range(0, len(DATA), piece_bytes):
        piece = DATA[start : start + piece_bytes]
        running.update([piece[:1000], memoryview(piece)[1000:]])
    assert running.hex() == chunk_id(DATA).hex()


def test_small_pieces_keep_their_place_behind_large_ones() -> None:
    running = PackHash()
    for start, end in ((0, 100), (100, 5_000_000), (5_000_000, 5_000_010), (5_000_010, 9_000_000)):
        running.update([DATA[start:end]])
    assert running.hex() == chunk_id(DATA[:9_000_000]).hex()


def test_what_is_dropped_has_no_thread() -> None:
    running = PackHash()
    for _ in range(3):
        running.update([DATA])
    running.close()
