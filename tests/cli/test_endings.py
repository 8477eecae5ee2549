"""How a command ends when it is stopped, when names are odd, and when something is broken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command_server import fork_server
from support.mounts import TIMEOUT_S

ROOT = Path(__file__).resolve().parents[2]
ODD = b"bad\xff\x1b[31m name\n"


ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "VFS_REPO": "repo", "VFS_AUTHOR": "ann@lab"}


def vfs(directory: Path, *words: str | bytes) -> subprocess.CompletedProcess[bytes]:
    texts = [os.fsdecode(word) for word in words]
    return fork_server(ENVIRONMENT).run_bytes(texts, directory, ENVIRONMENT, TIMEOUT_S, {})


def started(directory: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a command in an interpreter of its own, which reads variables when it starts."""
    command = [sys.executable, "-m", "vfs", *words]
    return subprocess.run(command, cwd=directory, env=ENVIRONMENT | variables, capture_output=True, check=False)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory with the repository `repo`, whose version 1 has a large file and one with an odd name."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "large").write_bytes(bytes(1_000_000))
    (Path(os.fsdecode(os.fsencode(data) + b"/" + ODD))).write_bytes(b"odd")
    assert vfs(tmp_path, "init", "repo").returncode == 0
    assert vfs(tmp_path, "import", "data", "-m", "first").returncode == 0
    yield tmp_path
    assert vfs(tmp_path, "fsck", "--read-data").returncode == 0


def test_interrupt_reports_what_was_saved(place: Path) -> None:
    """A pipe that is full holds the command; the interrupt comes when its first byte has arrived."""
    with subprocess.Popen(
        [sys.executable, "-m", "vfs", "cat", "v1", "large"],
        cwd=place,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "VFS_REPO": "repo"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        words = process.stderr.read()
        process.stdout.close()
    assert process.returncode == 130
    assert words.strip() == b"vfs: stopped. Nothing was changed."


def test_names_that_are_no_text_are_escaped_for_people_and_exact_in_json(place: Path) -> None:
    listed = vfs(place, "ls").stdout
    assert listed.splitlines()[0] == rb"bad\xff\x1b[31m name\n"
    first = json.loads(vfs(place, "ls", "--json").stdout.splitlines()[0])
    assert os.fsencode(first["path"]) == ODD
    assert vfs(place, "cat", "v1", ODD).stdout == b"odd"
    missing = vfs(place, "cat", "v1", b"no\xfe")
    assert missing.returncode == 3
    assert rb"no\xfe" in missing.stderr


def test_locale_without_a_character_stops_nothing(place: Path) -> None:
    (place / "data" / "large").write_bytes(b"small")
    done = started(place, "import", "data", "-m", "gr\u00f6\u00dfer \u2192", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    shown = started(place, "log", PYTHONIOENCODING="latin-1")
    assert shown.returncode == 0, shown.stderr
    assert b"gr\xf6\xdfer \\u2192" in shown.stdout


def test_message_that_is_no_text_is_refused(place: Path) -> None:
    (place / "data" / "large").write_bytes(b"small")
    done = vfs(place, "import", "data", "-m", b"\xff")
    assert done.returncode == 2, done.stderr
    assert b"UTF-8" in done.stderr


def test_traceback_is_shown_only_when_asked_for(place: Path) -> None:
    plain, debugged = vfs(place, "ls", "v9"), vfs(place, "--debug", "ls", "v9")
    assert plain.returncode == debugged.returncode == 3
    assert b"Traceback" not in plain.stderr
    assert b"Traceback" in debugged.stderr
    assert plain.stderr.splitlines()[0] == b"vfs: there is no version 'v9'"


def test_repository_of_a_newer_program_is_refused_with_its_status(place: Path) -> None:
    config = place / "repo" / "vfs.json"
    before = config.read_bytes()
    config.write_bytes(before.replace(b'"format": 1', b'"format": 2'))
    try:
        done = vfs(place, "log")
    finally:
        config.write_bytes(before)
    assert done.returncode == 6
    assert b"newer version" in done.stderr


@pytest.mark.parametrize(
    ("words", "status"),
    [(["cat", "v9", "large"], 3), (["cat", "v1", "large"], 141), (["nonsense"], 2)],
)
def test_errors_have_their_status_with_closed_streams(place: Path, words: list[str], status: int) -> None:
    """Both streams are a pipe without a reader, as after `2>&1 | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vfs", *words],
            cwd=place,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "VFS_REPO": "repo"},
            stdout=writing,
            stderr=writing,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.returncode == status


def test_output_that_finds_no_room_is_an_error_and_says_so_once(place: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vfs", "log"],
            cwd=place,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "VFS_REPO": "repo"},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == b"vfs: standard output: No space left on device"
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["log", "-n", "9" * 30], 0),
        (["operations", "-n", "9" * 30], 0),
        (["gc", "--keep-last", "9" * 30, "--dry-run"], 0),
        (["gc", "--grace", "inf", "--undo", "1e300", "--dry-run"], 0),
        (["gc", "--grace", "nan"], 2),
        (["gc", "--undo", "nan"], 2),
    ],
)
def test_numbers_beyond_reason_are_no_defects(place: Path, words: list[str], status: int) -> None:
    assert vfs(place, *words).returncode == status


@pytest.mark.parametrize(
    "words",
    [
        ["import", "", "-m", "all of it"],
        ["export", "v1", ""],
        ["init", ""],
        ["mount", "repo", ""],
        ["mount", "", "data"],
        ["umount", ""],
        ["fsck", ""],
        ["--repo", "", "log"],
        ["restore", "--discard", "v1", ""],
    ],
)
def test_empty_word_is_not_the_current_directory(place: Path, words: list[str]) -> None:
    """It is what a shell makes of a variable that was never set."""
    done = vfs(place, *words)
    assert done.returncode == 2
    assert b"empty" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("commit --allow-empty", 2, "-m"),
        ("gc --keep-last 1 --grace 0", 0, ""),
        ("purge file", 2, "--yes"),
        ("forget v1", 2, "--yes"),
    ],
)
def test_what_may_ask_says_what_to_do_where_standard_input_is_closed(
    place: Path, words: str, status: int, said: str
) -> None:
    script = f'exec "$0" -m vfs --repo repo {words} <&-'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable],
        cwd=place,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
def test_closed_standard_streams_are_no_failure_and_nothing_is_written_into_files(
    place: Path, closed: list[int]
) -> None:
    close = " ".join(f"{number}>&-" for number in closed)
    command = f'exec "$0" -m vfs tag paper v1 {close}'
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "VFS_REPO": "repo"}
    done = subprocess.run(["sh", "-c", command, sys.executable], cwd=place, env=variables, check=False)
    assert done.returncode == 0
    assert b"paper" in vfs(place, "tag").stdout
