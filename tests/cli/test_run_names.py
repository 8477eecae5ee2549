"""Where runs of two machines have one number, each is named with digits of its id wherever a run is named."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from support.commands import Run, commands_on
from support.recorded_runs import AUTHOR, RunMaker, write_file
from vfs.model.run_record import Manifest
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.repo.runs.records import find_run, load_record, put_run
from vfs.repo.runs.run_event_file import Event
from vfs.store.object_writer import ObjectWriter
from vfs.store.refs.operation import RUN, RUNS, Operation, RefChange

THERE = "1-" + "b" * 16
"""The run of another machine."""
OURS, THEIRS = "r1-0000", "r1-bbbb"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A repository whose second version two runs made, one of each machine."""
    made = commands_on(tmp_path / "repo", capsys, monkeypatch)
    with Repository.open(tmp_path / "repo") as repo, repo.open_overlay() as overlay:
        maker = RunMaker(repo, overlay)
        write_file(overlay, b"raw", b"1,2\n" * 100)
        commit(repo, overlay, "raw", AUTHOR)
        ours = maker.record("train", Event("read", b"raw"), writes={b"model": b"m" * 900}, metrics={"acc": 0.5})
        record = msgspec.structs.replace(load_record(repo, ours), id=THERE.partition("-")[2])
        with ObjectWriter(repo.store) as writer:
            there = put_run(repo, writer, record, {}, Manifest(), {}, (), "ben@lab").id
            writer.flush()
        commit(repo, overlay, "model", AUTHOR, meta=(("vfs.by", THERE),))
        repo.refs.move(Operation(kind=RUN, refs=(RefChange(RUNS + THERE, "", there.hex()),)))
    return made


@pytest.mark.parametrize("words", [["log"], ["log", "--full"], ["show"], ["diff", "v1", "v2"]])
def test_a_version_names_what_made_it(run: Run, words: list[str]) -> None:
    text = run(*words, status=1 if words[0] == "diff" else 0)
    assert THEIRS in text
    assert OURS in text


def test_a_run_is_named_as_the_list_does(run: Run) -> None:
    rows = [line.split()[0] for line in run("runs").splitlines()]
    assert sorted(rows) == [OURS, THEIRS]
    for name in rows:
        assert run("runs", "show", name).startswith(f"{name} ok")
        assert json.loads(run("runs", "show", name, "--json"))["name"] == name
        assert run("lineage", name).startswith(f"{name}  train")
        assert json.loads(run("lineage", "--json", name))["nodes"][0]["name"] == name
    assert json.loads(run("runs", "diff", *rows, "--json"))["old"] == rows[0]


def test_a_metric_names_its_run(run: Run) -> None:
    assert OURS in run("log", "--metric", "acc") or THEIRS in run("log", "--metric", "acc")


def test_what_is_removed_is_named(run: Run) -> None:
    assert f"Removed {THEIRS}." in run("runs", "remove", THEIRS)
    # The other one is alone with its number now; versions go on naming both.
    assert run("runs").startswith("r1 ")
    assert f"by r1, {THEIRS}" in run("log", "-n", "1") or f"by {THEIRS}, r1" in run("log", "-n", "1")


def test_a_metric_of_another_machine_controls_no_terminal(run: Run, tmp_path: Path) -> None:
    with Repository.open(tmp_path / "repo") as repo:
        record = msgspec.structs.replace(load_record(repo, find_run(repo, OURS)), id="c" * 16, label="")
        record = msgspec.structs.replace(record, metrics={"acc": "\x1b[2J", "\x1b[2K": 1.0})
        with ObjectWriter(repo.store) as writer:
            made = put_run(repo, writer, record, {}, Manifest(), {}, (), "ben@lab").id
            writer.flush()
        repo.refs.move(Operation(kind=RUN, refs=(RefChange(f"{RUNS}1-{'c' * 16}", "", made.hex()),)))
    for words in (
        ["runs"],
        ["runs", "--metric", "acc"],
        ["runs", "show", "r1-cccc"],
        ["runs", "diff", OURS, "r1-cccc"],
    ):
        assert "\x1b[2" not in run(*words)
