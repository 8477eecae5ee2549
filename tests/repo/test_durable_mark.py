"""A newest journal that is gone, or an older state of it, is told: what was durable does not go without a word."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from support.repositories import Repositories
from support.trees import write_file
from vfs.errors import Corrupt
from vfs.overlay.journal.checksums import quick64
from vfs.overlay.journal.durable_mark import MARK_NAME
from vfs.overlay.overlay import Overlay
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository


def _killed_in_commit(repositories: Repositories) -> tuple[Repository, Path, bytes]:
    """Returns a repository with two generations, the newest journal, and that journal as it was before its end."""
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    write_file(overlay, b"first", b"1" * 900)
    overlay.freeze().sync()
    write_file(overlay, b"second", b"2" * 900)
    newest = repo.path / "work" / "main" / "journal-2"
    overlay.sync()
    older = newest.read_bytes()
    write_file(overlay, b"third", b"3" * 900)
    overlay.sync()
    overlay.abandon()
    return repo, newest, older


def _names(overlay: Overlay) -> list[bytes]:
    return list(overlay.names(1))


def test_without_its_newest_journal_a_layer_is_refused(repositories: Repositories) -> None:
    repo, newest, _ = _killed_in_commit(repositories)
    kept = newest.read_bytes()
    newest.unlink()
    assert any("journal-2 is missing" in each.reason for each in fsck(repo).damage)
    for _ in range(2):
        with pytest.raises(Corrupt, match="journal-2 is missing"):
            repo.open_overlay()
    newest.write_bytes(kept)
    assert fsck(repo).is_clean
    assert _names(repositories.overlay(repo)) == [b"first", b"second", b"third"]


def test_recovery_continues_without_the_newest_journal(repositories: Repositories) -> None:
    repo, newest, _ = _killed_in_commit(repositories)
    newest.unlink()
    with repo.open_overlay(passes_damage=True) as overlay:
        assert any("journal-2 was missing" in notice for notice in overlay.recovery.warnings())
    assert fsck(repo).is_clean
    overlay = repositories.overlay(repo)
    assert _names(overlay) == [b"first"]
    assert overlay.recovery.is_clean


def test_an_older_state_of_the_newest_journal_is_reported_once(repositories: Repositories) -> None:
    repo, newest, older = _killed_in_commit(repositories)
    newest.write_bytes(older)
    assert any("journal-2 has lost its end" in each.reason for each in fsck(repo).damage)
    with repo.open_overlay() as overlay:
        assert any("journal-2 has lost its end" in notice for notice in overlay.recovery.warnings())
        assert _names(overlay) == [b"first", b"second"]
    assert fsck(repo).is_clean
    assert repositories.overlay(repo).recovery.is_clean


def test_what_was_not_durable_may_be_gone_as_after_a_power_cut(repositories: Repositories) -> None:
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    write_file(overlay, b"kept", b"1" * 900)
    overlay.sync()
    journal = repo.path / "work" / "main" / "journal-1"
    synced = journal.stat().st_size
    write_file(overlay, b"not synced", b"2" * 900)
    overlay.abandon()
    with journal.open("r+b") as file:
        file.truncate(synced)
    assert fsck(repo).is_clean
    assert not any("lost" in notice for notice in repositories.overlay(repo).recovery.warnings())


def _delete(mark: Path) -> None:
    mark.unlink()


def _empty(mark: Path) -> None:
    mark.write_bytes(b"")


def _flip(mark: Path) -> None:
    data = bytearray(mark.read_bytes())
    data[9] ^= 0x40
    mark.write_bytes(data)


def _other(mark: Path) -> None:
    """Puts the mark of another branch's layer there, which has far more generations."""
    said = struct.pack("<8sQQQ", b"VFSDURA\x01", 99, 4000, 5)
    mark.write_bytes(said + struct.pack("<Q", quick64(said + b"exp")))


def _link(mark: Path) -> None:
    mark.unlink()
    mark.symlink_to("/dev/full")


def _directory(mark: Path) -> None:
    mark.unlink()
    mark.mkdir()


@pytest.mark.parametrize("change", [_delete, _empty, _flip, _other, _link, _directory])
def test_a_mark_that_says_nothing_is_none(repositories: Repositories, change: Callable[[Path], None]) -> None:
    repo, newest, _ = _killed_in_commit(repositories)
    change(newest.parent / MARK_NAME)
    overlay = repositories.overlay(repo)
    assert _names(overlay) == [b"first", b"second", b"third"]
    write_file(overlay, b"fourth", b"4")
    overlay.sync()
