"""Goal: a repository is made whole, opens fast, and mends what can be made again."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from support.repositories import Repositories
from support.trees import picture_of_version, write_file
from vfs.api.hints import hint_text
from vfs.backend.memory import MemoryBackend
from vfs.backend.storage import Storage
from vfs.backend.wrappers import CountingBackend
from vfs.errors import AlreadyExists, Busy, Corrupt, InvalidInput, NotADirectory, NotEmpty, NotFound, Unsupported
from vfs.repo import paths
from vfs.repo.commit import commit
from vfs.repo.config import Config, encode_config
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository


def fill(repositories: Repositories) -> Repository:
    """Makes a repository with two versions and a large file."""
    repo = repositories.make()
    with repo.open_overlay() as overlay:
        write_file(overlay, b"a/large", b"0123456789" * 20_000)
        commit(repo, overlay, "one", "a")
        write_file(overlay, b"a/tiny", b"tiny")
        commit(repo, overlay, "two", "a")
    return repo


def test_init_takes_a_new_or_an_empty_directory_and_writes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "new/nested"):
        Repository.init(path).close()
        assert (path / "vfs.json").is_file()


def test_init_refuses_anything_else_and_leaves_it_alone(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(NotEmpty):
        Repository.init(tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]
    with pytest.raises(NotADirectory):
        Repository.init(tmp_path / "full/file")
    Repository.init(tmp_path / "repo").close()
    before = (tmp_path / "repo/vfs.json").read_bytes()
    with pytest.raises(AlreadyExists):
        Repository.init(tmp_path / "repo")
    assert (tmp_path / "repo/vfs.json").read_bytes() == before


def test_init_refuses_a_place_inside_another_repository(repo: Repository) -> None:
    with pytest.raises(InvalidInput, match="inside the repository"):
        Repository.init(repo.path / "a" / "b")
    assert not (repo.path / "a").exists()


def test_open_hints_at_init_for_a_missing_repository(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(NotFound) as caught:
            Repository.open(path)
        assert "vfs init" in hint_text(caught.value.hint)


def test_open_refuses_a_newer_format_and_damage(tmp_path: Path) -> None:
    (tmp_path / "vfs.json").write_bytes(encode_config(Config(features=("unknown",))))
    with pytest.raises(Unsupported):
        Repository.open(tmp_path)
    (tmp_path / "vfs.json").write_bytes(b"{")
    with pytest.raises(Corrupt):
        Repository.open(tmp_path)


def test_a_process_opens_a_repository_once(repo: Repository) -> None:
    with pytest.raises(Busy):
        Repository.open(repo.path)


def damage_index(path: Path, how: str) -> None:
    data = path / "index/data.mdb"
    if how == "deleted":
        shutil.rmtree(path / "index")
    elif how == "truncated":
        with data.open("r+b") as file:
            file.truncate(data.stat().st_size // 2)
    else:
        data.write_bytes(b"\xa5" * data.stat().st_size)


@pytest.mark.parametrize("how", ["deleted", "truncated", "overwritten"])
def test_an_index_that_is_gone_or_damaged_is_made_again(repositories: Repositories, how: str) -> None:
    repo = fill(repositories)
    head = repo.head()
    assert head is not None
    wanted = picture_of_version(repo.store, head)
    repo.close()
    damage_index(repo.path, how)
    again = repositories.open(repo.path)
    assert len(again.notices) == 1
    assert "rebuilt from" in again.notices[0].text
    assert again.head() == head
    assert picture_of_version(again.store, head) == wanted
    assert [version.name for version in again.versions()] == ["v2", "v1"]
    assert repositories.reopen(again).notices == []


def test_an_index_from_an_older_copy_follows_the_packs_and_the_log(repositories: Repositories) -> None:
    repo = repositories.make()
    with repo.open_overlay() as overlay:
        write_file(overlay, b"a", b"x" * 5000)
        commit(repo, overlay, "one", "a")
    repo.close()
    shutil.copytree(repo.path / "index", repo.path.parent / "old")
    repo = repositories.open(repo.path)
    with repo.open_overlay() as overlay:
        write_file(overlay, b"b", b"y" * 5000)
        second = commit(repo, overlay, "two", "a").version
    repo.close()
    shutil.rmtree(repo.path / "index")
    shutil.copytree(repo.path.parent / "old", repo.path / "index")
    again = repositories.open(repo.path)
    assert again.head() == second
    assert picture_of_version(again.store, second) == {b"a": b"x" * 5000, b"b": b"y" * 5000}


def test_rebuilding_gives_the_same_answers(repositories: Repositories) -> None:
    repo = fill(repositories)
    before = dict(repo.index.locations()).keys(), list(repo.refs.list()), list(repo.refs.operations())
    repo.rebuild_index()
    assert (dict(repo.index.locations()).keys(), list(repo.refs.list()), list(repo.refs.operations())) == before


def test_opening_does_not_read_packs(repositories: Repositories) -> None:
    repo = fill(repositories)
    repo.close()
    shutil.move(repo.path / "packs", repo.path.parent / "packs")
    again = repositories.open(repo.path)
    assert again.notices == []
    again.close()
    shutil.move(repo.path.parent / "packs", repo.path / "packs")


def test_a_version_is_described_by_number_and_digits(repositories: Repositories) -> None:
    repo = fill(repositories)
    head = repo.head()
    assert head is not None
    assert repo.describe(head.id) == f"v2 ({head.id.hex()[:8]})"


@pytest.mark.parametrize("is_there", [False, True])
def test_a_repository_is_open_to_its_owner_alone_unless_asked(tmp_path: Path, is_there: bool) -> None:
    for mode, path in ((None, tmp_path / "a"), (0o750, tmp_path / "b")):
        if is_there:
            path.mkdir(0o777)
        with Repository.init(path) if mode is None else Repository.init(path, mode=mode) as repo:
            notes = fsck(repo).notes
        assert stat.S_IMODE(path.stat().st_mode) == (mode or 0o700)
        assert [note for note in notes if "chmod 700" in note] == notes
        assert bool(notes) == bool(mode)


def test_a_repository_uses_the_storage_that_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "repo"
    memory = MemoryBackend()
    counted = CountingBackend(memory)
    storage = Storage(counted, memory, None)
    with Repository.init(path, storage=storage) as repo, repo.open_overlay() as overlay:
        write_file(overlay, b"large", b"0123456789" * 50_000)
        commit(repo, overlay, "one", "a")
        assert repo.log.size() == memory.size("log") > 0
    # Objects and log are in the storage; the directory has what is derived, or of this machine.
    assert not {"vfs.json", "log", "packs", "tmp"} & set(os.listdir(path))
    assert counted.counts.requests["commit"] == 2
    shutil.rmtree(path / "index")
    before = counted.counts.requests["read_range"]
    with Repository.open(path, storage=storage) as repo:
        assert picture_of_version(repo.store, repo.resolve("v1")) == {b"large": b"0123456789" * 50_000}
    assert counted.counts.requests["read_range"] > before


def test_of_two_inits_at_once_the_first_ones_settings_stand(tmp_path: Path) -> None:
    memory = MemoryBackend()
    memory.put(paths.CONFIG, b"another process was faster")
    with pytest.raises(AlreadyExists, match="repository already"):
        Repository.init(tmp_path / "repo", storage=Storage(memory, memory, None))
    assert memory.read(paths.CONFIG) == b"another process was faster"
