"""A repository with `--mode 750` can be read by its group, and by that alone; what may not be written, and why."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.calls import ALICE, BOB, User, as_user
from support.repositories import CACHE_BYTES
from support.trees import write_file
from vfs.backend.rooted_path import RootedPath
from vfs.control.daemon_socket import connect
from vfs.errors import ReadOnly, VfsError
from vfs.repo.commit import commit
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository
from vfs.repo.retention.gc import gc
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


def _collect() -> str | None:
    """Returns the hint of the error that a sweep raises."""
    with Repository.open(Path("repo"), cache_bytes_max=CACHE_BYTES) as repo:
        try:
            gc(repo)
        except ReadOnly as error:
            return str(error.hint)
    return None


def _connect() -> str:
    """Returns the hint of the error that a connection to the daemon raises."""
    try:
        connect(RootedPath(Path.cwd(), "socket"))
    except VfsError as error:
        return str(error.hint)
    return ""


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
            assert as_user(READER, directory, _collect) == "Run this as its owner."
            assert {path: path.stat().st_mtime_ns for path in repo.path.rglob("*")} == before
        assert fsck(repo, read_data=True).is_clean


def test_on_a_disk_that_is_read_only_its_owner_is_told_so(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = directory / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", disk], check=True)
    try:
        with Repository.init(disk / "repo", cache_bytes_max=CACHE_BYTES):
            pass
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        monkeypatch.chdir(disk)
        assert _collect() == "Make its disk writable, or free space on it."
    finally:
        monkeypatch.undo()
        subprocess.run(["umount", disk], check=True)


def test_a_mount_takes_commands_from_its_own_user_alone(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "socket"))
        listening.listen()
        (directory / "socket").chmod(0o600)
        assert as_user(ALICE, directory, _connect) == "The mount is another user's: run this as that user."
