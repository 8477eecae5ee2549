"""The cache of segments: its bound, its pages, damage, full disks, and processes that share it or are killed."""

from __future__ import annotations

import functools
import multiprocessing
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfs.backend.rooted_path import RootedPath
from vfs.remote.disk_cache import PAGE_BYTES, SEGMENT_BYTES, Segment, SegmentCache

MIB = 1024 * 1024


def pack(number: int) -> bytes:
    return random.Random(number).randbytes(16)


@functools.cache
def content(number: int, size: int = SEGMENT_BYTES) -> bytes:
    return random.Random(number).randbytes(size)


def opened(path: Path, size: int | None = None) -> SegmentCache:
    return SegmentCache.open(RootedPath(path, "segments"), size)


def read(kept: SegmentCache, segment: Segment, start: int = 0, end: int = SEGMENT_BYTES) -> bytes | None:
    """Returns the bytes of the pages, None if one is missing."""
    pages = kept.read(segment, start, end)
    return None if None in pages else b"".join(page for page in pages if page is not None)


def test_pages_come_back_and_others_are_missing(tmp_path: Path) -> None:
    cache, segment = opened(tmp_path, 64 * MIB), Segment(pack(1), 3)
    cache.keep(segment, 2 * PAGE_BYTES, content(1)[2 * PAGE_BYTES : 5 * PAGE_BYTES])
    assert read(cache, segment, 2 * PAGE_BYTES + 7, 5 * PAGE_BYTES - 1) == content(1)[2 * PAGE_BYTES : 5 * PAGE_BYTES]
    assert [page is None for page in cache.read(segment, 0, 6 * PAGE_BYTES)] == [True, True, False, False, False, True]
    assert read(cache, Segment(pack(1), 4), 0, 10) is None
    assert read(cache, Segment(pack(2), 3), 0, 10) is None
    assert [number for number in range(64) if number not in cache.missing(segment)] == [2, 3, 4]


def test_a_partial_page_is_kept_only_at_the_end_of_the_pack(tmp_path: Path) -> None:
    cache, segment = opened(tmp_path, 64 * MIB), Segment(pack(1), 0)
    cache.keep(segment, 0, content(1, PAGE_BYTES + 100))
    assert [page is None for page in cache.read(segment, 0, 2 * PAGE_BYTES)] == [False, True]
    cache.keep(segment, 0, content(1, PAGE_BYTES + 100), is_end=True)
    assert cache.read(segment, 0, 3 * PAGE_BYTES) == [
        content(1, PAGE_BYTES + 100)[:PAGE_BYTES], content(1, PAGE_BYTES + 100)[PAGE_BYTES:], b"",
    ]  # fmt: skip


def test_it_outlives_its_process_and_keeps_its_bound(tmp_path: Path) -> None:
    cache = opened(tmp_path, 32 * MIB)
    for number in range(100):
        cache.keep(Segment(pack(number), number), 0, content(number))
    files = [path.stat() for path in (tmp_path / "segments").iterdir()]
    assert sum(status.st_blocks * 512 for status in files) <= 33 * MIB
    del cache
    again = opened(tmp_path)
    assert again.size == 32 * MIB
    found = [number for number in range(100) if len(again.missing(Segment(pack(number), number))) < 64]
    # Each set is full, whichever segments chose it.
    assert len(found) == 32
    assert all(read(again, Segment(pack(number), number)) == content(number) for number in found)


def test_what_is_used_stays_and_the_rest_is_evicted(tmp_path: Path) -> None:
    cache = opened(tmp_path, 16 * MIB)
    kept = [Segment(pack(number), 0) for number in range(4)]
    for number, segment in enumerate(kept):
        cache.keep(segment, 0, content(number))
    for number in range(100, 200):
        cache.keep(Segment(pack(number), 0), 0, content(number, PAGE_BYTES))
        for segment in kept:
            cache.read(segment, 0, 1)
    assert all(read(cache, segment) == content(number) for number, segment in enumerate(kept))


