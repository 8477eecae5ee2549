"""The history of a git repository as versions, read by the real git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.commands import commands_on
from vfs.errors import InvalidInput, NotFound, Unsupported
from vfs.python.address_download import NotFetched
from vfs.python.source_history import SourceHistory

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Runs git in a repository of its own, without the user's settings."""
    there = tmp_path / "source"
    there.mkdir()
    for name, value in {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ann",
        "GIT_AUTHOR_EMAIL": "ann@host",
        "GIT_COMMITTER_NAME": "Bob",
        "GIT_COMMITTER_EMAIL": "bob@host",
    }.items():
        monkeypatch.setenv(name, value)

    def run(*words: str, day: int = 1) -> str:
        stamp = {"GIT_AUTHOR_DATE": f"2026-01-{day:02}T12:00:00Z", "GIT_COMMITTER_DATE": f"2026-01-{day:02}T12:00:00Z"}
        done = subprocess.run(
            ["git", *words], cwd=there, env=os.environ | stamp, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    run("init", "-q", "-b", "main")
    return run


@pytest.fixture
def three(git: Git, tmp_path: Path) -> Path:
    """A repository of three revisions: one adds, one changes and links, one removes."""
    there = tmp_path / "source"
    (there / "d").mkdir()
    (there / "a").write_text("1")
    (there / "d" / "kept").write_text("k")
    git("add", "-A")
    git("commit", "-qm", "first\n\nwhy", day=1)
    (there / "a").write_text("22")
    (there / "link").symlink_to("a")
    git("add", "-A")
    git("commit", "-qm", "second", day=2)
    git("tag", "two")
    (there / "a").unlink()
    (there / "link").unlink()
    git("add", "-A")
    git("commit", "-qm", "third", day=3)
    return there


def ignore(_files: int, _size: int) -> None:
    """Is progress that is not shown."""


def test_each_revision_is_a_version(
    three: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = commands_on(tmp_path / "repo", capsys, monkeypatch)
    run("import", "--from", str(three), "--revisions", "main")
    log = run("log", "--full")
    assert log.count("Ann <ann@host>") == 3
    assert [line.split()[0] for line in log.splitlines() if line.startswith("    2026-01-")] == [
        "2026-01-03",
        "2026-01-02",
        "2026-01-01",
    ]
    shown = run("show", "v2")
    assert git("rev-parse", "two") in shown
    assert f"vfs.source           {three}" in shown
    assert "2026-01-02T12:00:00+00:00" in shown
    assert "first\n\n    why" in run("show", "v1")
    assert run("cat", "v2", "a") == "22"
    # A file that a revision leaves alone keeps its time, so that the version does not change it.
    assert "kept" not in run("diff", "v1", "v2", status=1)
    assert run("ls", "v3", "--json").count('"path"') == 1
    run("fsck")


def test_the_same_command_goes_on_with_what_is_new(
    three: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = commands_on(tmp_path / "repo", capsys, monkeypatch)
    run("import", "--from", f"git+file://{three}", "--revisions", "two")
    run("import", "--from", f"git+file://{three}", "--revisions", "two", status=1)
    run("import", "--from", f"git+file://{three}", "--revisions", "main")
    assert len(run("log", "--json").splitlines()) == 3
    run("import", "--from", str(three), "--revisions", "main", "-m", "no", status=2)
    run("import", "--revisions", "main", str(three), status=2)


def test_a_range_begins_after_its_first_revision(three: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    history = SourceHistory(str(three), tmp_path / "scratch")
    assert [revision.message for revision in history.revisions("main~2..main")] == ["second", "third"]
    third = history.revisions("main")[-1]
    assert sorted(path.name for path in history.show(third, ignore).rglob("*")) == ["d", "kept"]
    with pytest.raises(NotFound):
        history.revisions("nothing")
    with pytest.raises(InvalidInput):
        history.revisions("--output=/tmp/x")


def test_what_is_no_repository_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, address in enumerate([str(tmp_path / "nothing"), "ext::sh -c true", "--upload-pack=x"]):
        (tmp_path / f"s{number}").mkdir()
        with pytest.raises(NotFetched):
            SourceHistory(address, tmp_path / f"s{number}")
    monkeypatch.setenv("PATH", "")
    (tmp_path / "s").mkdir()
    with pytest.raises(Unsupported):
        SourceHistory(str(tmp_path), tmp_path / "s")


def test_a_hostile_repository_runs_nothing_and_controls_no_terminal(git: Git, tmp_path: Path) -> None:
    there = tmp_path / "source"
    (there / ".gitattributes").write_text("* filter=evil\n")
    (there / "a").write_text("1")
    for hook in ("post-checkout", "post-index-change"):
        path = there / ".git" / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        path.chmod(0o755)
    git("config", "filter.evil.smudge", f"touch {tmp_path}/ran")
    git("add", "-A")
    git("-c", "user.name=A\x1b[2J", "commit", "-qm", "red \x1b[31m", "--author", "A\x1b[2J <a@b>")
    (tmp_path / "ran").unlink(missing_ok=True)
    (tmp_path / "scratch").mkdir()
    history = SourceHistory(str(there), tmp_path / "scratch")
    (revision,) = history.revisions("main")
    assert "\x1b" not in revision.message + revision.author
    assert (history.show(revision, ignore) / "a").read_text() == "1"
    assert not (tmp_path / "ran").exists()
