"""`vfs lineage`: what its arguments name, and its three forms of output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.commands import Run, commands_on
from support.recorded_runs import AUTHOR, RunMaker, write_file
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.repo.runs.run_event_file import Event

MODEL = b"model\n" * 100


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs commands on a repository with a raw file, and a model that r1 made of it."""
    made = commands_on(tmp_path / "repo", capsys, monkeypatch)
    with Repository.open(tmp_path / "repo") as repo, repo.open_overlay() as overlay:
        fill(repo, overlay)
    return made


def fill(repo: Repository, overlay: Overlay) -> None:
    """Records a run between two commits, and one that reads its model."""
    maker = RunMaker(repo, overlay)
    write_file(overlay, b"raw.csv", b"1,2\n" * 100)
    commit(repo, overlay, "raw", AUTHOR)
    maker.record("train --lr 1", Event("read", b"raw.csv"), writes={b"model.pt": MODEL}, metrics={"acc": 0.5})
    commit(repo, overlay, "model", AUTHOR)
    maker.record('evaluate "quoted"', Event("read", b"model.pt"))


def test_a_tree_leads_to_the_first_inputs(run: Run) -> None:
    lines = run("lineage", "model.pt").splitlines()
    assert lines[0].startswith("model.pt ")
    assert lines[1] == "└─ r1  train --lr 1  acc 0.5"
    assert lines[2].startswith("   └─ main@v1 ")
    assert lines[2].endswith('"raw"  1 of 1 file opened, exact')


@pytest.mark.parametrize("words", [["raw.csv"], ["raw.csv@v1"], ["v1", "raw.csv"], ["v1/raw.csv"]])
def test_uses_of_a_path_by_its_version_or_without(run: Run, words: list[str]) -> None:
    found = run("lineage", "--used-by", *words)
    assert "in v1 to v2\n" in found
    assert "r1  train --lr 1  acc 0.5  opened raw.csv" in found
    assert "wrote model.pt (600 B)" in found
    assert "opened model.pt" in found


def test_a_file_anywhere_is_found_by_content(run: Run, tmp_path: Path) -> None:
    (tmp_path / "renamed.onnx").write_bytes(MODEL)
    assert "r1  train --lr 1  acc 0.5  wrote it as model.pt" in run("lineage", str(tmp_path / "renamed.onnx"))
    (tmp_path / "other").write_bytes(b"unknown")
    assert run("lineage", str(tmp_path / "other")).count("\n") == 1
    (tmp_path / "empty").touch()
    assert run("lineage", str(tmp_path / "empty")).count("\n") == 1


def test_json_and_dot_have_the_same_graph(run: Run) -> None:
    document = json.loads(run("lineage", "r2", "--json"))
    names = {node["id"]: node["name"] for node in document["nodes"]}
    assert [(names[edge["later"]], edge["relation"], names[edge["earlier"]]) for edge in document["edges"]] == [
        ("r2", "read", "main@v2"),
        ("main@v2", "written-by", "r1"),
        ("r1", "read", "main@v1"),
    ]
    dot = run("lineage", "r2", "--dot")
    assert dot.count("->") == 3
    assert 'label="r2  evaluate \'\\"quoted\\"\'"' in dot


def test_an_erased_file_is_asked_for_by_its_name(run: Run) -> None:
    run("purge", "raw.csv", "--yes")
    assert "No recorded run" not in run("lineage", "--used-by", "raw.csv")
    assert "there is no version" in run("lineage", "raw.csv", status=3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["r9"], "there is no version 'r9'"),
        (["nothing"], "has no such path"),
        (["/"], "is a directory"),
        (["v1", "v2", "v3"], "Name one"),
        (["v1", "--dot", "--json"], "choose one"),
        (["/dev/null"], "no regular file"),
    ],
)
def test_what_names_nothing_is_refused_with_a_reason(run: Run, words: list[str], message: str) -> None:
    assert message in run("lineage", *words, status=3 if words[0] in ("r9", "nothing") else 2)
