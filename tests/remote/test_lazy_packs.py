"""Packs of a remote: what a read fetches, what is filled behind it, and what many readers fetch together."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from vfs.backend.local import LocalBackend
from vfs.backend.memory import MemoryBackend
from vfs.backend.protocol import MissingKey
from vfs.backend.wrappers import CountingBackend, Fault, FaultBackend
from vfs.remote import lazy_packs
from vfs.remote.disk_cache import PAGE_BYTES, SegmentCache
from vfs.remote.lazy_packs import DENSE_AFTER, FILL_AFTER, FIRST_READS, WINDOW_BYTES, LazyPacks, segments_of

MIB = 1024 * 1024
KEY = "packs/data/ab/" + "ab" * 16 + ".pack"
PACK = random.Random(1).randbytes(9 * MIB + 12_345)


class Scene:
    """A repository's local backend without the pack, and a remote with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_cut = False
        inner = MemoryBackend()
        inner.put(KEY, PACK)
        cut = Fault(ConnectionError(104, "cut"))
        self.remote = CountingBackend(FaultBackend(inner, lambda _name, _key: cut if self.is_cut else None))
        self.packs = self.opened()

    def opened(self) -> LazyPacks:
        return LazyPacks(LocalBackend(self.path), self.path, lambda: [self.remote])

    @property
    def requests(self) -> int:
        return self.remote.counts.requests["read_range"]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def filled(scene: Scene) -> None:
    """Returns when no fill is on its way."""
    scene.packs.wait_for_fills()


def test_a_read_fetches_the_pages_that_it_needs_and_no_more(scene: Scene) -> None:
    assert scene.packs.read_range(KEY, 100_000, 40_000) == PACK[100_000:140_000]
    assert scene.remote.counts.bytes_read <= 40_000 + 2 * PAGE_BYTES
    assert scene.packs.read_range(KEY, 110_000, 20_000) == PACK[110_000:130_000]
    assert scene.requests == 1


@pytest.mark.parametrize(
    ("offset", "size"),
    [
        (0, 1),
        (MIB - 5, 10),
        (3 * MIB + 7, 3 * MIB),
        (len(PACK) - 10, 10),
        (len(PACK) - 10, 99),
        (len(PACK), 5),
        (0, len(PACK)),
    ],
)
def test_any_range_has_the_right_bytes_the_first_and_the_second_time(scene: Scene, offset: int, size: int) -> None:
    for packs in (scene.packs, scene.packs, scene.opened()):
        assert packs.read_range(KEY, offset, size) == PACK[offset : offset + size]
        buffer = bytearray(size)
        count = packs.read_into(KEY, offset, memoryview(buffer))
        assert buffer[:count] == PACK[offset : offset + size]


def test_reads_that_miss_again_bring_the_rest_of_their_window_behind_them(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy_packs, "FIRST_READS", 0)
    for number in range(FILL_AFTER):
        scene.packs.read_range(KEY, number * MIB, 40_000)
    filled(scene)
    assert scene.requests == FILL_AFTER + 1
    assert scene.packs.read_range(KEY, 0, 4 * MIB) == PACK[: 4 * MIB]
    assert scene.requests == FILL_AFTER + 1
    scene.packs.read_range(KEY, 5 * MIB, 1000)
    filled(scene)
    assert scene.requests == FILL_AFTER + 2


def test_a_shuffled_pass_over_a_pack_fetches_each_byte_about_once(scene: Scene) -> None:
    places = list(range(0, len(PACK), 40_000))
    random.Random(2).shuffle(places)
    with ThreadPoolExecutor(8) as readers:
        found = readers.map(lambda at: scene.packs.read_range(KEY, at, 40_000) == PACK[at : at + 40_000], places)
        assert all(found)
    filled(scene)
    assert scene.remote.counts.bytes_read <= 1.6 * len(PACK)
    assert scene.requests < len(places) / 2
    before = scene.requests
    assert all(scene.packs.read_range(KEY, at, 40_000) == PACK[at : at + 40_000] for at in places)
    assert scene.requests == before


