"""The prefetch policy: files opened in order prefetch the next ones, any other order prefetches nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import pytest

from support.pushed import PushedFiles
from support.repositories import Repositories
from support.trees import write_file
from vfs.fuse.inodes import InodeTable
from vfs.fuse.prefetch import prefetch_policy
from vfs.fuse.prefetch.open_predictor import CONFIDENCE_MIN
from vfs.fuse.prefetch.prefetch_policy import PUSH_BYTES_MAX, PrefetchPolicy
from vfs.fuse.prefetch.streams import NEIGHBOURS_MIN
from vfs.fuse.prefetch.tiny_contents import TinyContents
from vfs.fuse.prefetch.worker_pool import WorkerPool
from vfs.fuse.view.version_inodes import VersionDirectory, VersionFile, VersionInodes
from vfs.model.ids import ChunkId
from vfs.model.objects import Entry
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.store.object_store import ObjectSource
from vfs.store.sequential_readahead import Extent
from vfs.store.trees.directories import entries, numbered_entries

FILES = 200
LARGE = 3 * PUSH_BYTES_MAX


def content(number: int) -> bytes:
    """Returns what the file with a number holds: one chunk, several of one, tiny, large, or nothing."""
    size = {5: 150_000, 9: 900, 13: LARGE, 17: 0}.get(number, 10_000)
    return random.Random(number).randbytes(size)


NOT_CHUNKS = {9, 17}
"""Tiny files lie in their directory, empty ones nowhere: none of them is prefetched."""


class Kernel:
    """Records pages pushed by the event loop and by prefetch workers."""

    def __init__(self, connection: PushedFiles) -> None:
        self._connection = connection
        self._given: dict[int, bytes] = {}
        self.pushes = 0

    def push(self, ino: int, offset: int, data: bytes) -> None:
        assert offset == 0
        assert ino not in self._connection.taken()
        self._given[ino] = bytes(data)
        self.pushes += 1

    @property
    def pages(self) -> dict[int, bytes]:
        return self._connection.taken() | self._given


class Opened:
    """A fresh opening of a repository whose one version has FILES files, with processes that read ahead."""

    def __init__(self, repositories: Repositories, stack: ExitStack, *, listed: bool = True) -> None:
        made = repositories.make()
        overlay = repositories.overlay(made)
        for number in range(FILES):
            write_file(overlay, b"%03d" % number, content(number))
        version = commit(made, overlay, "a test", "tester").version
        overlay.close()
        self.repo: Repository = repositories.reopen(made)
        self.table = InodeTable()
        self.versions = VersionInodes(self.repo.store, self.table)
        self.directory: VersionDirectory = self.versions.root(version)
        self.entries: list[Entry] = list(entries(self.repo.store, self.directory.entry))
        self.files = [self._file(entry) for entry in self.entries]
        if listed:
            for file in self.files:
                self.versions.hold(file)
        connection = stack.enter_context(PushedFiles())
        self.kernel = Kernel(connection)
        self.pool = WorkerPool(self.repo.recipe)
        stack.callback(self.pool.close)
        self.pool.fork()
        self.pool.start(connection.connection)
        self.repo.store.set_prefetcher(self.pool)

    def _file(self, entry: Entry) -> VersionFile:
        file = self.versions.child(self.directory, entry)
        assert isinstance(file, VersionFile)
        return file

    def open(self, numbers: Iterable[int]) -> None:
        """Opens files by number, without reading any, and each time waits for the prefetch."""
        ahead = PrefetchPolicy(self.repo.store, self.versions, self.table, self.kernel.push, self.pool)
        for number in numbers:
            self.versions.hold(self.files[number])
            ahead.opened(self.files[number], self.versions.open(self.files[number]))
            self.pool.wait_idle()

    def read(self, numbers: Iterable[int]) -> None:
        """Reads files whose opens are no requests, and each time waits for the prefetch."""
        ahead = PrefetchPolicy(self.repo.store, self.versions, self.table, None, self.pool)
        for number in numbers:
            ahead.read(self.files[number])
            self.pool.wait_idle()

    def pushed(self) -> set[int]:
        """Returns the numbers of the files whose bytes the kernel has, which are right."""
        found = {number for number in range(FILES) if self.files[number].ino in self.kernel.pages}
        assert all(self.kernel.pages[self.files[number].ino] == content(number) for number in found)
        return found

    def cached(self) -> set[int]:
        """Returns the numbers of the files of one chunk that are in memory."""
        return {n for n in range(FILES) if self.repo.store.cached(ChunkId(self.entries[n].content)) is not None}


Opening = Callable[..., Opened]


@pytest.fixture
def opening(repositories: Repositories) -> Iterator[Opening]:
    """Opens such a repository; the processes end with the test."""
    with ExitStack() as stack:
        yield partial(Opened, repositories, stack)


class CalledFor:
    """Hears which parts of packs the disk is told to read."""

    def __init__(self, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        index = opened.repo.store.index
        self._places = {n: index.lookup(opened.entries[n].content) for n in range(FILES) if opened.entries[n].size}
        self.offsets: list[int] = []
        monkeypatch.setattr(opened.repo.store.backend, "hint_readahead", self._hear)

    def _hear(self, key: str, offset: int, size: int) -> None:
        assert size
        self.offsets.append(offset)

    def offsets_of(self, numbers: Iterable[int]) -> list[int]:
        places = [self._places[number] for number in numbers]
        return [place.offset for place in places if place is not None]


def test_a_look_up_has_the_disk_begin_where_programs_open_what_they_look_up(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = opening()
    called = CalledFor(opened, monkeypatch)
    ahead = PrefetchPolicy(opened.repo.store, opened.versions, opened.table, opened.kernel.push)
    looked_up = random.Random(3).sample(sorted(set(range(FILES)) - {5, 9, 13, 17}), 12)
    for number in looked_up[:-1]:
        ahead.looked_up(opened.files[number])
        ahead.opened(opened.files[number], opened.versions.open(opened.files[number]))
    assert called.offsets == called.offsets_of(looked_up[CONFIDENCE_MIN:-1])
    # A file that the kernel has been given is not read again.
    ahead.looked_up(opened.files[looked_up[0]])
    assert len(called.offsets) == len(looked_up[CONFIDENCE_MIN:-1])
    # Those of several chunks are called for as well; tiny bytes and empty files lie with their directory here.
    for number in (5, 9, 17):
        ahead.looked_up(opened.files[number])
    assert len(called.offsets) == len(looked_up[CONFIDENCE_MIN:])


@pytest.mark.parametrize("are_read", [True, False])
def test_a_look_up_gives_a_tiny_content_where_programs_read_what_they_look_up(
    opening: Opening, *, are_read: bool
) -> None:
    opened = opening()
    given: list[tuple[int, bytes]] = []
    contents = TinyContents(opened.repo.store, lambda ino, data: given.append((ino, data)))
    ahead = PrefetchPolicy(opened.repo.store, opened.versions, opened.table, None, contents=contents)
    tiny = opened.files[9]
    others = sorted(set(range(FILES)) - {5, 9, 13, 17})
    for number in others[:CONFIDENCE_MIN]:
        assert not given
        ahead.looked_up(opened.files[number])
        ahead.read(opened.files[number])
        ahead.looked_up(tiny)
    given.clear()
    for number in others[CONFIDENCE_MIN:60]:
        # Of each two one is read.
        ahead.looked_up(opened.files[number])
        if are_read:
            ahead.read(opened.files[number])
        ahead.looked_up(tiny)
    assert set(given) == {(tiny.ino, content(9))}
    assert (len(given) == 60 - CONFIDENCE_MIN) == are_read


def test_a_directory_that_is_entered_is_read_at_once_unless_it_is_in_memory(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = repositories.make()
    overlay = repositories.overlay(made)
    write_file(overlay, b"file", b"x" * 5_000)
    root = commit(made, overlay, "a test", "tester").version
    overlay.close()
    store = repositories.reopen(made).store
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr(store.backend, "hint_readahead", lambda *part: told.append(part))
    table = InodeTable()
    versions = VersionInodes(store, table)
    directory = versions.root(root)
    ahead = PrefetchPolicy(store, versions, table, None)
    ahead.entered(directory)
    place = store.index.lookup(directory.entry.content)
    assert place is not None
    assert told == [(store.index.pack_name(place.pack).key, place.offset, place.block_bytes)]
    assert versions.lookup(directory, b"file") is not None
    ahead.entered(directory)
    assert len(told) == 1


def test_looking_at_files_alone_soon_costs_the_disk_nothing(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = opening()
    called = CalledFor(opened, monkeypatch)
    ahead = PrefetchPolicy(opened.repo.store, opened.versions, opened.table, opened.kernel.push)
    for number in range(100, 120):
        ahead.looked_up(opened.files[number])
        ahead.opened(opened.files[number], opened.versions.open(opened.files[number]))
    for number in range(20, 100):
        ahead.looked_up(opened.files[number])
    called.offsets.clear()
    for number in range(120, FILES):
        ahead.looked_up(opened.files[number])
    assert not called.offsets


def test_a_file_is_given_to_the_kernel_with_its_first_open_and_never_again(opening: Opening) -> None:
    opened = opening()
    opened.open([5, 9, 40, 40, 5, 17])
    assert opened.pushed() == {5, 9, 40}
    assert opened.kernel.pushes == 3


def test_a_large_file_is_not_given_with_its_open(opening: Opening) -> None:
    opened = opening()
    opened.open([13])
    assert not opened.pushed()


def test_files_opened_in_order_prefetch_the_next_ones_into_the_kernel(opening: Opening) -> None:
    opened = opening()
    opened.open(range(20, 20 + NEIGHBOURS_MIN))
    assert opened.pushed() == set(range(20, 20 + NEIGHBOURS_MIN))
    opened.open(range(60, 60 + NEIGHBOURS_MIN + 1))
    assert opened.pushed() > set(range(60, 60 + 2 * NEIGHBOURS_MIN))


def test_a_directory_read_in_order_is_prefetched_completely(opening: Opening) -> None:
    opened = opening()
    opened.open(range(FILES))
    assert opened.pushed() == set(range(FILES)) - {13, 17}
    # The first files before it is a sequence, and the two without chunks of their own.
    assert opened.kernel.pushes < 2 * NEIGHBOURS_MIN


def test_files_read_in_order_prefetch_the_next_ones_but_for_one_that_is_asked_for(opening: Opening) -> None:
    opened = opening()
    opened.read(range(20, 20 + NEIGHBOURS_MIN))
    assert not opened.pushed()
    opened.read(range(60, 60 + NEIGHBOURS_MIN + 1))
    following = set(range(60 + NEIGHBOURS_MIN + 1, 60 + 2 * NEIGHBOURS_MIN))
    assert len(following - opened.pushed()) <= 1
    assert opened.pushed() >= following - opened.cached()


def test_readers_that_take_turns_without_opens_are_each_followed(opening: Opening) -> None:
    opened = opening()
    starts = range(20, 180, 20)
    opened.read(start + step for step in range(NEIGHBOURS_MIN + 1) for start in starts)
    for start in starts:
        assert opened.pushed() & set(range(start + NEIGHBOURS_MIN + 1, start + 2 * NEIGHBOURS_MIN))


@pytest.mark.parametrize("seed", range(5))
def test_reads_in_random_order_prefetch_nothing(opening: Opening, seed: int) -> None:
    opened = opening()
    opened.read(random.Random(seed).sample(range(FILES), 100))
    assert not opened.pushed()
    assert not opened.cached()


def test_a_tiny_file_begins_no_stream(opening: Opening) -> None:
    """As a label beside each image, read in random order of the pairs."""
    opened = opening()
    opened.read([9, 10, 11, 12, 14])
    assert not opened.pushed()
    opened.read([9, 10, 11, 12, 14, 15])
    assert opened.pushed()


def test_readers_that_take_turns_are_each_followed(opening: Opening) -> None:
    """Workers of a data loader, each with a stretch of its own."""
    opened = opening()
    starts = range(20, 180, 20)
    opened.open(start + step for step in range(NEIGHBOURS_MIN + 1) for start in starts)
    assert opened.pushed() > {start + step for start in starts for step in range(2 * NEIGHBOURS_MIN)}


def test_a_reader_that_leaves_every_other_file_out_is_followed(opening: Opening) -> None:
    opened = opening()
    opened.open(range(20, 20 + 2 * NEIGHBOURS_MIN + 1, 2))
    assert opened.pushed() > set(range(20 + 2 * NEIGHBOURS_MIN, 22 + 2 * NEIGHBOURS_MIN))


def test_files_that_the_kernel_has_not_looked_up_come_into_the_cache_and_are_given_with_their_open(
    opening: Opening,
) -> None:
    opened = opening(listed=False)
    first = range(20, 20 + NEIGHBOURS_MIN + 1)
    opened.open(first)
    assert opened.pushed() == set(first)
    assert opened.cached() >= {25, 26}
    opened.open([25])
    assert 25 in opened.pushed()


@pytest.mark.parametrize("seed", range(5))
def test_random_order_prefetches_nothing(opening: Opening, seed: int) -> None:
    opened = opening()
    numbers = random.Random(seed).sample(range(FILES), 100)
    opened.open(numbers)
    assert opened.pushed() == set(numbers) - {13, 17}
    assert not opened.cached()


def test_descending_order_prefetches_nothing(opening: Opening) -> None:
    opened = opening()
    opened.open(range(100, 60, -1))
    assert opened.pushed() == set(range(61, 101))


def test_opening_one_file_repeatedly_prefetches_nothing(opening: Opening) -> None:
    opened = opening()
    opened.open([50] * 50)
    assert opened.pushed() == {50}


def test_tiny_files_are_not_searched_for_one_that_is_not(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an open costs must not grow with the directory."""
    made = repositories.make()
    overlay = repositories.overlay(made)
    names = [b"a0", b"a1", *(b"t%04d" % number for number in range(500)), b"z"]
    for name in names:
        write_file(overlay, name, b"tiny" if name.startswith(b"t") else random.Random(name).randbytes(5_000))
    version = commit(made, overlay, "a test", "tester").version
    overlay.close()
    table = InodeTable()
    versions = VersionInodes(made.store, table)
    root = versions.root(version)
    seen: list[bytes] = []

    def watched(source: ObjectSource, directory: Entry, after: bytes | None) -> Iterator[tuple[int, Entry]]:
        for position, entry in numbered_entries(source, directory, after):
            seen.append(entry.name)
            yield position, entry

    monkeypatch.setattr(prefetch_policy, "numbered_entries", watched)
    ahead = PrefetchPolicy(made.store, versions, table, None)
    for name in [*names[:2], *names[2:100], b"z"]:
        file = versions.lookup(root, name)
        assert isinstance(file, VersionFile)
        versions.hold(file)
        ahead.opened(file, versions.open(file))
    assert 2 < len(seen) < 100


