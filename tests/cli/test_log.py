"""`vfs log`: filters, paths, renames and the drawing of merges."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from support.commands import Run, commands_on
from vfs.model.ids import CommitId
from vfs.repo.repository import Repository
from vfs.store.object_writer import ObjectWriter
from vfs.store.refs.operation import Operation, RefChange


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Returns a function that runs a command in a repository with four versions of two authors."""
    call = commands_on(tmp_path / "repo", capsys, monkeypatch)
    data = tmp_path / "data"
    data.mkdir()
    for author, name, content, message in (
        ("ann@lab", "notes.txt", b"first", "first import"),
        ("bob@lab", "notes.txt", b"second", "Labels repaired"),
        ("ann@lab", "other", b"other", "another file"),
    ):
        monkeypatch.setenv("VFS_AUTHOR", author)
        (data / name).write_bytes(content)
        call("import", str(data), "-m", message)
    (data / "notes.txt").rename(data / "readme.txt")
    call("import", str(data), "-m", "notes are the readme")
    return call


def names(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()]


def test_authors_messages_and_times_choose_versions(run: Run) -> None:
    assert names(run("log", "--author", "BOB")) == ["v2"]
    assert names(run("log", "--grep", "label|first")) == ["v2", "v1"]
    assert names(run("log", "--grep", "^a")) == ["v3"]
    day = json.loads(run("log", "--json", "-n", "1"))["time"][:10]
    assert names(run("log", "--since", day, "--until", day, "-n", "3")) == ["v4", "v3", "v2"]
    assert run("log", "--since", "2999-01-01") == run("log", "--until", "2001-01-01") == ""
    run("log", "--since", "yesterday", status=2)
    run("log", "--grep", "(", status=2)


def test_a_path_shows_what_happened_to_it(run: Run) -> None:
    lines = run("log", "notes.txt").splitlines()
    assert [re.sub(r"  +", "  ", line).split("  ")[4:] for line in lines] == [
        ["D", "notes are the readme"],
        ["M", "6 B", "Labels repaired"],
        ["A", "5 B", "first import"],
    ]
    assert names(run("log", "readme.txt")) == ["v4"]
    followed = run("log", "--follow", "readme.txt")
    assert names(followed) == ["v4", "v2", "v1"]
    assert "(was notes.txt) notes are the readme" in followed
    last, *_ = [json.loads(line) for line in run("log", "--follow", "--json", "readme.txt").splitlines()]
    assert (last["path"], last["from"], last["change"], last["entry"]["size"]) == (
        "readme.txt",
        "notes.txt",
        "modified",
        6,
    )
    assert "was notes.txt" in run("log", "--follow", "--full", "readme.txt")


def test_a_version_is_shown_by_what_it_changed_since_the_last_one_that_is_left(run: Run) -> None:
    assert "Since v2: 1 added; " in run("show", "v3")
    run("forget", "--yes", "v2")
    assert "Since v1: 1 added, 1 modified" in run("show", "v3")
    assert names(run("log", "notes.txt")) == ["v4", "v3", "v1"]
    run("forget", "--yes", "v1")
    assert "Since" not in run("show", "v3")


def test_options_that_do_not_go_together_are_misuse(run: Run) -> None:
    for words in (["--all"], ["--graph", "--full"], ["--graph", "notes.txt"], ["--follow"]):
        run("log", *words, status=2)


def test_a_merge_is_one_version_and_its_history_is_drawn(run: Run, tmp_path: Path) -> None:
    with Repository.open(tmp_path / "repo") as repository, ObjectWriter(repository.store) as writer:
        newest = repository.resolve("latest")
        side = msgspec.structs.replace(
            newest.commit, number=3, parents=(repository.resolve("v2").id,), author="cat@lab", message="on the side"
        )
        side_id = writer.put_commit(side)
        parents = (newest.id, side_id)
        merge_id = writer.put_commit(
            msgspec.structs.replace(newest.commit, number=5, parents=parents, message="merge of the side")
        )
        writer.flush()
        move(repository, "branches/main", newest.id, merge_id)
        move(repository, "branches/side", b"", side_id)
    assert names(run("log")) == ["v5", "v4", "v3", "v2", "v1"]
    assert f"merges {side_id.hex()[:8]}" in run("log", "--full", "-n", "1")
    shape = [re.split(r"  [0-9a-f]{8}  ", line)[0].rstrip() for line in run("log", "--graph").splitlines()]
    assert shape == ["*    v5", "|\\", "* |  v4", "| *", "* |  v3", "|/", "*    v2", "*    v1"]
    assert [line[:4].rstrip() for line in run("log", "--graph", "-n", "2").splitlines()] == ["*", "|\\", "* |"]
    assert "(side) on the side" in run("log", "--graph")
    assert [line[:1] for line in run("log", "--graph", "--author", "cat").splitlines()] == ["*"]
    assert run("log", "--graph", "--all", "--branch", "side").count("*") == 6


def move(repository: Repository, ref: str, old: bytes, new: CommitId) -> None:
    with repository.write_lock():
        repository.refs.move(Operation(kind="merge", author="cat", refs=(RefChange(ref, old.hex(), new.hex()),)))
