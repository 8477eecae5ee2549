"""A closed working layer's files say that nothing has changed; in every other case the layer has to be opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.repositories import Repositories
from support.trees import write_file
from vfs.model.objects import MAIN
from vfs.overlay.layer_files import holds_no_change
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.store.refs.operation import BRANCHES


def _is_known(repo: Repository) -> bool:
    head = repo.refs.get(BRANCHES + MAIN)
    assert head is not None
    return holds_no_change(repo.work_path(MAIN), MAIN, head, repo.refs.consumed_generation(MAIN))


def _committed(repositories: Repositories) -> Repository:
    """Returns a repository with a version, whose layer was closed without a change since."""
    repo = repositories.make()
    with repo.open_overlay() as overlay:
        write_file(overlay, b"a", b"1")
        commit(repo, overlay, "first", "a <a@b>")
    return repo


def _layer(repo: Repository) -> Path:
    return repo.path / "work" / MAIN


def test_a_committed_and_closed_layer_is_known_to_have_no_change(repositories: Repositories) -> None:
    repo = _committed(repositories)
    before = {path.name: path.read_bytes() for path in _layer(repo).iterdir()}
    assert _is_known(repo)
    assert {path.name: path.read_bytes() for path in _layer(repo).iterdir()} == before


def test_a_change_has_to_be_read(repositories: Repositories) -> None:
    repo = _committed(repositories)
    with repo.open_overlay() as overlay:
        assert _is_known(repo)  # It is open, and unchanged.
        write_file(overlay, b"b", b"2")
        assert not _is_known(repo)
    assert not _is_known(repo)


def test_a_layer_that_was_not_closed_has_to_be_opened(repositories: Repositories) -> None:
    repo = _committed(repositories)
    overlay = repo.open_overlay()
    write_file(overlay, b"b", b"2")
    overlay.sync()
    overlay.abandon()
    assert not _is_known(repo)


def test_a_layer_behind_its_branch_has_to_be_opened(repositories: Repositories) -> None:
    repo = _committed(repositories)
    head = repo.refs.get(BRANCHES + MAIN)
    assert head is not None
    assert not holds_no_change(repo.work_path(MAIN), MAIN, bytes(32), repo.refs.consumed_generation(MAIN))
    assert not holds_no_change(repo.work_path(MAIN), MAIN, head, repo.refs.consumed_generation(MAIN) + 1)
    assert not holds_no_change(repo.work_path(MAIN), "other", head, repo.refs.consumed_generation(MAIN))


@pytest.mark.parametrize("name", ["base", "durable", "journal"])
def test_damage_anywhere_has_to_be_reported_by_an_opening(repositories: Repositories, name: str) -> None:
    repo = _committed(repositories)
    path = next(_layer(repo).glob(f"{name}*"))
    whole = path.read_bytes()
    reserved = range(0) if name == "durable" else range(12, 16)  # Zeros of the file's head, which nothing reads.
    for at in sorted(set(range(len(whole))) - set(reserved)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        assert not _is_known(repo), at
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert not _is_known(repo), size
    path.unlink()
    assert not _is_known(repo)
    path.write_bytes(whole)
    assert _is_known(repo)


def test_files_of_a_merge_or_of_a_recovery_have_to_be_read(repositories: Repositories) -> None:
    repo = _committed(repositories)
    for name in ("merge", "journal-1.lost", "journal-9"):
        other = _layer(repo) / name
        other.write_bytes(b"")
        assert not _is_known(repo)
        other.unlink()
