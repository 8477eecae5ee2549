"""Read-ahead: files opened in order bring the next ones, any other order brings nothing."""

from __future__ import annotations

import random
from collections.abc import Iterable

from support.repositories import Repositories
from support.trees import write_file
from vfs.fuse.inodes import InodeTable
from vfs.fuse.readahead import ASCENDING_MIN, BATCH_FILES, ReadAhead
from vfs.fuse.versions import VersionDirectory, Versions
from vfs.model.ids import ChunkId
from vfs.model.objects import Entry
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.store.directories import entries

FILES = 60


class Opened:
    """A fresh opening of a repository whose one version has FILES files of one chunk each."""

    def __init__(self, repositories: Repositories) -> None:
        made = repositories.make()
        overlay = repositories.overlay(made)
        rng = random.Random(7)
        for number in range(FILES):
            write_file(overlay, b"%03d" % number, rng.randbytes(10_000))
        version = commit(made, overlay, "a test", "tester").version
        overlay.close()
        self.repo: Repository = repositories.reopen(made)
        self.directory: VersionDirectory = Versions(self.repo.store, InodeTable()).root(version)
        self.entries: list[Entry] = list(entries(self.repo.store, self.directory.entry))

    def brought_by_opening(self, numbers: Iterable[int]) -> set[int]:
        """Opens files by number, without reading any; returns the numbers of those whose chunk is cached then."""
        ahead = ReadAhead(self.repo.store)
        for number in numbers:
            ahead.opened(self.directory, self.entries[number])
        ahead.close()
        return {n for n in range(FILES) if self.repo.store.cached(ChunkId(self.entries[n].content)) is not None}


def test_files_opened_in_order_bring_the_next_batch(repositories: Repositories) -> None:
    first = ASCENDING_MIN
    assert set(range(first, first + BATCH_FILES)) <= Opened(repositories).brought_by_opening(range(first))


def test_too_few_opens_bring_nothing(repositories: Repositories) -> None:
    assert not Opened(repositories).brought_by_opening(range(ASCENDING_MIN - 1))


def test_descending_order_brings_nothing(repositories: Repositories) -> None:
    assert not Opened(repositories).brought_by_opening(range(FILES - 1, -1, -1))


def test_opening_one_file_again_and_again_brings_nothing(repositories: Repositories) -> None:
    assert not Opened(repositories).brought_by_opening([5] * 50)


def test_the_end_of_a_directory_is_reached_without_harm(repositories: Repositories) -> None:
    """What the worker had not begun when the mount ended is dropped, so only the first batch is certain."""
    first = set(range(ASCENDING_MIN, ASCENDING_MIN + BATCH_FILES))
    assert first <= Opened(repositories).brought_by_opening(range(FILES))