def test_a_segment_that_another_user_of_the_cache_has_evicted_has_no_place(tmp_path: Path) -> None:
    cache, other, segment = opened(tmp_path, 16 * MIB), opened(tmp_path), Segment(pack(1), 0)
    cache.keep(segment, 0, content(1)[: 2 * PAGE_BYTES])
    place = cache.find(segment, 100, PAGE_BYTES + 100)
    assert place is not None
    assert os.pread(cache.data.descriptor, PAGE_BYTES, place) == content(1)[100 : PAGE_BYTES + 100]
    assert cache.find(segment, 100, 2 * PAGE_BYTES + 1) is None
    for number in range(2, 66):
        other.keep(Segment(pack(number), 0), 0, content(2))
    # It is not looked at for each use, but when the bytes are others, or after some uses.
    for _ in range(20):
        place = cache.find(segment, 100, PAGE_BYTES + 100)
        assert place is None or os.pread(cache.data.descriptor, 100, place) != content(1)[100:200]
    assert place is None
    cache.keep(segment, 0, content(1))
    assert cache.find(segment, 0, SEGMENT_BYTES) is not None
    for number in range(2, 66):
        other.keep(Segment(pack(number), 0), 0, content(2))
    assert read(cache, segment) is None
    assert cache.find(segment, 0, SEGMENT_BYTES) is None


def test_a_segment_that_is_evicted_or_dropped_has_no_place(tmp_path: Path) -> None:
    cache, segment = opened(tmp_path, 16 * MIB), Segment(pack(1), 0)

    def fill() -> None:
        for number in range(2, 66):
            cache.keep(Segment(pack(number), 0), 0, content(2))

    def drop() -> None:
        assert cache.drop(segment, 0, 100)

    for lose in (fill, drop):
        cache.keep(segment, 0, content(1))
        assert cache.find(segment, 0, SEGMENT_BYTES) is not None
        lose()
        assert cache.find(segment, 0, SEGMENT_BYTES) is None


def test_a_segment_whose_place_is_asked_for_stays(tmp_path: Path) -> None:
    cache, segment = opened(tmp_path, 16 * MIB), Segment(pack(1), 0)
    cache.keep(segment, 0, content(1), evicts_used=False)
    for number in range(2, 66):
        assert cache.find(segment, 0, 100) is not None
        cache.keep(Segment(pack(number), 0), 0, content(2))


def test_flipped_bits_are_never_served(tmp_path: Path) -> None:
    cache, segment = opened(tmp_path, 16 * MIB), Segment(pack(1), 0)
    cache.keep(segment, 0, content(1))
    chance = random.Random(5)
    for name in ("data", "table"):
        path = tmp_path / "segments" / name
        whole = path.read_bytes()
        for _ in range(12):
            damaged = bytearray(whole)
            for _ in range(20):
                at = chance.randrange(4096 if name == "table" else 0, len(damaged))
                damaged[at] ^= 1 << chance.randrange(8)
            path.write_bytes(damaged)
            for number, page in enumerate(cache.read(segment, 0, SEGMENT_BYTES)):
                assert page in (None, content(1)[number * PAGE_BYTES : (number + 1) * PAGE_BYTES])
        path.write_bytes(whole)
    assert read(cache, segment) == content(1)


def test_pages_that_a_reader_finds_wrong_are_dropped(tmp_path: Path) -> None:
    cache, segment = opened(tmp_path, 16 * MIB), Segment(pack(1), 0)
    cache.keep(segment, 0, content(1))
    assert cache.drop(segment, PAGE_BYTES + 1, 2 * PAGE_BYTES + 1)
    assert [page is None for page in cache.read(segment, 0, 4 * PAGE_BYTES)] == [False, True, True, False]
    assert not cache.drop(segment, PAGE_BYTES, 2 * PAGE_BYTES)
    assert not cache.drop(Segment(pack(2), 0), 0, 1)


