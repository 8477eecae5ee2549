"""Reading needs no writing: on a disk that is full or read-only every version is read, exported, mounted."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.command_server import run_vfs
from support.mounts import mounted
from support.trees import picture_of_directory, write_file
from vfs.repo.commit import commit
from vfs.repo.export.export import export
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository

pytestmark = pytest.mark.mount

DISK = "size=24m"
FILES = {b"a/large": bytes(range(256)) * 2000, b"a/tiny": b"tiny", b"top": b"t" * 9000}


@contextmanager
def a_disk(path: Path, options: str) -> Iterator[Path]:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Path]:
    """A repository with two versions, alone on a disk of its own."""
    with a_disk(tmp_path / "disk", DISK) as disk:
        with Repository.init(disk / "repo") as repo, repo.open_overlay() as overlay:
            for path, data in FILES.items():
                write_file(overlay, path, data)
            commit(repo, overlay, "one", "a")
            write_file(overlay, b"more", b"m")
            commit(repo, overlay, "two", "a")
        yield disk / "repo"


def fill(repository: Path) -> None:
    with open(repository.parent / "filling", "wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 16)):
                pass
        except OSError:
            return


def fill_without_index(repository: Path) -> None:
    shutil.rmtree(repository / "index")
    fill(repository)


def fill_behind_the_log(repository: Path) -> None:
    """As after a commit whose index did not fit: the tables lack the last line."""
    shutil.copytree(repository / "index", repository.parent / "old")
    with Repository.open(repository) as repo, repo.open_overlay() as overlay:
        write_file(overlay, b"late", b"l")
        commit(repo, overlay, "three", "a")
    fill(repository)


def protect(repository: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", repository.parent], check=True)


def protect_without_index(repository: Path) -> None:
    for name in ("index", "run", "work", "cache"):
        shutil.rmtree(repository / name, ignore_errors=True)
    for lock in repository.glob("*.lock"):
        lock.unlink()
    protect(repository)


STATES: dict[str, Callable[[Path], None]] = {
    "full": fill,
    "full, without index": fill_without_index,
    "full, just after a commit": fill_behind_the_log,
    "read-only": protect,
    "read-only, without anything that is made again": protect_without_index,
}


@pytest.mark.parametrize("state", STATES)
def test_every_version_is_read_exported_and_mounted(repository: Path, tmp_path: Path, state: str) -> None:
    STATES[state](repository)
    used = os.statvfs(repository).f_bfree
    with Repository.open(repository) as repo:
        assert [version.name for version in repo.versions()][-2:] == ["v2", "v1"]
        for name in ("v1", "v2", "latest"):
            export(repo, repo.resolve(name), tmp_path / name)
        assert fsck(repo, read_data=True).is_clean
    assert {path: data for path, data in picture_of_directory(tmp_path / "v1").items() if data is not None} == FILES
    (tmp_path / "mnt").mkdir()
    with mounted(repository, tmp_path / "mnt", "read_only") as mount:
        for name in ("v1", "v2", "latest"):
            assert picture_of_directory(mount / f"@{name}") == picture_of_directory(tmp_path / name)
    assert os.statvfs(repository).f_bfree == used


def test_a_writable_mount_of_what_is_read_only_says_what_goes(repository: Path, tmp_path: Path) -> None:
    protect(repository)
    (tmp_path / "mnt").mkdir()
    done = run_vfs("mount", repository, tmp_path / "mnt")
    assert done.returncode == 3, done.stderr
    assert "Read-only file system" in done.stderr
    assert "vfs mount --read-only" in done.stderr
    assert "OSError" not in done.stderr


@pytest.mark.parametrize("state", ["read-only", "full, without index"])
def test_commands_read_and_say_what_they_cannot_do(repository: Path, tmp_path: Path, state: str) -> None:
    STATES[state](repository)

    def vfs(*words: str) -> subprocess.CompletedProcess[str]:
        return run_vfs("-R", repository, *words)

    for words in (("log",), ("ls", "v1"), ("cat", "v1", "a/tiny"), ("diff", "v1", "v2"), ("du", "v1"), ("stats",)):
        done = vfs(*words)
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stderr
    for words in (("tag", "t", "v1"), ("commit", "-m", "x"), ("gc",)):
        done = vfs(*words)
        assert done.returncode not in (0, 1)
        assert "Traceback" not in done.stderr
        assert done.stderr
