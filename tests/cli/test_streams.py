"""Commands whose standard streams are closed, full or no longer read, and signals that are ignored from the start."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.ended import becomes_readable, have_ended, watched
from support.mounts import TIMEOUT_S
from support.shell import Shell, mounted_shell

pytestmark = pytest.mark.mount

CLOSED = ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"]
IGNORED = ("sh", "-c", 'trap "" INT HUP; exec "$@"', "sh")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A mount at `data` of a repository with two versions."""
    with mounted_shell(tmp_path) as made:
        for number in range(2):
            (tmp_path / "data/f").write_text(f"{number}\n")
            made("commit", "-m", "x", cwd=tmp_path / "data")
        yield made


def with_streams(streams: str) -> tuple[str, ...]:
    return ("sh", "-c", f'exec "$@" {streams}', "sh")


@pytest.mark.parametrize("streams", CLOSED)
def test_closed_streams_change_nothing_else(shell: Shell, streams: str) -> None:
    data = shell.directory / "data"
    for words, status in (
        (["commit", "--allow-empty"], 2),
        (["commit", "--allow-empty", "-m", "x"], 0),
        (["amend", "-m", "y"], 0),
        (["status"], 0),
        (["log"], 0),
        (["diff", "v1", "v2"], 1),
        (["cat", "v1", "f"], 0),
        (["restore", "v1", "f"], 0),
        (["restore", "--discard", "latest"], 0),
        (["gc", "--keep-last", "1"], 2),
        (["forget", "v1"], 2),
        (["cat", "v9", "f"], 3),
        (["nonsense"], 2),
    ):
        done = shell.run(*words, cwd=data, before=with_streams(streams))
        assert done.returncode == status, (words, done.stdout, done.stderr)
        assert ">&-" not in streams.split() or not done.stdout
        assert "2>&-" not in streams.split() or not done.stderr
        assert "defect" not in done.stderr
    shell("umount", "data")
    assert shell.run("purge", "--yes", "f", "--repo", "repo", before=with_streams(streams)).returncode == 0
    assert shell("fsck", "--read-data", "repo")


@pytest.mark.parametrize("streams", CLOSED)
def test_a_mount_is_made_and_ended_with_closed_streams(shell: Shell, streams: str) -> None:
    data = shell.directory / "data"
    assert shell.run("umount", "data", before=with_streams(streams)).returncode == 0
    assert shell.run("mount", "repo", "data", before=with_streams(streams)).returncode == 0
    (data / "g").write_text("2")
    shell("commit", "-m", "g", cwd=data)
    (process,) = (mount["pid"] for mount in shell.status(cwd=data)["mounts"])
    # What the daemon has as its standard streams are no files of the repository.
    for number in range(3):
        target = os.readlink(f"/proc/{process}/fd/{number}")
        assert target == os.devnull or target.endswith(".log"), (number, target)
    assert shell.run("umount", "data", before=with_streams(streams)).returncode == 0


@pytest.mark.parametrize(
    "words", [["log"], ["commit", "--allow-empty", "-m", "x"], ["status"], ["--help"], ["cat", "v1", "f"]]
)
def test_a_full_disk_behind_standard_output_is_reported_and_the_work_is_kept(shell: Shell, words: list[str]) -> None:
    data = shell.directory / "data"
    before = len(shell("log", "--json", cwd=data).splitlines())
    done = shell.run(*words, cwd=data, before=with_streams("> /dev/full"))
    assert done.returncode == 3
    assert "standard output: No space left on device" in done.stderr
    assert "vfs operations" in done.stderr
    assert "Traceback" not in done.stderr
    after = len(shell("log", "--json", cwd=data).splitlines())
    assert after == before + (words[0] == "commit")


def test_errors_that_find_no_room_keep_their_status(shell: Shell) -> None:
    for words, status in ((["cat", "v9", "f"], 3), (["nonsense"], 2), (["log"], 0)):
        assert shell.run(*words, cwd=shell.directory / "data", before=with_streams("2> /dev/full")).returncode == status


