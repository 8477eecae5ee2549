"""Goal: a hook can refuse a version, in its own words, and nothing that it does hangs or harms a commit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.commands import Run, commands_on
from support.ended import have_ended, watched
from support.trees import write_file
from vfs.cli.main import main
from vfs.repo.repository import Repository

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("VFS_HOOK", raising=False)
    return commands_on(tmp_path / "repo", capsys, monkeypatch)


def hook(tmp_path: Path, text: str, mode: int = 0o755) -> Path:
    path = tmp_path / "repo/hooks/pre-commit"
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o755)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(mode)
    return path


def write(tmp_path: Path, *names: bytes) -> None:
    with Repository.open(tmp_path / "repo") as repo, repo.open_overlay() as overlay:
        for name in names:
            write_file(overlay, name, os.urandom(8))


def test_a_hook_gets_the_changed_paths_and_what_it_is_about(run: Run, tmp_path: Path) -> None:
    hook(tmp_path, f"cat > {tmp_path}/paths; env | grep ^VFS_ | sort > {tmp_path}/env; pwd > {tmp_path}/pwd\n")
    write(tmp_path, b"a", b"b", b"odd\n\xff", b"x.tmp", b".vfsignore")
    with Repository.open(tmp_path / "repo") as repo, repo.open_overlay() as overlay:
        write_file(overlay, b".vfsignore", b"*.tmp\n")
    run("commit", "a", "odd\n\udcff", ".vfsignore", "-m", "why")
    assert (tmp_path / "paths").read_bytes() == b".vfsignore\0a\0odd\n\xff\0"
    variables = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert variables["VFS_REPO"] == str(tmp_path / "repo")
    assert (variables["VFS_OPERATION"], variables["VFS_BRANCH"]) == ("commit", "main")
    assert (variables["VFS_MESSAGE"], variables["VFS_AUTHOR"], variables["VFS_DATA"]) == ("why", "ann@lab", "")
    run("commit", "-m", "rest")
    assert (tmp_path / "paths").read_bytes() == b"b\0", "what is ignored is not committed"
    source = tmp_path / "source"
    source.mkdir()
    (source / "new").touch()
    run("import", str(source), "-m", "in", "--no-hooks", status=4)
    run("commit", "x.tmp", "-m", "all")
    run("import", str(source), "-m", "in")
    assert sorted((tmp_path / "paths").read_bytes().split(b"\0")[:-1])[-2:] == [b"odd\n\xff", b"x.tmp"]
    assert f"VFS_DATA={source}\n" in (tmp_path / "env").read_text()
    assert (tmp_path / "pwd").read_text() == f"{source}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo labels.csv has no header >&2; exit 7", "it ended with status 7:\n  labels.csv has no header"),
        ("kill -TERM $$", "it was ended by SIGTERM"),
        ("exec nonsense-that-is-not-there", "status 127"),
        ("head -c 10000000 /dev/zero | tr '\\0' x; exit 1", "and more than 9,9"),
        ("(sleep 300) & exit 3", "status 3"),
        ("exec <&-; exec >&- 2>&-; exit 4", "status 4"),
    ],
)
def test_a_hook_that_refuses_is_heard(run: Run, tmp_path: Path, text: str, words: str) -> None:
    hook(tmp_path, text + "\n")
    write(tmp_path, *(b"%d" % number for number in range(2000)))
    said = run("commit", "-m", "x", status=3)
    assert "hooks/pre-commit refused" in said
    assert words in said
    source = tmp_path / "source"
    source.mkdir()
    run("restore", "--discard", "latest", status=3)
    assert "no version" in run("log") + run("status")
    run("commit", "-m", "x", "--no-hooks")
    assert "v1" in run("log")


def test_an_import_is_refused_and_what_it_stored_is_found_again(run: Run, tmp_path: Path) -> None:
    path = hook(tmp_path, "exit 1\n")
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("1")
    assert "refused" in run("import", str(source), "-m", "x", status=3)
    path.unlink()
    run("import", str(source), "-m", "x")


def test_what_a_hook_says_is_shown_and_what_it_changes_is_committed(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hook(tmp_path, "echo all is well\n")
    write(tmp_path, b"a")
    assert main(["--repo", str(tmp_path / "repo"), "commit", "-m", "x"]) == 0
    assert "all is well" in capsys.readouterr().err


def test_a_hook_that_is_not_executable_is_reported_and_skipped(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hook(tmp_path, "exit 1\n", 0o644)
    write(tmp_path, b"a")
    assert main(["--repo", str(tmp_path / "repo"), "commit", "-m", "x"]) == 0
    assert "is not executable and was not run" in capsys.readouterr().err


def test_a_hook_that_others_own_or_can_write_to_is_not_run(run: Run, tmp_path: Path) -> None:
    path = hook(tmp_path, f"touch {tmp_path}/ran; exit 0\n")
    write(tmp_path, b"a")
    path.chmod(0o775)
    assert "can be written to by other users" in run("commit", "-m", "x", status=3)
    path.chmod(0o755)
    path.parent.chmod(0o777)
    assert "can be written to by other users" in run("commit", "-m", "x", status=3)
    path.parent.chmod(0o755)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert "is no regular file" in run("commit", "-m", "x", status=3)
    assert not (tmp_path / "ran").exists()


def test_a_hook_of_another_user_is_not_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook(tmp_path, f"touch {tmp_path}/ran; exit 0\n")
    write(tmp_path, b"a")
    # The same as a repository that another user owns, without having to be two users.
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert "belongs to another user" in run("commit", "-m", "x", status=3)
    assert not (tmp_path / "ran").exists()


def test_a_hook_cannot_commit_itself(run: Run, tmp_path: Path) -> None:
    command = f"{sys.executable} -m vfs --repo {tmp_path}/repo commit -m again"
    hook(tmp_path, f"export PYTHONPATH={ROOT}; {command}\n")
    write(tmp_path, b"a")
    assert "what it starts cannot commit" in run("commit", "-m", "x", status=3)


_COMMIT = """
import signal, sys
from vfs.cli.main import main
# Whatever the test run was started with.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(["--repo", sys.argv[1], "commit", "-m", "x"]))
"""


def test_an_interrupt_while_a_hook_is_started_ends_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when the process is there and its starter has no handle yet."""
    hook(tmp_path, "exec sleep 300\n")
    write(tmp_path, b"a")
    started: list[int] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            started.append(os.pidfd_open(self.pid))
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run("commit", "-m", "x", status=130)
        assert len(started) == 1
        # Ended, not gone, as below.
        assert have_ended(started)
    finally:
        signal.signal(signal.SIGINT, before)
        for process in started:
            os.close(process)


def test_a_hook_that_hangs_ends_with_the_command(run: Run, tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    hook(tmp_path, f"trap '' TERM; echo $$ > {started}; sleep 300; sleep 300\n")
    write(tmp_path, b"a")
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMIT, str(tmp_path / "repo")],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    try:
        with watched([int(started.read_text())]) as hook_processes:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 130, errors
            # Ended, not gone: who inherits a process that has ended may wait for it later.
            assert have_ended(hook_processes)
    finally:
        process.kill()
    assert "no version" in run("log") + run("status")
