"""Two at the same time: each pair has the one outcome that docs/durability.md lists."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.mounts import TIMEOUT_S, Mount, mounted
from support.repositories import Repositories
from vfs.control.daemon_socket import wait_until_closed
from vfs.fuse.session.mountpoint import mounted_at, unmount
from vfs.repo.lock import file_lock
from vfs.repo.repository import Repository

pytestmark = pytest.mark.mount

ROOT = Path(__file__).resolve().parents[2]


class Command:
    """The program, running, with a terminal for its words."""

    def __init__(self, *words: str | Path) -> None:
        self._terminal, theirs = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "VFS_AUTHOR": "ann@lab"}
        command = [sys.executable, "-m", "vfs", *map(str, words)]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True, cwd=ROOT
        )
        os.close(theirs)
        self.said = ""

    def wait_for(self, words: str) -> None:
        """Returns when it has said something."""
        while words not in self.said:
            assert self._hear(), self.said

    def end(self) -> tuple[int, str, str]:
        """Returns its exit status, and what it printed and said."""
        while self._hear():
            pass
        assert self.process.stdout is not None
        with self.process.stdout as out:
            printed = out.read()
        os.close(self._terminal)
        return self.process.wait(TIMEOUT_S), printed, self.said

    def _hear(self) -> bool:
        try:
            heard = os.read(self._terminal, 4096)
        except OSError:
            # The other end is closed.
            return False
        self.said += heard.decode()
        return bool(heard)


@contextmanager
def commit_that_waits(mount: Mount) -> Iterator[Command]:
    """Yields a `vfs commit` that a mount's daemon works at, and that cannot go on within."""
    with file_lock(mount.repository / "write.lock", timeout_s=TIMEOUT_S):
        command = Command("--repo", mount.repository, "commit", "-m", "why")
        command.wait_for("waiting")
        yield command


def versions(repository: Path) -> int:
    with Repository.open(repository) as repo:
        return repo.refs.version_count("main")


def test_a_daemon_that_is_killed_while_a_command_waits(mount: Mount) -> None:
    (mount / "file").write_bytes(b"1")
    with commit_that_waits(mount) as command:
        mount.process.kill()
        mount.process.wait()
        status, printed, said = command.end()
    assert status == 3, said
    assert printed == ""
    assert "ended before it answered" in said
    assert "The newest version shows whether it was done" in " ".join(said.split())
    assert versions(mount.repository) == 0
    with mounted(mount.repository, mount.path) as again:
        assert (again / "file").read_bytes() == b"1"
        assert again.commit().number == 1


@pytest.mark.parametrize("lazy", [False, True])
def test_unmounting_during_a_commit(mount: Mount, lazy: bool) -> None:
    (mount / "file").write_bytes(b"1")
    with commit_that_waits(mount) as command:
        unmount(mount.path, lazy=lazy)
        assert mounted_at(mount.path) is None
    status, printed, said = command.end()
    assert (status, printed[:3]) == (0, "v1 "), said
    assert mount.process.wait(TIMEOUT_S) == 0
    assert wait_until_closed(mount.repository, "main", TIMEOUT_S)
    assert versions(mount.repository) == 1


def test_a_commit_during_a_commit_waits_and_says_for_what(mount: Mount) -> None:
    (mount / "file").write_bytes(b"1")
    with commit_that_waits(mount) as first:
        second = Command("--repo", mount.repository, "commit", "-m", "also")
        second.wait_for("another operation")
        (mount / "file").write_bytes(b"2")
    assert first.end()[0] == 0
    # The first takes its picture when it has the lock: all that is there by then. Nothing is left for the second.
    status, _, said = second.end()
    assert status == 1
    assert "v1 (ann@lab: why) was committed meanwhile and has all changes, yours too" in " ".join(said.split())
    assert versions(mount.repository) == 1
    assert (mount / "@v1/file").read_bytes() == b"2"


def test_an_import_beside_a_mount_with_changes_changes_nothing(mount: Mount, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"imported")
    (mount / "file").write_bytes(b"working")
    status, _, said = Command("--repo", mount.repository, "import", source, "-m", "m").end()
    assert status == 4
    assert "uncommitted changes" in said
    assert (mount / "file").read_bytes() == b"working"
    assert versions(mount.repository) == 0


def test_of_two_mounts_of_a_branch_at_the_same_time_one_is_made(repository: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "one", tmp_path / "two"]
    made = mount_at_once([(repository, path) for path in paths])
    assert sorted(made) == [False, True]
    assert wait_until_closed(repository, "main", TIMEOUT_S)


@pytest.mark.parametrize("is_dead", [False, True])
def test_of_two_mounts_on_one_mount_point_at_the_same_time_one_is_made(
    is_dead: bool, repositories: Repositories, tmp_path: Path
) -> None:
    """Also where both find a dead mount there, and neither may take away what the other has mounted."""
    pair = [repositories.make("one"), repositories.make("two")]
    for repo in pair:
        repo.close()
    path = tmp_path / "mnt"
    if is_dead:
        with mounted(pair[0].path, path) as mount:
            mount.process.kill()
            mount.process.wait()
            made = mount_at_once([(repo.path, path) for repo in pair])
    else:
        made = mount_at_once([(repo.path, path) for repo in pair])
    assert sorted(made) == [False, True]
    assert mounted_at(path) is None
    for repo in pair:
        assert wait_until_closed(repo.path, "main", TIMEOUT_S)


def mount_at_once(wanted: list[tuple[Path, Path]]) -> list[bool]:
    """Mounts repositories on mount points at the same time; returns which were made, when all have ended again.

    Of each, what its command said and what is there agree.
    """
    for _, path in wanted:
        if mounted_at(path) is None:
            path.mkdir(exist_ok=True)
    commands = [Command("mount", repository, path) for repository, path in wanted]
    ends = [command.end() for command in commands]
    made = []
    try:
        for (status, _, said), (repository, path) in zip(ends, wanted, strict=True):
            assert status in (0, 4), said
            here = mounted_at(path)
            made.append(here is not None and here.repository == repository)
            assert made[-1] == (status == 0), said
    finally:
        for _, path in wanted:
            while mounted_at(path) is not None:
                unmount(path)
    return made