@pytest.mark.parametrize(
    "words", [["log"], ["ls", "-R"], ["status", "--json"], ["--help"], ["operations"], ["cat", "v1", "f"]]
)
def test_a_reader_that_stops_is_no_error(shell: Shell, words: list[str]) -> None:
    data = shell.directory / "data"
    script = 'PIPE="$1"; shift; "$@" | head -c 1 > "$PIPE"; exit "${PIPESTATUS[0]}"'
    done = shell.run(*words, cwd=data, before=("bash", "-c", script, "bash", os.devnull))
    assert done.returncode in (0, 141, 2), (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


# Questions.


def answered(shell: Shell, answer: bytes, *words: str) -> tuple[int, str]:
    """Runs a command at a terminal, answers its question, and returns its status and what it said."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            ["setsid", "--ctty", *shell.program, *words],
            cwd=shell.directory,
            env=shell.environment,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout is not None
            said = b""
            while b"[y/N]" not in said:
                piece = os.read(process.stdout.fileno(), 1000)
                assert piece, said
                said += piece
            os.write(ours, answer)
            while not becomes_readable(process.stdout.fileno(), 0.5):
                # One that comes between the question and the reading of its answer is heard of at the next.
                os.write(ours, answer)
            said += process.stdout.read()
            status = process.wait(TIMEOUT_S)
    finally:
        os.close(ours)
        os.close(theirs)
    return status, said.decode()


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (b"n\n", 1, "vfs: nothing was changed"),
        (b"\n", 1, "vfs: nothing was changed"),
        (b"what\nno\n", 1, "vfs: nothing was changed"),
        (b"\x04", 130, "vfs: stopped. Nothing was changed."),
        (b"\x03", 130, "vfs: stopped. Nothing was changed."),
    ],
)
@pytest.mark.parametrize("command", [["gc", "--keep-last", "1"], ["forget", "v1"], ["purge", "f"]])
def test_no_means_that_nothing_was_changed(
    shell: Shell, command: list[str], answer: bytes, status: int, words: str
) -> None:
    shell("umount", "data")
    before = shell("--repo", "repo", "log", "--json") + shell("--repo", "repo", "operations", "--json")
    found, said = answered(shell, answer, "--repo", "repo", *command)
    assert found == status, said
    assert words in said
    assert "interrupted" not in said
    assert shell("--repo", "repo", "log", "--json") + shell("--repo", "repo", "operations", "--json") == before


# Signals that are ignored from the start, as for what a script runs in the background, and by `nohup`.


def test_a_command_heeds_no_interrupt_where_that_was_ignored_from_the_start(shell: Shell) -> None:
    data = shell.directory / "data"
    (data / "large").write_bytes(bytes(1_000_000))
    shell("commit", "-m", "large", cwd=data)
    with subprocess.Popen(
        [*IGNORED, *shell.program, "cat", "latest", "large"], cwd=data, env=shell.environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        # A pipe that is full holds the command when its first byte has arrived.
        assert process.stdout.read(1) == b"\0"
        process.send_signal(signal.SIGINT)
        assert len(process.stdout.read()) == 999_999
    assert process.returncode == 0


def test_a_foreground_mount_heeds_what_was_not_ignored_from_the_start(shell: Shell) -> None:
    shell("umount", "data")
    with subprocess.Popen(
        [*IGNORED, sys.executable, "-u", "-P", "-m", "vfs", "mount", "--foreground", "repo", "data"],
        cwd=shell.directory,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"Mounted at")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGHUP)
        (shell.directory / "data/g").write_text("2")
        shell("commit", "-m", "still there", cwd=shell.directory / "data")
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0


def test_a_daemon_heeds_every_signal_whatever_its_starter_ignored(shell: Shell) -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        shell("umount", "data")
        assert shell.run("mount", "repo", "data", before=IGNORED).returncode == 0
        (process,) = (mount["pid"] for mount in shell.status("--repo", "repo")["mounts"])
        with watched([process]) as daemon:
            os.kill(process, number)
            assert have_ended(daemon)
        shell("mount", "repo", "data")
