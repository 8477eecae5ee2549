"""Versions and paths are recognised whichever stands where; what is neither gets an error that says what was meant."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from support.commands import Run, commands_on
from support.lines import put
from vfs.cli.main import main
from vfs.repo.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "repo"


@pytest.fixture
def run(repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Three versions: `gone` is in the first only; `new` is not committed; `v2` is a file, `both` a file and a tag."""
    call = commands_on(repository, capsys, monkeypatch)
    write(repository, {b"labels.csv": b"one\n", b"images/a": b"1", b"gone": b"g\n", b"v2": b"file\n", b"both": b"b\n"})
    call("commit", "-m", "one")
    write(repository, {b"labels.csv": b"two\n", b"gone": None})
    call("commit", "-m", "two")
    write(repository, {b"labels.csv": b"three\n"})
    call("commit", "-m", "three")
    call("tag", "both", "v1")
    write(repository, {b"new": b"n\n", b"labels.csv": b"four\n"})
    return call


def write(repository: Path, files: dict[bytes, bytes | None]) -> None:
    with Repository.open(repository) as repo, repo.open_overlay("main") as overlay:
        for path, data in files.items():
            put(overlay, path, data)


@pytest.mark.parametrize(
    ("words", "content"),
    [
        (["labels.csv"], "three\n"),
        (["v1", "labels.csv"], "one\n"),
        (["labels.csv", "v1"], "one\n"),
        (["v1/labels.csv"], "one\n"),
        (["@v2/labels.csv"], "two\n"),
        (["latest~1", "labels.csv"], "two\n"),
        (["latest~2/gone"], "g\n"),
        (["./v2"], "file\n"),
        (["v1", "v2"], "file\n"),
        (["both", "both"], "b\n"),
    ],
)
def test_cat_takes_a_file_with_or_without_its_version(run: Run, words: list[str], content: str) -> None:
    assert run("cat", *words) == content


def test_diff_takes_versions_and_paths_in_any_number(run: Run) -> None:
    def differs(*words: str) -> list[str]:
        return run("diff", "--name-only", *words, status=1).split()

    assert differs() == ["labels.csv", "new"]
    assert differs("labels.csv") == ["labels.csv"]
    assert differs("new") == ["new"]
    assert differs("labels.csv", "new") == ["labels.csv", "new"]
    assert differs("v1", "labels.csv") == ["labels.csv"]
    assert differs("labels.csv", "v1", "v2") == ["labels.csv"]
    assert differs("v1", "gone") == ["gone"]
    assert differs("v1..", "gone") == ["gone"]
    assert differs("latest~2..latest~1") == ["gone", "labels.csv"]
    assert run("diff", "v1", "v2", "images", status=0) == ""


def test_log_takes_a_version_to_begin_with(run: Run) -> None:
    def versions(*words: str) -> list[str]:
        return [json.loads(line)["version"] for line in run("log", "--json", *words).splitlines()]

    assert versions() == ["v3", "v2", "v1"]
    assert versions("latest~1") == ["v2", "v1"]
    assert versions("v1") == ["v1"]
    assert versions("labels.csv") == ["v3", "v2", "v1"]
    assert versions("latest~1", "labels.csv") == ["v2", "v1"]
    assert versions("gone") == ["v2", "v1"]
    # A file of this name is there: log has always taken its word for a path.
    assert versions("v2") == ["v1"]
    assert run("log", "--graph", "v1").count("*") == 1


def test_the_other_commands_that_look_take_paths_alone(run: Run) -> None:
    assert json.loads(run("show", "labels.csv", "--json"))["path"] == "labels.csv"
    assert json.loads(run("show", "labels.csv", "v1", "--json"))["size"] == 4
    assert run("ls", "images") == run("ls", "v1/images") == run("ls", "v1", "images") == "a\n"
    assert run("du", "images").split()[-1] == "images"
    assert run("blame", "labels.csv").startswith("v3")
    assert run("blame", "v1", "labels.csv") == run("blame", "--at", "v1", "labels.csv")
    assert run("blame", "v1", "labels.csv").startswith("v1")


def test_restore_takes_paths_alone(run: Run) -> None:
    run("commit", "-m", "four")
    write_back = json.loads(run("restore", "--json", "v1", "gone"))
    assert (write_back["version"], write_back["restored"]) == ("v1", ["gone"])
    done = json.loads(run("restore", "--json", "--discard", "gone", "latest"))
    assert (done["version"], done["removed"]) == ("v4", ["gone"])
    assert json.loads(run("restore", "--json", "labels.csv"))["version"] == "v4"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "lables.csv"], "Did you mean labels.csv?"),
        (["diff", "images/b"], "no such path"),
        (["restore", "nothing"], "no version 'nothing'"),
        (["describe", "labels.csv", "-m", "x"], "'labels.csv' is a path here"),
        (["tag", "name", "labels.csv"], "'labels.csv' is a path here"),
        (["tag", "v1", "paper"], "`vfs tag paper v1`"),
        (["branch", "v1", "side"], "`vfs branch side v1`"),
        (["merge", "labels.csv"], "'labels.csv' is a path here"),
        (["forget", "labels.csv", "--yes"], "'labels.csv' is a path here"),
        (["purge", "v1", "--yes"], "`vfs forget v1`"),
        (["export", "out", "v1"], "`vfs export v1 out`"),
        (["switch", "v1"], "it is a version"),
        (["switch", "labels.csv"], "`vfs restore labels.csv`"),
        (["cat", "v1"], "Name a file of v1"),
        (["ls", "v1", "images", "labels.csv"], "1 PATH"),
        (["log", "nothing"], "no version has nothing"),
        (["diff", "..v1"], "no beginning"),
        (["ls", ".."], "leads out of the data's root"),
        (["diff", "../labels.csv"], "leads out of the data's root"),
        (["show", "v9"], "Versions go from v1 to v3"),
    ],
)
def test_what_was_meant_is_said(
    run: Run, repository: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    capsys.readouterr()
    assert main(["--repo", str(repository), *words]) in (2, 3)
    assert said in capsys.readouterr().err


def test_a_word_that_is_a_version_and_a_path_is_said_to_be_taken_for_the_version(
    run: Run, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["--repo", str(repository), "show", "both"]) == 0
    assert "both is taken as a version; ./both is the path" in capsys.readouterr().err
    assert main(["--repo", str(repository), "show", "v1"]) == 0
    assert capsys.readouterr().err == ""


def test_dates_without_a_zone_are_local(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = json.loads(run("show", "v1", "--json"))["time"]
    try:
        for zone in ("UTC", "XXX-13", "XXX+11"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            shown = next(line for line in run("show", "v1").splitlines() if line.startswith("time")).split(None, 1)[1]
            assert json.loads(run("show", "v1", "--json"))["time"] == made
            local = shown[: len("2026-11-01 12:00")]
            named = json.loads(run("show", local, "--json"))["version"]
            assert named in ("v1", "v2", "v3")
            assert json.loads(run("show", made, "--json"))["version"] == "v1"
            assert len(run("log", "--since", local).splitlines()) == 3
            run("show", f"{local}+23:00", status=3)
    finally:
        monkeypatch.undo()
        time.tzset()