def test_unchanged_files_of_a_working_layer_prefetch_into_memory_only(opening: Opening) -> None:
    opened = opening()
    ahead = PrefetchPolicy(opened.repo.store, opened.versions, opened.table, opened.kernel.push, opened.pool)
    for number in range(20, 20 + NEIGHBOURS_MIN + 1):
        assert not opened.cached()
        ahead.opened_unchanged(opened.directory.entry, opened.entries[number])
    opened.pool.wait_idle()
    assert opened.cached() >= set(range(25, 25 + NEIGHBOURS_MIN))
    assert not opened.kernel.pages


def test_a_file_with_a_hole_does_not_stop_prefetching(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = repositories.make()
    overlay = repositories.overlay(made)
    sparse = NEIGHBOURS_MIN + 2
    for number in range(30):
        ino = write_file(overlay, b"%03d" % number, random.Random(number).randbytes(5_000))
        if number == sparse:
            overlay.setattr(ino, size=50_000)
    version = commit(made, overlay, "a test", "tester").version
    overlay.close()
    table = InodeTable()
    versions = VersionInodes(made.store, table)
    root = versions.root(version)
    prefetched: list[ChunkId] = []
    monkeypatch.setattr(made.store, "start_prefetch", prefetched.extend)
    ahead = PrefetchPolicy(made.store, versions, table, None)
    files = list(entries(made.store, root.entry))
    assert files[sparse].hole_bytes
    for entry in files[: NEIGHBOURS_MIN + 1]:
        ahead.opened_unchanged(root.entry, entry)
    assert all(made.store.index.lookup_many(prefetched))
    assert {files[number].content for number in (sparse - 1, sparse + 1)} <= set(prefetched)


def test_versions_that_are_read_in_turn_are_each_followed(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `diff -r` does with what differs."""
    made = repositories.make()
    overlay = repositories.overlay(made)
    table = InodeTable()
    versions = VersionInodes(made.store, table)
    roots = []
    for seed in range(2):
        for number in range(30):
            write_file(overlay, b"%03d" % number, random.Random(100 * seed + number).randbytes(5_000))
        roots.append(versions.root(commit(made, overlay, "a test", "tester").version))
    overlay.close()
    prefetched: list[ChunkId] = []
    monkeypatch.setattr(made.store, "start_prefetch", prefetched.extend)
    ahead = PrefetchPolicy(made.store, versions, table, None)
    for number in range(NEIGHBOURS_MIN + 1):
        assert not prefetched
        for root in roots:
            file = versions.lookup(root, b"%03d" % number)
            assert isinstance(file, VersionFile)
            ahead.opened(file, versions.open(file))
    following = range(NEIGHBOURS_MIN + 1, 2 * NEIGHBOURS_MIN)
    contents = [[entry.content for entry in entries(made.store, root.entry)] for root in roots]
    assert {entry[number] for entry in contents for number in following} <= set(prefetched)


def test_a_file_whose_list_is_not_as_long_as_its_entry_says_is_not_given(opening: Opening) -> None:
    opened = opening()
    for number in (5, 30):
        file = opened.files[number]
        wrong = msgspec.structs.replace(file.entry, size=file.entry.size - 1)
        opened.files[number] = VersionFile(file.directory, file.position, msgspec.msgpack.encode(wrong))
        opened.files[number].ino = file.ino
    opened.open([5, 30])
    assert not opened.kernel.pages


def test_a_file_that_is_opened_before_a_process_has_begun_with_it_is_given_with_its_open(opening: Opening) -> None:
    opened = opening()
    first = range(20, 20 + NEIGHBOURS_MIN + 1)
    ahead = PrefetchPolicy(opened.repo.store, opened.versions, opened.table, opened.kernel.push, IdlePool(None))
    for number in [*first, 26, 25]:
        ahead.opened(opened.files[number], opened.versions.open(opened.files[number]))
    assert opened.pushed() == {*first, 26, 25}


class IdlePool(WorkerPool):
    """Takes files to push and starts none."""

    def push(self, files: Sequence[tuple[int, list[ChunkId]]], extents: list[Extent]) -> list[int]:
        return list(range(len(files)))

    def cancel(self, request_id: int) -> bool:
        return True


def test_damaged_bytes_are_not_given_and_their_neighbours_are(opening: Opening) -> None:
    opened = opening()
    (pack,) = Path(opened.repo.path, "packs", "data").rglob("*.pack")
    whole = pack.read_bytes()
    data = bytearray(whole)
    data[data.find(content(30)) + 77] ^= 1
    data[data.find(content(80)) + 77] ^= 1
    pack.write_bytes(data)
    opened.open([80, *range(20, 50)])
    assert {29, 31, 49} <= opened.pushed()
    assert not {30, 80} & opened.pushed()
    pack.write_bytes(whole)
