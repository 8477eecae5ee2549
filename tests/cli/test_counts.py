"""commit, merge and restore end with how many files they changed; commits that found nothing to do say why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.commands import Run, commands_on
from support.lines import put
from vfs.cli.main import main
from vfs.repo.commit import commit, nothing_to_commit
from vfs.repo.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "repo"


@pytest.fixture
def run(repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return commands_on(repository, capsys, monkeypatch)


def write(repository: Path, files: dict[bytes, bytes | None], branch: str = "main") -> None:
    with Repository.open(repository) as repo, repo.open_overlay(branch) as overlay:
        for path, data in files.items():
            put(overlay, path, data)


def said(repository: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Returns what a command writes to standard error."""
    capsys.readouterr()
    assert main(["--repo", str(repository), *words]) in (0, 1)
    return capsys.readouterr().err


def test_a_commit_ends_with_the_files_it_changed(
    run: Run, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(repository, {b"a": b"1", b"d/b": b"1", b"d/c": b"1"})
    assert said(repository, capsys, "commit", "-m", "one") == "  Files: 3 added\n"
    write(repository, {b"a": b"2", b"d/b": None, b"d/e/new": b"1"})
    changes = {"added": 1, "modified": 1, "removed": 1}
    assert json.loads(run("commit", "-m", "two", "--json"))["changes"] == changes
    assert said(repository, capsys, "commit", "-m", "again", "--allow-empty") == "  Files: none changed\n"


def test_a_merge_ends_with_the_files_it_changed_here(
    run: Run, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(repository, {b"a": b"1", b"b": b"1"})
    run("commit", "-m", "one")
    run("branch", "other")
    write(repository, {b"a": b"2", b"new": b"1"}, "other")
    run("commit", "-b", "other", "-m", "theirs")
    write(repository, {b"b": b"2"})
    run("commit", "-m", "ours")
    assert said(repository, capsys, "merge", "other") == "  Files: 1 added, 1 modified\n"


def test_a_restore_ends_with_the_files_it_changed(run: Run, repository: Path) -> None:
    write(repository, {b"a": b"1", b"b": b"1"})
    run("commit", "-m", "one")
    write(repository, {b"a": b"2", b"b": None, b"c": b"1"})
    run("commit", "-m", "two")
    assert "Files: 1 added, 1 modified, 1 removed. " in run("restore", "v1")
    assert json.loads(run("restore", "v1", "a", "--discard", "--json"))["changes"] == {
        "added": 0,
        "modified": 0,
        "removed": 0,
    }


def test_nothing_to_commit_says_what_there_is(run: Run, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no version yet" in said(repository, capsys, "commit", "-m", "empty")
    write(repository, {b"a": b"1"})
    run("commit", "-m", "first\nmore words")
    assert "nothing has changed since the last version, v1 (ann@lab: first)" in said(
        repository, capsys, "commit", "-m", "again"
    )


@pytest.mark.usefixtures("run")
def test_a_commit_that_came_too_late_names_the_version_with_its_changes(repository: Path) -> None:
    write(repository, {b"a": b"1"})
    with Repository.open(repository) as repo, repo.open_overlay("main") as overlay:
        newest = commit(repo, overlay, "theirs \x1b[31m", "ann@lab").version
        before, after = newest.commit.time_ns - 1, newest.commit.time_ns + 1
        late = nothing_to_commit(newest, before)
        assert late.message.startswith("v1 (ann@lab: theirs ")
        assert late.message.endswith(" was committed meanwhile and has all changes, yours too")
        assert "\x1b" not in late.message
        assert nothing_to_commit(newest, after).message.startswith("nothing has changed since")
