"""gc and forget as commands: what they print, what they ask, and how they end."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from support.repositories import Repositories
from vfs.cli.main import main

Run = Callable[..., str]


@pytest.fixture
def run(
    tmp_path: Path, repositories: Repositories, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command in a repository of four versions of one file."""
    monkeypatch.setenv("VFS_AUTHOR", "ann@lab")
    monkeypatch.delenv("VFS_REPO", raising=False)
    repository = repositories.watch(tmp_path / "repo")

    def call(*words: str, status: int = 0) -> str:
        found = main(["--repo", str(repository), *words])
        captured = capsys.readouterr()
        assert found == status, captured.err
        return captured.out + captured.err

    assert main(["init", str(repository)]) == 0
    (tmp_path / "data").mkdir()
    noise = random.Random(63)
    for number in range(4):
        (tmp_path / "data/file").write_bytes(noise.randbytes(100_000))
        (tmp_path / "data/number").write_bytes(b"%d" % number)
        call("import", str(tmp_path / "data"), "-m", f"number {number}")
    return call


def test_gc_without_rules_keeps_every_version(run: Run) -> None:
    assert run("gc", "--grace", "0") == "Nothing to remove.\n"
    assert len(run("log").splitlines()) == 4


def test_gc_says_why_forgetting_frees_nothing_yet(run: Run) -> None:
    said = run("gc", "--keep-last", "2", "--dry-run").splitlines()
    assert said[0] == "Would forget 2 versions: v1, v2."
    assert "--grace" in said[1]


def test_gc_with_rules_says_first_and_does_then(run: Run) -> None:
    said = run("gc", "--keep-last", "2", "--grace", "0", "--dry-run")
    assert "Would forget 2 versions: v1, v2." in said
    assert "Would free about" in said
    assert "forgotten" not in run("log")
    found = json.loads(run("gc", "--keep-last", "2", "--grace", "0", "--json", "--yes"))
    assert [version["version"] for version in found["forgotten"]] == ["v1", "v2"]
    assert found["bytes_before"] - found["bytes_after"] > 190_000
    assert run("log").count("(forgotten)") == 2
    assert [json.loads(line).get("forgotten", False) for line in run("log", "--json").splitlines()] == [
        False,
        False,
        True,
        True,
    ]
    assert "v1 " in run("ls", "v1", status=3)


def test_what_follows_a_file_passes_over_forgotten_versions(run: Run) -> None:
    run("forget", "v2", "v3", "--yes")
    assert [line.split()[0] for line in run("log", "number").splitlines()] == ["v4", "v1"]
    assert run("blame", "number").startswith("v4")
    assert [line.split()[0] for line in run("log").splitlines()] == ["v4", "v3", "v2", "v1"]


def test_rules_are_remembered_until_others_are(run: Run) -> None:
    run("gc", "--keep-last", "3", "--keep-tagged", "--remember", "--dry-run")
    assert "Nothing to remove" in run("gc")
    run("gc", "--keep-last", "4", "--remember")
    run("gc", "--keep-last", "3", "--remember", "--yes")
    assert run("log").count("(forgotten)") == 1
    run("gc", "--keep-all", "--remember")
    assert "Would" not in run("gc", "--dry-run")
    run("gc", "--keep-all", "--keep-last", "1", status=2)
    run("gc", "--remember", status=2)


def test_gc_forgets_nothing_without_a_terminal_to_confirm(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert "no terminal to ask at" in run("gc", "--keep-last", "3", "--remember", status=2)
    # What was refused is not remembered.
    assert run("gc") == "Nothing to remove.\n"
    run("gc", "--keep-last", "4", "--remember")
    assert "forgotten" not in run("log")
    run("gc", "--keep-last", "3", "--remember", "--yes")
    run("gc", "--keep-last", "2", "--remember", "--dry-run")
    assert run("gc") == "Nothing to remove.\n"
    assert run("log").count("(forgotten)") == 1


def test_forget_asks_and_says_what_it_checked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert "no terminal to ask at" in run("forget", "v2", status=2)
    assert "forgotten" not in run("log")
    run("tag", "paper", "v2")
    assert "the tag paper names v2" in run("forget", "v2", "--yes", status=3)
    run("tag", "--protect", "paper")
    assert "protected" in run("forget", "v2", "--yes", "--with-tags", status=4)
    run("tag", "--unprotect", "paper")
    said = run("forget", "v2", "--yes", "--with-tags")
    assert "Forgot v2." in said
    assert "Tags that go too: paper." in said
    assert "each is needed by something that is left" in said
    assert "was forgotten on" in run("cat", "v2", "number", status=3)
    assert run("cat", "v3", "number") == "2"
    assert "newest version" in run("forget", "v4", "--yes", status=3)


def test_purge_says_what_went_and_what_it_checked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert "no terminal to ask at" in run("purge", "file", status=2)
    assert "Would take file out of 4 versions: 4 files" in run("purge", "file", "--dry-run")
    assert "file" in run("ls", "v2")
    said = run("purge", "file", "--yes")
    assert "Took file out of 4 versions" in said
    assert "4 commits have new ids" in said
    assert "each is needed by something that is left" in said
    assert "number" in run("ls", "v2")
    assert "file" not in run("ls", "v2")
    found = json.loads(run("purge", "number", "--yes", "--json"))
    assert (len(found["versions"]), found["files"], found["swept"]["objects_unneeded"]) == (4, 4, 0)
    assert "no version has nowhere" in run("purge", "nowhere", "--yes", status=3)


def test_du_and_stats_say_what_versions_cost(run: Run) -> None:
    said = run("du", "v2", "--cost")
    assert [line.split()[0] for line in said.splitlines()] == ["holds", "alone", "shared", "added"]
    found = json.loads(run("du", "v2", "--cost", "--json"))
    assert found["version"] == "v2"
    assert 100_000 <= found["alone_bytes"] <= found["held_bytes"] < 110_000
    assert found["held_bytes"] == found["alone_bytes"] + found["shared_bytes"]
    run("du", "v2", "number", "--cost", status=2)
    rows = run("stats", "--versions").splitlines()
    assert [row.split()[0] for row in rows[1:]] == ["v4", "v3", "v2", "v1"]
    assert [json.loads(line)["version"] for line in run("stats", "--versions", "--json").splitlines()] == [
        "v4",
        "v3",
        "v2",
        "v1",
    ]