def test_a_cache_smaller_than_the_data_does_not_fetch_windows_again_and_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy_packs, "PACK_BYTES_MAX", 1 << 40)
    size = 48 * MIB
    content = random.Random(3).randbytes(size)
    scene.remote.inner.put(KEY, content)
    SegmentCache.open(segments_of(scene.path), 16 * MIB)
    places = list(range(0, size, 40_000))
    before = 0
    for epoch in range(3):
        random.Random(epoch).shuffle(places)
        before = scene.remote.counts.bytes_read
        for at in places:
            assert scene.packs.read_range(KEY, at, 40_000) == content[at : at + 40_000]
        filled(scene)
    # Exact ranges for what is not here, and pages that two reads share.
    assert scene.remote.counts.bytes_read - before <= 1.6 * size


def test_what_is_here_is_read_without_the_remote_and_the_rest_fails(scene: Scene) -> None:
    scene.packs.read_range(KEY, 0, 1000)
    scene.is_cut = True
    assert scene.packs.read_range(KEY, 0, 1000) == PACK[:1000]
    with pytest.raises(ConnectionError):
        scene.packs.read_range(KEY, 2 * MIB, 1000)
    scene.is_cut = False
    assert scene.packs.read_range(KEY, 2 * MIB, 1000) == PACK[2 * MIB : 2 * MIB + 1000]


def test_a_fill_that_fails_costs_its_readers_nothing(scene: Scene) -> None:
    for number in range(FILL_AFTER):
        scene.packs.read_range(KEY, number * MIB, 1000)
        scene.is_cut = number == FILL_AFTER - 1
    filled(scene)
    scene.is_cut = False
    assert scene.packs.read_range(KEY, 3 * MIB, 1000) == PACK[3 * MIB : 3 * MIB + 1000]


def test_copies_that_are_dropped_are_fetched_again(scene: Scene) -> None:
    # So little that no fill follows, which would be a request more.
    scene.packs.read_range(KEY, 0, 20_000)
    assert scene.packs.drop_copy(KEY, 10_000, 10)
    assert not scene.packs.drop_copy(KEY, 10_000, 10)
    assert scene.packs.read_range(KEY, 0, 20_000) == PACK[:20_000]
    assert scene.requests == 2


def test_without_a_place_for_the_cache_everything_is_fetched(scene: Scene) -> None:
    (scene.path / "segments").write_bytes(b"a file where the directory would be")
    for _ in range(2):
        assert scene.packs.read_range(KEY, 5000, 5000) == PACK[5000:10_000]
    assert scene.requests == 2
    assert not scene.packs.cache_bytes


def test_other_keys_are_local_alone(scene: Scene) -> None:
    with pytest.raises(MissingKey):
        scene.packs.read_range("log/000001", 0, 10)
    assert scene.requests == 0


@pytest.fixture
def large(scene: Scene) -> bytes:
    """A pack of many windows, in the place of the other."""
    content = random.Random(4).randbytes(48 * MIB)
    scene.remote.inner.put(KEY, content)
    return content


def test_a_few_reads_of_a_large_pack_fetch_only_what_they_need(scene: Scene, large: bytes) -> None:
    for number in range(DENSE_AFTER):
        at = number * WINDOW_BYTES
        assert scene.packs.read_range(KEY, at, 1000) == large[at : at + 1000]
    filled(scene)
    assert scene.requests == DENSE_AFTER
    assert scene.remote.counts.bytes_read == DENSE_AFTER * PAGE_BYTES


def test_a_reader_of_few_small_files_fetches_no_more_than_their_share(scene: Scene, large: bytes) -> None:
    places = random.Random(6).sample(range(0, len(large), 2000), 100)
    for at in places:
        assert scene.packs.read_range(KEY, at, 1000) == large[at : at + 1000]
    filled(scene)
    assert scene.remote.counts.bytes_read <= 100 * 2 * PAGE_BYTES


def test_a_first_batch_fetches_what_it_reads_and_no_more(scene: Scene, large: bytes) -> None:
    size = 5 * PAGE_BYTES
    places = random.Random(7).sample(range(0, len(large), 8 * PAGE_BYTES), FIRST_READS + 1)
    with ThreadPoolExecutor(8) as readers:
        reads = readers.map(lambda at: scene.packs.read_range(KEY, at, size) == large[at : at + size], places[:-1])
        assert all(reads)
    filled(scene)
    assert scene.requests == FIRST_READS
    assert scene.remote.counts.bytes_read <= FIRST_READS * size
    scene.packs.read_range(KEY, places[-1], size)
    filled(scene)
    assert scene.requests == FIRST_READS + 2


