"""`commit PATH`, ignore rules and their options, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.commands import Run, commands_on
from support.trees import write_file
from vfs.repo.repository import Repository


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return commands_on(tmp_path / "repo", capsys, monkeypatch)


def write(tmp_path: Path, **files: str) -> None:
    with Repository.open(tmp_path / "repo") as repo, repo.open_overlay() as overlay:
        for name, text in files.items():
            write_file(overlay, name.replace("_", ".").encode(), text.encode())


def test_paths_are_committed_and_the_rest_is_not(run: Run, tmp_path: Path) -> None:
    write(tmp_path, a="1", b="2")
    assert run("commit", "a", "-m", "one").startswith("v1 ")
    assert run("ls", "latest").split() == ["a"]
    status = json.loads(run("status", "--json"))
    assert [change["path"] for change in status["changes"]] == ["b"]
    assert "nothing has been at c," in run("commit", "c", "-m", "x", status=3)
    run("commit", "a", "-m", "x", status=1)
    run("commit", "-m", "two")
    assert run("ls", "latest").split() == ["a", "b"]


def test_status_lists_ignored_paths_separately(run: Run, tmp_path: Path) -> None:
    write(tmp_path, _vfsignore="*.tmp\n", a="1", a_tmp="2", b_tmp="3")
    assert "Ignored: 2 names (`vfs status --ignored` lists them)" in run("status")
    run("commit", "-m", "one")
    assert run("status").splitlines()[-2:] == [
        "Nothing to commit.",
        "Ignored: 2 names (`vfs status --ignored` lists them)",
    ]
    assert run("status", "--ignored").splitlines()[-3:] == ["Ignored: 2 names", "  a.tmp", "  b.tmp"]
    listed = json.loads(run("status", "--json", "--ignored"))
    assert (listed["clean"], listed["ignored"], listed["ignored_paths"]) == (True, 2, ["a.tmp", "b.tmp"])
    run("commit", "-m", "two", status=1)
    source = tmp_path / "source"
    source.mkdir()
    assert "files that ignore rules name" in run("import", str(source), "-m", "x", status=4)
    run("commit", "-m", "all", "--no-vfsignore")
    assert run("ls", "latest").split() == [".vfsignore", "a", "a.tmp", "b.tmp"]


def test_patterns_are_excluded_and_wrong_ones_refused(run: Run, tmp_path: Path) -> None:
    write(tmp_path, a="1", b_tmp="2", c="3")
    assert "is no pattern" in run("commit", "-m", "x", "--exclude", "[", status=2)
    run("commit", "-m", "one", "--exclude", "c", "--exclude-defaults")
    assert run("ls", "latest").split() == ["a"]
    assert run("restore", "--discard", "latest")
    assert json.loads(run("status", "--json"))["clean"]


def test_an_import_says_what_went_and_can_go_below_a_path(run: Run, tmp_path: Path) -> None:
    source, other = tmp_path / "source", tmp_path / "other"
    source.mkdir()
    other.mkdir()
    for number in range(150):
        (source / str(number)).touch()
    (other / "f").touch()
    (other / "g.tmp").touch()
    run("import", str(source), "-m", "one")
    run("import", str(other), "--into", "sub/dir", "-m", "two", "--exclude", "*.tmp")
    assert run("ls", "latest", "sub/dir").split() == ["f"]
    done = json.loads(run("import", str(other), "-m", "three", "--json"))
    assert done["changes"] == {"added": 2, "modified": 0, "removed": 151}
    assert done["ignored"] == 0