@pytest.mark.parametrize("damage", [b"", b"VFSSEGM\x01", b"VFSSEGM\x01" + b"\xff" * 8, b"\0" * 9000])
def test_a_damaged_table_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    opened(tmp_path, 16 * MIB).keep(Segment(pack(1), 0), 0, content(1))
    (tmp_path / "segments" / "table").write_bytes(damage)
    cache = opened(tmp_path, 16 * MIB)
    assert read(cache, Segment(pack(1), 0)) is None
    cache.keep(Segment(pack(1), 0), 0, content(1))
    assert read(cache, Segment(pack(1), 0)) == content(1)


def test_another_bound_waits_for_those_that_use_the_cache(tmp_path: Path) -> None:
    first = opened(tmp_path, 16 * MIB)
    first.keep(Segment(pack(1), 0), 0, content(1))
    second = opened(tmp_path, 64 * MIB)
    assert second.size == 16 * MIB
    assert read(second, Segment(pack(1), 0)) == content(1)
    del first, second
    assert opened(tmp_path, 64 * MIB).size == 64 * MIB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Returns a filesystem of 8 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_costs_speed_alone(small_disk: Path) -> None:
    cache = opened(small_disk, 64 * MIB)
    segments = [Segment(pack(number), 0) for number in range(20)]
    for number, segment in enumerate(segments):
        cache.keep(segment, 0, content(number))
    found = [number for number, segment in enumerate(segments) if read(cache, segment) == content(number)]
    assert len(found) >= 5
    for number, segment in enumerate(segments):
        pages = cache.read(segment, 0, SEGMENT_BYTES)
        assert b"".join(page for page in pages if page) in (content(number), b"") or number not in found
    # What is there can still be dropped and evicted: the table has its place from the beginning.
    assert cache.drop(segments[found[0]], 0, SEGMENT_BYTES)
    assert read(cache, segments[found[0]]) is None


def test_a_disk_without_place_for_the_table_is_an_error_of_opening(small_disk: Path) -> None:
    with pytest.raises(OSError, match="space"):
        opened(small_disk, 1 << 44)
    assert opened(small_disk, 16 * MIB).size == 16 * MIB


def _write_for_ever(path: Path, seed: int) -> None:
    cache = opened(path, 16 * MIB)
    chance = random.Random(seed)
    while True:
        number = chance.randrange(24)
        cache.keep(Segment(pack(number), number), 0, content(number))


@pytest.mark.parametrize("seed", range(2))
def test_processes_that_share_it_and_are_killed_leave_no_wrong_byte(tmp_path: Path, seed: int) -> None:
    cache = opened(tmp_path, 16 * MIB)
    start = multiprocessing.get_context("spawn")
    for round_number in range(2):
        writers = [
            start.Process(target=_write_for_ever, args=(tmp_path, seed + 7 * n + round_number)) for n in range(2)
        ]
        for writer in writers:
            writer.start()
        seen = 0
        chance = random.Random(seed)
        while seen < 200:
            number = chance.randrange(24)
            for index, page in enumerate(cache.read(Segment(pack(number), number), 0, SEGMENT_BYTES)):
                if page is not None:
                    seen += 1
                    assert page == content(number)[index * PAGE_BYTES : (index + 1) * PAGE_BYTES]
        for writer in writers:
            assert writer.pid is not None
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
        # The locks of the killed are gone.
        for number in range(24):
            cache.keep(Segment(pack(number), number), 0, content(number))
            assert read(cache, Segment(pack(number), number)) == content(number)


def test_a_claim_keeps_another_user_of_the_cache_waiting(tmp_path: Path) -> None:
    first, second = opened(tmp_path, 16 * MIB), opened(tmp_path, 16 * MIB)
    segment = Segment(pack(1), 0)
    with first.claimed(segment, 0, wait_s=0) as is_ours:
        assert is_ours
        with second.claimed(segment, 0, wait_s=0.02) as is_theirs:
            assert not is_theirs
        with second.claimed(segment, PAGE_BYTES, wait_s=0) as is_other:
            assert is_other
    with second.claimed(segment, 0, wait_s=0) as is_theirs:
        assert is_theirs
