"""Bits that flip in the journal of uncommitted changes: never part of a version, told by fsck."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from support.repositories import Repositories
from support.trees import write_file
from vfs.errors import Corrupt
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import commit
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository

DATA = random.Random(11).randbytes(300_000)


def _flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def _with_flipped_bit(repositories: Repositories) -> tuple[Repository, Overlay]:
    """Returns a repository whose closed working layer lost a bit of `dir/name`, opened again."""
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    write_file(overlay, b"dir/name", DATA)
    write_file(overlay, b"other", b"whole" * 1000)
    overlay.close()
    (journal,) = (repo.path / "work" / "main").glob("journal-*")
    _flip(journal, journal.read_bytes().index(DATA[1000:1100]))
    return repo, repositories.overlay(repo)


def test_a_damaged_file_is_refused_by_name_and_the_layer_stays_as_it_was(repositories: Repositories) -> None:
    repo, overlay = _with_flipped_bit(repositories)
    with pytest.raises(Corrupt, match="dir/name"):
        commit(repo, overlay, "a test", "tester")
    assert repo.head() is None
    write_file(overlay, b"dir/name", DATA)
    assert commit(repo, overlay, "a test", "tester").version.commit.root.files == 2


def test_damage_that_no_file_shows_any_more_is_no_hindrance(repositories: Repositories) -> None:
    repo, overlay = _with_flipped_bit(repositories)
    overlay.unlink(overlay.lookup(1, b"dir").ino, b"name")
    assert commit(repo, overlay, "a test", "tester").version.commit.root.files == 1


@pytest.mark.parametrize("name", ["journal", "base"])
def test_fsck_reports_damage_and_only_damage(repositories: Repositories, name: str) -> None:
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    write_file(overlay, b"name", DATA)
    assert fsck(repo).is_clean
    overlay.close()
    assert fsck(repo).is_clean
    (path,) = (repo.path / "work" / "main").glob(f"{name}*")
    _flip(path, 20 if name == "base" else path.read_bytes().index(DATA[1000:1100]))
    assert [str(path) in damage.reason for damage in fsck(repo).damage] == [True]
    repositories.expect_damage(repo)
