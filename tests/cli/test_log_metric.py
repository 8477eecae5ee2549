"""`vfs log --metric`: versions beside what runs on them came to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.commands import Run, commands_on
from support.recorded_runs import AUTHOR, RunMaker, write_file
from vfs.model.run_record import Metric
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.repo.runs.records import MADE_BY
from vfs.repo.runs.run_event_file import Event


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Three versions that runs read, one with a metric of its own, one made by a run, and one without any."""
    made = commands_on(tmp_path / "repo", capsys, monkeypatch)
    with Repository.open(tmp_path / "repo") as repo, repo.open_overlay() as overlay:
        maker = RunMaker(repo, overlay)
        recorded: list[list[Metric]] = [[0.5], [0.9, 0.93], ["nan"]]
        for number, values in enumerate(recorded):
            write_file(overlay, b"data", b"%d" % number * 900)
            commit(repo, overlay, f"data {number}", AUTHOR)
            for value in values:
                maker.record("train", Event("read", b"data"), metrics={"acc": value, "other": 1})
        write_file(overlay, b"data", b"x" * 900)
        commit(repo, overlay, "measured elsewhere", AUTHOR, meta=(("acc", "0.7"),))
        run = maker.record("train", writes={b"model": b"m" * 900}, metrics={"acc": 0.6})
        commit(repo, overlay, "a model", AUTHOR, meta=((MADE_BY, run.ref),))
        write_file(overlay, b"data", b"y" * 900)
        commit(repo, overlay, "unknown", AUTHOR)
    return made


def test_versions_are_compared_with_a_plot(run: Run) -> None:
    rows = [line.split() for line in run("log", "--metric", "acc").splitlines()]
    assert [row[:2] for row in rows] == [
        ["v6", "unknown"],
        ["v5", "0.6"],
        ["v4", "0.7"],
        ["v3", "nan"],
        ["v2", "0.93"],
        ["v1", "0.5"],
    ]
    text = run("log", "--metric", "acc")
    assert "(0.9 to 0.93 of 2)" in text
    assert "by r5" in text
    assert "meta" in text
    plots = [next((len(word) for word in row if word.endswith("●")), 0) for row in rows]
    assert plots == [0, 6, 12, 0, 24, 1]


def test_json_has_the_metric_of_each_version(run: Run) -> None:
    found = [json.loads(line)["metric"] for line in run("log", "--metric", "acc", "--json", "-n", "5").splitlines()]
    assert found[0] is None
    assert [(metric["value"], metric["how"], metric["runs"]) for metric in found[1:]] == [
        (0.6, "by", ["r5"]),
        (0.7, "meta", []),
        (None, "read", ["r4"]),
        (0.93, "read", ["r3", "r2"]),
    ]


def test_an_unknown_metric_is_said_and_options_that_do_not_fit_are_refused(run: Run) -> None:
    assert run("log", "--metric", "nothing").count("v") >= 6
    for option in ("--graph", "--full"):
        assert "leave --graph" in run("log", "--metric", "acc", option, status=2)
