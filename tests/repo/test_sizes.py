"""Sizes that have no sum: sparse files whose lengths come to 2^63 together are refused before anything is stored."""

from __future__ import annotations

import pytest

from support.lines import Lines
from support.repositories import Repositories
from vfs.errors import TooLarge
from vfs.model.objects import Entry, Form, Kind
from vfs.model.validation import SIZE_MAX
from vfs.repo.commit import commit
from vfs.repo.restore import restore
from vfs.repo.undo import last_operation, undo
from vfs.store.object_writer import ObjectWriter
from vfs.store.trees.directories import edit_directory

HALF = 2**62


class Sizes(Lines):
    """A repository whose working layer gets sparse files."""

    def sparse(self, name: bytes, size: int) -> None:
        found = self.overlay.find(name)
        ino = found.ino if found is not None else self.overlay.mknod(1, name, 0o100644, 0, 0, 0).ino
        self.overlay.setattr(ino, size=size)

    def shown(self) -> list[tuple[bytes, str, int]]:
        """What is not committed, with its sizes."""
        changes = self.overlay.changes()
        return [(change.path, change.kind, change.new.size if change.new else 0) for change in changes]

    def stored(self) -> tuple[int, list[tuple[str, int]]]:
        """How many objects there are, and the packs and the log."""
        keys = [item for item in self.repo.backend.list("") if item[0].startswith(("packs/", "log"))]
        return self.repo.index.object_count(), keys


@pytest.fixture
def sizes(repositories: Repositories) -> Sizes:
    return Sizes(repositories)


def test_files_that_are_too_large_together_are_refused_before_anything_is_stored(sizes: Sizes) -> None:
    sizes.change({b"new": b"precious" * 1000})
    sizes.sparse(b"a", HALF)
    sizes.sparse(b"b", HALF)
    before, shown = sizes.stored(), sizes.shown()
    with pytest.raises(TooLarge, match="bytes together"):
        commit(sizes.repo, sizes.overlay, "m", "a")
    with pytest.raises(TooLarge, match="bytes together"):
        restore(sizes.repo, sizes.overlay, sizes.base, [], discard=True, author="a")
    assert sizes.stored() == before
    assert sizes.shown() == shown


def test_a_shrunk_file_is_committed_and_a_restored_one_comes_back(sizes: Sizes) -> None:
    sizes.change({b"new": b"precious"})
    sizes.sparse(b"a", HALF)
    sizes.sparse(b"b", HALF - (1 << 20))
    restore(sizes.repo, sizes.overlay, sizes.base, [], discard=True, author="a")
    assert sizes.overlay.find(b"new") is None
    undo(sizes.repo, sizes.overlay, last_operation(sizes.repo), "a")
    found = sizes.overlay.find(b"a")
    assert found is not None
    assert found.size == HALF
    assert sizes.overlay.find(b"new") is not None
    version = commit(sizes.repo, sizes.overlay, "m", "a").version
    assert version.commit.root.size > 2 * HALF - (1 << 20)


def test_what_takes_the_place_of_a_large_file_counts_alone(sizes: Sizes) -> None:
    sizes.sparse(b"a", HALF)
    commit(sizes.repo, sizes.overlay, "m", "a")
    sizes.sparse(b"a", HALF + 1)
    version = commit(sizes.repo, sizes.overlay, "m", "a").version
    assert version.commit.root.size >= HALF + 1


def test_each_name_of_a_file_counts(sizes: Sizes) -> None:
    sizes.sparse(b"a", HALF)
    found = sizes.overlay.find(b"a")
    assert found is not None
    sizes.overlay.link(found.ino, 1, b"b")
    with pytest.raises(TooLarge):
        commit(sizes.repo, sizes.overlay, "m", "a")


def test_no_tree_is_stored_whose_sums_cannot_be(sizes: Sizes) -> None:
    """As an import or a merge builds it."""
    entries = [
        Entry(name, Kind.FILE, 0o644, 0, 0, 0, SIZE_MAX // 2 + 1, bytes(32), Form.LIST, hole_bytes=SIZE_MAX // 2)
        for name in (b"a", b"b")
    ]
    with ObjectWriter(sizes.repo.store) as writer, pytest.raises(TooLarge):
        edit_directory(writer, None, {entry.name: (entry, b"") for entry in entries})
