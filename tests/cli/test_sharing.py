"""Two people share a repository with commands: clone, change, diverge, pull, push."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.object_server import object_server
from vfs.cli.main import main
from vfs.repo.repository import Repository
from vfs.repo.transfer.pull import advance


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def _import(capsys: pytest.CaptureFixture[str], repo: Path, files: dict[str, bytes]) -> None:
    source = repo.with_name(f"{repo.name}-files")
    source.mkdir(exist_ok=True)
    for name, data in files.items():
        (source / name).write_bytes(data)
    _run(capsys, "-R", str(repo), "import", str(source), "-m", "files")


@pytest.mark.parametrize("kind", ["directory", "object storage"])
def test_two_people_share_a_repository(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ana, ben = tmp_path / "ana", tmp_path / "ben"
    place, options = str(tmp_path / "place"), []
    if kind == "object storage":
        location = object_server().location()
        place, options = location.url, ["--endpoint", location.endpoint]
    _run(capsys, "init", str(ana))
    _import(capsys, ana, {"a": b"a" * 10_000, "b": bytes(range(256)) * 500})
    added = _run(capsys, "-R", str(ana), "remote", "add", "origin", place, *options)
    assert "Conditional writes: yes (tested with 16 racing writers)" in added
    assert "main: v1" in _run(capsys, "-R", str(ana), "push")
    assert _run(capsys, "-R", str(ana), "push") == "origin has everything already.\n"

    cloned = json.loads(_run(capsys, "clone", place, str(ben), *options, "--json"))
    assert (cloned["version"], cloned["branch"]) == (1, "main")
    assert cloned["bytes_elsewhere"] > 0
    assert _run(capsys, "-R", str(ben), "ls", "v1").split() == ["a", "b"]
    _run(capsys, "-R", str(ben), "export", "v1", str(tmp_path / "out"))
    assert (tmp_path / "out" / "b").read_bytes() == bytes(range(256)) * 500

    _import(capsys, ana, {"c": b"from ana"})
    _run(capsys, "-R", str(ana), "push")
    _import(capsys, ben, {"a": b"a" * 10_000, "b": bytes(range(256)) * 500, "d": b"from ben"})
    capsys.readouterr()
    assert main(["-R", str(ben), "push"]) == 4
    refused = capsys.readouterr().err
    assert "origin has v2" in refused
    assert "`vfs pull`" in refused
    assert "your v2 is merged behind the remote's" in _run(capsys, "-R", str(ben), "pull")
    assert _run(capsys, "-R", str(ben), "ls", "latest").split() == ["a", "b", "c", "d"]
    pushed = json.loads(_run(capsys, "-R", str(ben), "push", "--json"))
    assert pushed["refs"][0]["version"] == 3
    assert "origin/main: as here" in _run(capsys, "-R", str(ben), "status")
    assert "origin/main: lacks" not in _run(capsys, "-R", str(ana), "status")
    assert "origin/main as here" in _run(capsys, "-R", str(ben), "branch", "-v")
    _run(capsys, "-R", str(ana), "fetch")
    assert "origin/main has 2 versions more" in _run(capsys, "-R", str(ana), "branch", "-v")
    assert json.loads(_run(capsys, "-R", str(ana), "branch", "-v", "--json"))["remotes"] == [
        {"name": "origin/main", "ahead": 0, "behind": 2}
    ]
    there = json.loads(_run(capsys, "-R", str(ana), "branch", "-r", "--json"))
    assert (there["branch"], there["version"]) == ("origin/main", "v3")
    assert "main: v3" in _run(capsys, "-R", str(ana), "pull")
    assert json.loads(_run(capsys, "-R", str(ana), "status", "--json"))["remotes"] == [
        {"name": "origin/main", "ahead": 0, "behind": 0}
    ]
    assert _run(capsys, "-R", str(ana), "log", "origin/main") == _run(capsys, "-R", str(ana), "log")
    assert _run(capsys, "-R", str(ana), "log") == _run(capsys, "-R", str(ben), "log")
    shown = json.loads(_run(capsys, "-R", str(ana), "remote", "show", "origin", "--json"))
    assert shown["pushes"] == 3
    assert "Would retire" in _run(capsys, "-R", str(ana), "gc", "--remote", "origin", "--dry-run")
    swept = json.loads(_run(capsys, "-R", str(ana), "gc", "--remote", "origin", "--grace", "0", "--json"))
    assert swept["removed"] > 0
    assert "All is well" in _run(capsys, "-R", str(ben), "fsck", "--remote", "origin", "--read-data")
    assert _run(capsys, "-R", str(ana), "fsck")
    assert _run(capsys, "-R", str(ben), "fsck")


def test_a_pull_that_was_cut_off_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ana, ben, place = tmp_path / "ana", tmp_path / "ben", str(tmp_path / "place")
    _run(capsys, "init", str(ana))
    _import(capsys, ana, {"a": b"1"})
    _run(capsys, "-R", str(ana), "remote", "add", "origin", place)
    _run(capsys, "-R", str(ana), "push")
    _run(capsys, "clone", place, str(ben))
    _import(capsys, ana, {"a": b"1", "b": b"2"})
    _import(capsys, ben, {"a": b"1", "c": b"3"})
    _run(capsys, "-R", str(ana), "push")
    _run(capsys, "-R", str(ben), "fetch")
    with Repository.open(ben) as repo, repo.open_overlay() as overlay:
        advance(repo, overlay, repo.resolve("origin/main"), "ben")
    assert "A pull was interrupted: your v2" in _run(capsys, "-R", str(ben), "status")
    _run(capsys, "-R", str(ben), "pull")
    assert "interrupted" not in _run(capsys, "-R", str(ben), "status")
    assert _run(capsys, "-R", str(ben), "ls", "latest").split() == ["a", "b", "c"]


def test_runs_and_branches_come_and_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ana, ben, place = tmp_path / "ana", tmp_path / "ben", str(tmp_path / "place")
    _run(capsys, "init", str(ana))
    _import(capsys, ana, {"a": b"1"})
    _run(capsys, "-R", str(ana), "remote", "add", "origin", place)
    assert "runs:" not in _run(capsys, "-R", str(ana), "push")
    _run(capsys, "clone", place, str(ben))
    for repo, metric in ((ana, "0.75"), (ben, "0.5")):
        script = f"echo '{{\"accuracy\": {metric}}}' >> $VFS_METRICS"
        assert main(["-R", str(repo), "run", "--", "sh", "-c", script]) == 0
    assert main(["-R", str(ana), "run", "--private", "--", "true"]) == 0
    _run(capsys, "-R", str(ben), "branch", "team-x")
    assert "runs: 1 new" in _run(capsys, "-R", str(ana), "push")
    assert "runs: 1 new" in _run(capsys, "-R", str(ben), "push", "team-x")
    assert "runs: 1 new" in _run(capsys, "-R", str(ana), "fetch")
    table = _run(capsys, "-R", str(ana), "runs").splitlines()
    assert [line.split()[0][:3] for line in table] == ["r2", "r1-", "r1-"]
    shown = [json.loads(line) for line in _run(capsys, "-R", str(ana), "runs", "--json").splitlines()]
    assert sorted(run["record"].get("metrics", {}).get("accuracy", 0) for run in shown) == [0, 0.5, 0.75]
    _run(capsys, "-R", str(ana), "runs", "remove", table[1].split()[0])
    assert "runs: 1 removed" in _run(capsys, "-R", str(ana), "push")
    there = _run(capsys, "-R", str(ana), "remote", "show", "origin")
    assert "  1 run\n" in there
    assert "team-x" in there
    assert main(["-R", str(ana), "push", "--delete", "main", "--remote", "origin"]) == 0
    capsys.readouterr()
    assert main(["-R", str(ana), "push", "--delete", "main"]) == 3
    assert "no branch 'main'" in capsys.readouterr().err
    there = _run(capsys, "-R", str(ana), "remote", "show", "origin")
    assert "main removed" in there
    assert "\n  main" not in there
    assert "origin/main: removed there" in _run(capsys, "-R", str(ben), "fetch")


def test_with_two_remotes_each_command_says_or_is_told_which_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ana = tmp_path / "ana"
    _run(capsys, "init", str(ana))
    _import(capsys, ana, {"a": b"a" * 10_000})
    for name in ("disk", "lab"):
        _run(capsys, "-R", str(ana), "remote", "add", name, str(tmp_path / name))
    for command in ("push", "pull", "fetch"):
        capsys.readouterr()
        assert main(["-R", str(ana), command]) == 2
        told = capsys.readouterr().err
        assert "there are several remotes: disk, lab" in told
        assert "`vfs push NAME`" in told
    assert "main: v1" in _run(capsys, "-R", str(ana), "push", "lab")
    assert _run(capsys, "-R", str(ana), "push", "lab", "main") == "lab has everything already.\n"
    assert "-> disk" in _run(capsys, "-R", str(ana), "push", "disk", "main")
    # A branch of that name: the option says that the remote is meant.
    _run(capsys, "-R", str(ana), "branch", "disk")
    assert main(["-R", str(ana), "push", "disk"]) == 2
    assert "disk: v1" in _run(capsys, "-R", str(ana), "push", "--remote", "disk", "disk")
    assert main(["-R", str(ana), "push", "--delete", "lab"]) == 2


def test_credentials_are_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repo = tmp_path / "repo"
    location = object_server().location()
    _run(capsys, "init", str(repo))
    _run(
        capsys,
        "-R",
        str(repo),
        "remote",
        "add",
        "origin",
        location.url,
        "--endpoint",
        location.endpoint,
        "--single-writer",
    )
    kept = b"".join(path.read_bytes() for path in repo.rglob("*") if path.is_file())
    assert b"secret-of-tests" not in kept
    assert b"access-of-tests" not in kept


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["remote", "add", "origin"], "takes a NAME and a URL"),
        (["remote", "show"], "Name the remote"),
        (["remote", "list", "x"], "takes no NAME"),
        (["push", "--limit-upload", "fast"], "is no rate"),
        (["push", "--delete"], "--delete takes branches"),
        (["push", "--force", "main"], "--force belongs to"),
        (["push"], "has no remote"),
        (["fetch", "nowhere"], "no remote 'nowhere'"),
        (["remote", "add", "o", "ftp:" + "//x"], "no address"),
    ],
)
def test_misuse_is_told(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(capsys, "init", str(tmp_path / "repo"))
    assert main(["-R", str(tmp_path / "repo"), *words]) in (2, 3)
    assert said in capsys.readouterr().err
