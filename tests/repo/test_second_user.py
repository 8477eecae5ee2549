"""A repository with `--mode 750` can be read by its group, and by that alone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.calls import ALICE, BOB, User, as_user
from support.repositories import CACHE_BYTES
from support.trees import write_file
from vfs.repo.commit import commit
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository
from vfs.store.trees.directories import find_entry
from vfs.store.trees.file_reader import open_file

READER = User(BOB.uid, BOB.gid, (60_000,))
DATA = bytes(range(256)) * 300


def _read() -> tuple[list[str], bool, bool]:
    """Returns the versions, whether a file has its bytes, and whether there is anything to say."""
    with Repository.open(Path("repo"), cache_bytes_max=CACHE_BYTES) as repo:
        head = repo.head()
        assert head is not None
        entry = find_entry(repo.store, head.commit.root, b"name")
        assert entry is not None
        data = bytes(open_file(repo.store, head.commit.root, entry, b"name").read(0, entry.size + 1))
        return [version.name for version in repo.history("main")], data == DATA, bool(repo.notices)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that everybody may pass, unlike pytest's."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def test_the_group_reads_and_changes_nothing(directory: Path) -> None:
    with Repository.init(directory / "repo", mode=0o750, cache_bytes_max=CACHE_BYTES) as repo:
        os.chown(repo.path, -1, READER.groups[0])
        with repo.open_overlay() as overlay:
            write_file(overlay, b"name", DATA)
            commit(repo, overlay, "first", "owner")
            before = {path: path.stat().st_mtime_ns for path in repo.path.rglob("*")}
            assert as_user(READER, directory, _read) == (["v1"], True, True)
            assert as_user(ALICE, directory, _read) == "EACCES"
            assert {path: path.stat().st_mtime_ns for path in repo.path.rglob("*")} == before
        assert fsck(repo, read_data=True).is_clean
