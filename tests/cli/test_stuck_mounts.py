"""Mounts that something holds, daemons that do not answer, repositories that are moved: said, and never waited for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.ended import have_ended, watched
from support.plain_trees import describe
from support.shell import Shell, mounted_shell, unshared
from support.waiting import wait_until
from vfs.fuse.session.mountpoint import mounted_at

pytestmark = pytest.mark.mount

IMPATIENT: dict[str, object] = {
    "vfs.control.client.SILENCE_S": 1e6,
    "vfs.control.mount_probe.SILENCE_S": 1e6,
    "vfs.cli.commands.umount.CLOSING_TIMEOUT_S": 1e6,
    "vfs.control.client.CHECK_INTERVAL_S": 0.05,
    "vfs.control.mount_probe.CHECK_INTERVAL_S": 0.05,
    "vfs.cli.commands.umount.QUIET_S": 0.05,
}
"""A command that waits for a daemon waits for ever and its test fails; what it asks meanwhile, it asks soon."""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with mounted_shell(tmp_path) as made:
        (tmp_path / "data/d").mkdir()
        (tmp_path / "data/f").write_text("1")
        made("commit", "-m", "first", cwd=tmp_path / "data")
        yield made


def daemon_of(shell: Shell) -> int:
    (mount,) = shell.status("--repo", "repo")["mounts"]
    assert isinstance(mount["pid"], int)
    return mount["pid"]


@contextmanager
def bound(source: Path, target: Path) -> Iterator[Path]:
    target.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", source, target], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", "-l", target], check=True)


def refused(shell: Shell, *words: str, cwd: Path | None = None, status: int = 4) -> str:
    """Runs a command that must not wait for what does not come, and returns its errors."""
    done = shell.run(*words, cwd=cwd, settings=IMPATIENT)
    assert done.returncode == status, (words, done.stdout, done.stderr)
    return done.stderr


# Mounts that something else shows.


@pytest.mark.parametrize("part", [".", "d", "@v1"])
def test_a_bind_mount_that_keeps_a_daemon_is_named_and_the_daemon_ends_with_it(shell: Shell, part: str) -> None:
    data = shell.directory / "data"
    with watched([daemon_of(shell)]) as daemon:
        with bound(data / part, shell.directory / "my bind") as bind:
            text = refused(shell, "umount", "data")
            assert "is unmounted, but its daemon goes on" in text
            assert str(bind) in text
            # What `vfs mount` says is the same story.
            text = refused(shell, "mount", "repo", "data")
            assert "was mounted at" in text
            assert str(bind) in text
            # What is written through shared mappings there is in versions.
            assert (bind / "f").exists() == (part != "d")
        assert have_ended(daemon)
    shell("mount", "repo", "data")
    shell("umount", "data")


def test_unmounting_a_bind_mount_leaves_the_mount_alone(shell: Shell) -> None:
    data = shell.directory / "data"
    with bound(data / "d", shell.directory / "bind"), bound(data, shell.directory / "whole"):
        assert "goes on" in shell("umount", "bind")
        assert "goes on" in shell("umount", "whole")
        for name in ("bind", "whole"):
            subprocess.run(["mount", "--bind", data, shell.directory / name], check=True)
        (data / "g").write_text("2")
        assert "f" in os.listdir(data)
    shell("umount", "data")


def test_a_mount_namespace_that_keeps_a_daemon_is_named_by_its_process(shell: Shell) -> None:
    data = shell.directory / "data"
    with subprocess.Popen(
        [*unshared(shell.directory), "sh", "-c", "echo ready; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        with watched([daemon_of(shell)]) as daemon:
            text = refused(shell, "umount", "data")
            assert f"({holder.pid}) has it at {data}" in text
            assert "mount namespace" in text
            text = refused(shell, "mount", "repo", "data")
            assert f"({holder.pid})" in text
            holder.communicate("\n")
            assert have_ended(daemon)


def test_a_mount_inside_is_named(shell: Shell) -> None:
    data = shell.directory / "data"
    subprocess.run(["mount", "-t", "tmpfs", "none", data / "d"], check=True)
    try:
        text = refused(shell, "umount", "data")
        assert "data is in use" in text
        assert f"a mount is at {data / 'd'}" in text
    finally:
        subprocess.run(["umount", data / "d"], check=True)
    shell("umount", "data")


def test_a_shared_mapping_in_a_bind_mount_is_in_the_version_when_the_mount_itself_is_gone(shell: Shell) -> None:
    data = shell.directory / "data"
    with bound(data / "d", shell.directory / "bind") as bind:
        script = (
            "import mmap, sys\n"
            "file = open(sys.argv[1], 'w+b'); file.truncate(4096); m = mmap.mmap(file.fileno(), 4096)\n"
            "m[0:4] = b'late'; print('ready', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            ["python3", "-c", script, bind / "mapped"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            refused(shell, "umount", "data")
            shell("commit", "-m", "mapped", cwd=bind)
            assert shell("cat", "latest", "mapped", cwd=bind)[:4] == "late"
            program.communicate("")


# Daemons that do not answer.


def test_commands_end_by_themselves_where_the_daemon_is_stopped(shell: Shell) -> None:
    data = shell.directory / "data"
    other = shell.directory / "other"
    other.mkdir()
    process = daemon_of(shell)
    os.kill(process, signal.SIGSTOP)
    try:
        for words, cwd in (
            (["status"], data),
            (["log"], data),
            (["commit", "-m", "no"], data / "d"),
            (["--repo", "repo", "status"], None),
            (["--repo", "repo", "commit", "-m", "no"], None),
            (["--repo", "data/f", "log"], None),
            (["mount", "repo", "other"], None),
            (["mount", "data", "other"], None),
        ):
            text = refused(shell, *words, cwd=cwd)
            assert f"process {process} is stopped" in text, words
            assert f"kill -CONT {process}" in text, words
    finally:
        os.kill(process, signal.SIGCONT)
    assert shell.status(cwd=data)["clean"] is True


def test_umount_reports_a_stopped_daemon_which_ends_when_it_is_continued(shell: Shell) -> None:
    process = daemon_of(shell)
    with watched([process]) as daemon:
        os.kill(process, signal.SIGSTOP)
        try:
            text = refused(shell, "umount", "data")
            assert f"process {process} is stopped" in text
            assert mounted_at(shell.directory / "data") is None
        finally:
            os.kill(process, signal.SIGCONT)
        assert have_ended(daemon)


def test_a_daemon_that_stops_in_the_middle_of_an_operation_is_not_waited_for(shell: Shell) -> None:
    data = shell.directory / "data"
    process = daemon_of(shell)
    (data / "big").write_bytes(os.urandom(200 << 20))
    lock = shell.directory / "repo/write.lock"
    # The holder before has left its number in it.
    lock.write_text("")
    with ThreadPoolExecutor() as threads:
        command = threads.submit(refused, shell, "commit", "-m", "big", cwd=data)
        # A commit holds the write lock of the repository from its beginning on.
        held = f"{process}\n"
        wait_until(lambda: command.done() or lock.read_text() == held)
        os.kill(process, signal.SIGSTOP)
        try:
            text = command.result()
        finally:
            os.kill(process, signal.SIGCONT)
    assert f"process {process} is stopped" in text
    shell("umount", "data")


# Repositories that are moved.


def test_a_moved_repository_is_reported_and_works_at_its_new_place(shell: Shell) -> None:
    data, other = shell.directory / "data", shell.directory / "other"
    other.mkdir()
    (data / "g").write_text("not committed")
    (shell.directory / "repo").rename(shell.directory / "away")
    for words, cwd in (
        (["status"], data),
        (["commit", "-m", "no"], data),
        (["log"], data),
        (["fsck"], data),
        (["--repo", "away", "status"], None),
        (["--repo", "away", "commit", "-m", "no"], None),
        (["--repo", str(shell.directory / "away"), "commit", "-m", "no"], data),
        (["mount", "away", "other"], None),
        (["--repo", "data", "status"], None),
    ):
        text = refused(shell, *words, cwd=cwd)
        assert "moved" in text, (words, text)
        assert "vfs umount" in text, (words, text)
    done = shell.run("umount", "data")
    assert done.returncode == 0, done.stderr
    assert "moved" in done.stderr
    shell("mount", "away", "data")
    assert (data / "g").read_text() == "not committed"
    shell("commit", "-m", "later", cwd=data)
    shell("umount", "data")
    (shell.directory / "away").rename(shell.directory / "repo")


def test_nothing_is_written_into_what_took_the_place_of_a_moved_repository(shell: Shell) -> None:
    data, repo, copy = shell.directory / "data", shell.directory / "repo", shell.directory / "copy"
    (data / "g").write_bytes(bytes(1 << 20))
    shutil.copytree(repo, copy, ignore=shutil.ignore_patterns("*.sock"))
    repo.rename(shell.directory / "away")
    copy.rename(repo)
    before = describe(repo)
    for words, cwd in (
        (["status"], data),
        (["commit", "-m", "no"], data),
        (["--repo", str(shell.directory / "away"), "commit", "-m", "no"], None),
    ):
        assert "moved" in refused(shell, *words, cwd=cwd), words
    for _ in range(20):
        # What a compaction at the end would gain by.
        (data / "g").write_bytes(os.urandom(1 << 20))
    shell("umount", "data")
    assert describe(repo) == before
    shutil.rmtree(repo)
    (shell.directory / "away").rename(repo)


def test_a_repository_that_was_moved_back_continues_as_before(shell: Shell) -> None:
    data = shell.directory / "data"
    (shell.directory / "repo").rename(shell.directory / "away")
    assert "moved" in refused(shell, "status", cwd=data)
    (shell.directory / "away").rename(shell.directory / "repo")
    (data / "g").write_text("2")
    shell("commit", "-m", "back", cwd=data)