def test_small_files_in_order_are_brought_ahead(scene: Scene, large: bytes) -> None:
    for at in range(0, WINDOW_BYTES, 1000):
        assert scene.packs.read_range(KEY, at, 1000) == large[at : at + 1000]
        filled(scene)
    assert scene.requests <= FILL_AFTER + 2


def test_many_readers_of_packs_that_are_gone_ask_for_the_newest_root_once(scene: Scene) -> None:
    asked: list[int] = []
    packs = LazyPacks(LocalBackend(scene.path), scene.path, lambda: [scene.remote], lambda: asked.append(1))
    gone = [KEY.replace("ab", digits) for digits in ("cd", "ef")]
    barrier = Barrier(8)

    def read(number: int) -> None:
        barrier.wait()
        with pytest.raises(MissingKey):
            packs.read_range(gone[number % 2], 0, 100)

    for _ in range(3):
        with ThreadPoolExecutor(8) as readers:
            list(readers.map(read, range(8)))
    assert 1 <= len(asked) <= 2


def test_a_shuffled_pass_over_a_large_pack_takes_a_request_for_a_hundred_reads(scene: Scene, large: bytes) -> None:
    size = 8192
    places = list(range(0, len(large), size))
    random.Random(5).shuffle(places)
    with ThreadPoolExecutor(8) as readers:
        assert all(readers.map(lambda at: scene.packs.read_range(KEY, at, size) == large[at : at + size], places))
    filled(scene)
    assert scene.requests <= len(places) / 100
    assert scene.remote.counts.bytes_read <= 1.05 * len(large)


def test_what_is_kept_is_read_without_a_request(scene: Scene) -> None:
    assert scene.packs.read_kept(KEY, 100_000, 5000) is None
    scene.packs.read_range(KEY, 100_000, 5000)
    before = scene.requests
    scene.is_cut = True
    assert scene.packs.read_kept(KEY, 101_000, 3000) == PACK[101_000:104_000]
    assert scene.packs.read_kept(KEY, 101_000, 3 * MIB) is None
    assert scene.packs.read_kept(KEY, 101_000, 0) is None
    assert scene.packs.read_kept("config", 0, 10) is None
    LocalBackend(scene.path).put(KEY, PACK)
    assert scene.packs.read_kept(KEY, 5 * MIB, 1000) == PACK[5 * MIB : 5 * MIB + 1000]
    assert scene.requests == before


def _on_disk(packs: LazyPacks, offset: int, size: int) -> bytes | None:
    """Returns the bytes that lie where a part of the pack should."""
    found = packs.on_disk(KEY, offset, size)
    if found is None:
        return None
    head = os.pread(found.file.descriptor, size - found.rest_bytes, found.offset)
    return head + os.pread(found.file.descriptor, found.rest_bytes, found.rest_offset)


def test_what_is_kept_has_a_place_on_disk(scene: Scene) -> None:
    assert scene.packs.on_disk(KEY, 100_000, 5000) is None
    for offset, size in ((100_000, 5000), (MIB - 3000, 7000), (2 * MIB - 70_000, 70_000), (9 * MIB, 12_345)):
        scene.packs.read_range(KEY, offset, size)
        assert _on_disk(scene.packs, offset, size) == PACK[offset : offset + size]
        # Another one that shares the cache.
        assert _on_disk(scene.opened(), offset, size) == PACK[offset : offset + size]
    scene.packs.read_range(KEY, 3 * MIB, 3 * MIB)
    for offset, size in ((5 * MIB, 0), (-1, 5), (3 * MIB, 3 * MIB), (7 * MIB, 1000), (9 * MIB, 20_000)):
        assert scene.packs.on_disk(KEY, offset, size) is None
    assert scene.packs.on_disk("config", 0, 10) is None
    assert scene.packs.drop_copy(KEY, 100_000, 5000)
    assert scene.packs.on_disk(KEY, 101_000, 5000) is None


def test_a_pack_that_came_has_a_place_in_its_own_file(scene: Scene) -> None:
    assert scene.packs.on_disk(KEY, 7 * MIB, 1000) is None
    LocalBackend(scene.path).put(KEY, PACK)
    assert _on_disk(scene.packs, 7 * MIB, 1000) == PACK[7 * MIB : 7 * MIB + 1000]
    assert _on_disk(scene.packs, MIB, 3 * MIB) == PACK[MIB : 4 * MIB]
