"""`vfs branch`, `vfs switch` and `--branch` on an unmounted repository."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vfs.cli.main import main
from vfs.cli.opening.locate import branch_in
from vfs.control.mount_points import MountPoint, parse_mounts
from vfs.fuse.session.mountpoint import source_of

Run = Callable[..., str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "f").write_bytes(b"1")
    return directory


@pytest.fixture
def run(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Returns a function that runs a command in a repository with one version and gives what it said."""
    monkeypatch.setenv("VFS_AUTHOR", "ann@lab")
    monkeypatch.delenv("VFS_REPO", raising=False)
    repository = tmp_path / "repo"

    def call(*words: str, status: int = 0) -> str:
        found = main(["--repo", str(repository), *words])
        captured = capsys.readouterr()
        assert found == status, captured.err
        return captured.out if not status else captured.err

    assert main(["init", str(repository)]) == 0
    capsys.readouterr()
    call("import", str(data), "-m", "first")
    return call


def branches(run: Run) -> dict[str, dict[str, object]]:
    return {line["branch"]: line for line in map(json.loads, run("branch", "--json").splitlines())}


def test_branches_are_made_switched_to_and_listed(run: Run) -> None:
    assert run("branch", "side").startswith("side begins at v1 ")
    assert run("switch", "side").startswith("The current branch is side: v1 ")
    assert run("switch", "side").startswith("Already on side")
    found = branches(run)
    assert {name: (line["version"], line["current"]) for name, line in found.items()} == {
        "main": ("v1", False),
        "side": ("v1", True),
    }
    assert [line.split()[:2] for line in run("branch").splitlines()] == [["main", "v1"], ["*", "side"]]


def test_commands_work_on_the_current_branch_and_on_the_one_that_is_named(run: Run, data: Path) -> None:
    run("branch", "side")
    (data / "f").write_bytes(b"2")
    assert run("import", str(data), "-m", "second", "--branch", "side").startswith("v2 ")
    assert run("cat", "latest", "f") == "1"
    assert run("cat", "--branch", "side", "latest", "f") == run("cat", "side", "f") == "2"
    assert len(run("log").splitlines()) == 1
    assert len(run("log", "-b", "side").splitlines()) == 2
    run("switch", "side")
    assert len(run("log").splitlines()) == 2
    assert run("cat", "v2", "f") == "2"
    assert run("restore", "v1") != ""
    assert json.loads(run("status", "--json"))["branch"] == "side"
    assert json.loads(run("status", "--json", "--branch", "main"))["clean"] is True
    assert run("commit", "-m", "back").startswith("v3 ")
    assert branches(run)["main"]["version"] == "v1"


def test_an_unknown_branch_is_an_error_that_says_what_to_do(run: Run, tmp_path: Path) -> None:
    for words in (["log", "--branch", "none"], ["switch", "none"], ["commit", "-m", "x", "-b", "none"]):
        assert "`vfs branch NAME` makes one" in run(*words, status=3)
    assert not (tmp_path / "repo" / "work" / "none").exists()


def test_protection_is_set_shown_and_ended(run: Run, data: Path) -> None:
    run("branch", "--protect", "main")
    assert branches(run)["main"]["protected"] is True
    (data / "f").write_bytes(b"2")
    assert "--unprotect main" in run("import", str(data), "-m", "second", status=4)
    assert run("branch", "--unprotect", "main") == "The branch main is not protected.\n"
    assert run("branch", "--unprotect", "main") == "The branch main was not protected already.\n"
    assert run("import", str(data), "-m", "second").startswith("v2 ")
    run("tag", "paper", "v1")
    run("tag", "--protect", "paper")
    assert json.loads(run("tag", "--json"))["protected"] is True
    assert "--unprotect paper" in run("tag", "--force", "paper", "v2", status=4)
    assert "--unprotect paper" in run("tag", "--delete", "paper", status=4)


def test_a_branch_is_removed_and_renamed(run: Run, data: Path) -> None:
    run("branch", "side")
    assert run("branch", "--rename", "side", "labels") == "The branch side is labels now.\n"
    (data / "f").write_bytes(b"2")
    run("import", str(data), "-m", "second", "-b", "labels")
    assert "1 version" in run("branch", "--delete", "labels", status=4)
    assert run("branch", "--delete", "--force", "labels").startswith("Removed the branch labels")
    assert set(branches(run)) == {"main"}


@pytest.mark.parametrize(
    "words",
    [
        ["branch", "--delete"],
        ["branch", "--rename", "main"],
        ["branch", "--protect", "main", "v1"],
        ["branch", "--force", "x"],
        ["branch", "v1"],
    ],
)
def test_words_that_do_not_go_together_are_misuse(run: Run, words: list[str]) -> None:
    run(*words, status=2)


def test_the_branch_is_found_from_the_place_in_a_mount() -> None:
    mount = MountPoint(Path("/mnt"), Path("/repo"))
    stays = MountPoint(Path("/mnt"), Path("/repo"), branch="side")
    assert branch_in(mount, Path("/mnt/a/b")) is None
    assert branch_in(mount, Path("/mnt/@/branches")) is None
    assert branch_in(mount, Path("/mnt/@/branches/x/a")) == branch_in(stays, Path("/mnt/@/branches/x")) == "x"
    assert branch_in(stays, Path("/mnt/a")) == "side"


def test_a_mount_names_its_repository_and_the_branch_that_stays() -> None:
    for repository, branch in (("/srv/a b", None), ("/srv/a#b", "ü"), ("/srv/%", "x#y")):
        source = source_of(Path(repository), branch)
        line = f"1 1 0:1 / /mnt rw,nosuid - fuse.vfs {source} rw\n"
        assert parse_mounts(os.fsencode(line)) == [
            MountPoint(Path("/mnt"), Path(repository), branch=branch, device="0:1")
        ]
