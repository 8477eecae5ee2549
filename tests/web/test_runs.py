"""Runs in the page: the table of what differs, one run, two of them, curves and lineage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.page_client import TOKEN, Client, client_of
from vfs.api.views import viewed_repository
from vfs.api.views.runs import _POINTS_MAX, _series
from vfs.api.views.viewed_repository import ViewedRepository
from vfs.errors import Corrupt
from vfs.model.run_record import RunRecord, Source
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.repo.runs.records import MADE_BY, RunRef, begin_run, list_runs, load_record
from vfs.web.application import application
from vfs.web.rendering import chart

STEPS = 5000


def _record(repo: Repository, number: int) -> None:
    version = repo.resolve(f"v{number}")
    source = Source(branch="main", number=number, commit=version.id.hex(), known="pinned", opened=5, files=13)
    record = RunRecord(
        id=f"{number:016x}",
        number=1,
        status="ok",
        exit_status=0,
        command=("python", "train.py", f"--lr={number / 10}", "<b>bold</b>"),
        start_ns=10**18,
        end_ns=10**18 + 5 * 10**9,
        sources=(source,),
        params={"lr": str(number / 10), "seed": "7"},
        metrics={"accuracy": 0.8 + number / 100, "epochs": 3.0},
    )
    lines = [{"step": step, "loss": (step * 7919 % 100) / 100} for step in range(STEPS)]
    lines[1234]["loss"] = 50.0
    metrics = "".join(json.dumps(line) + "\n" for line in lines).encode()
    begin_run(repo, record, {b"metrics.jsonl": metrics, b"stdout": b"trained <i>well</i>\n"}, before=None, author="ann")


@pytest.fixture(scope="module")
def runs(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A repository with two runs."""
    path = tmp_path_factory.mktemp("runs") / "repo"
    shutil.copytree(scene, path)
    with Repository.open(path) as repo:
        for number in (1, 2):
            _record(repo, number)
    with client_of(path) as client:
        yield client


def test_the_table_shows_what_differs_and_orders_by_it(runs: Client) -> None:
    found = runs.get("/runs.json").json
    assert [row["name"] for row in found["runs"]] == ["r2", "r1"]
    assert found["columns"] == ["accuracy", "param lr"]
    assert found["constant"] == {"epochs": 3.0, "param seed": "7"}
    assert [row["name"] for row in runs.get("/runs.json?order=accuracy").json["runs"]] == ["r1", "r2"]
    assert [row["name"] for row in runs.get("/runs.json?order=-param%20lr").json["runs"]] == ["r2", "r1"]
    assert [row["name"] for row in runs.get("/runs.json?q=lr=0.1").json["runs"]] == ["r1"]
    assert "<b>bold" not in runs.get("/runs").text


def test_a_run_has_curves_that_keep_their_peaks_when_thinned(runs: Client) -> None:
    found = runs.get("/run.json?name=r1").json
    (curve,) = found["curves"]
    assert (curve["metric"], curve["values"]) == ("loss", STEPS)
    assert len(curve["points"]) <= _POINTS_MAX
    assert [1234, 50.0] in curve["points"]
    assert runs.get("/run.json?name=r1").json == found
    page = runs.get("/run?name=r1").text
    assert "<polyline" in page
    assert "<i>well" not in page
    assert runs.get("/run.html?name=r1").text.count("<polyline") == 1
    runs.get("/run?name=r99", 404)


def test_values_that_are_no_numbers_are_left_out_of_a_curve() -> None:
    lines = b'{"step": 1, "loss": 3}\n{"step": 2, "loss": NaN, "lr": 1}\nbroken\n[1]\n{"step": 4, "loss": 2.5}\n'
    assert _series(lines) == {"loss": [(1.0, 3.0), (4.0, 2.5)], "lr": [(2.0, 1.0)]}


def test_two_runs_say_what_differs_with_the_data_one_link_away(runs: Client) -> None:
    found = runs.get("/rundiff.json?a=r1&b=r2").json
    assert found["difference"]["data"]["same"] is False
    assert [change["name"] for change in found["difference"]["params"]] == ["lr"]
    assert len(found["curves"]) == 2
    page = runs.get("/rundiff?a=r1&b=r2").text
    old, new = found["data_links"]
    assert f"/compare?a={old}&amp;b={new}" in page
    assert runs.get(f"/compare.json?a={old}&b={new}").json["count"]["added"] == 120


def test_lineage_goes_both_ways(runs: Client) -> None:
    version = runs.get("/lineage.json?of=v2").json
    assert [node["title"] for node in version["results"]] == ["r2"]
    assert version["sources"][0]["title"].startswith("v1 ")
    run = runs.get("/run.json?name=r2").json["neighbours"]
    assert [node["title"] for node in run["sources"]] == ["v2"]
    assert runs.get("/lineage?of=v2").text.count('class="node run"') == 1


def test_a_record_is_read_once_and_a_damaged_one_hides_no_other(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "repo"
    shutil.copytree(scene, path)
    read: list[int] = []

    def load(repo: Repository, run: RunRef) -> RunRecord:
        read.append(run.number)
        if run.number == 1:
            raise Corrupt("damaged")
        return load_record(repo, run)

    monkeypatch.setattr(viewed_repository, "load_record", load)
    with ViewedRepository.open(path) as opened:
        for number in (1, 2):
            _record(opened.repository, number)
        client = Client(application(opened, TOKEN))
        for address in ("/runs.json", "/runs.json?order=accuracy", "/runs.json?q=lr"):
            assert [row["name"] for row in client.get(address).json["runs"]] == ["r2"]
        assert len(client.get("/lineage.json?of=v2").json["results"]) == 1
        assert read.count(2) == 1
        _record(opened.repository, 1)
        assert [row["name"] for row in client.get("/runs.json?order=-accuracy").json["runs"]] == ["r2", "r3"]


def test_without_runs_the_page_says_how_to_record_one(client: Client) -> None:
    assert "No runs" in client.get("/runs").text
    assert client.get("/runs.json").json["runs"] == []
    assert client.get("/lineage.json?of=v1").json["results"] == []


def test_a_version_names_what_made_it_as_the_list_of_runs_does(scene: Path, tmp_path: Path) -> None:
    path = tmp_path / "repo"
    shutil.copytree(scene, path)
    with ViewedRepository.open(path) as opened:
        _record(opened.repository, 1)
        (run,) = list_runs(opened.repository)
        with opened.repository.open_overlay() as overlay:
            commit(opened.repository, overlay, "made", "ann", meta=((MADE_BY, run.ref),), allow_empty=True)
        client = Client(application(opened, TOKEN))
        (newest, *_) = client.get("/history.json").json["versions"]
        assert newest["meta"] == {"by": "r1"}


def test_a_curve_that_never_changes_has_its_own_number_alone_beside_it() -> None:
    drawn = chart([{"run": "r1", "metric": "loss", "values": 2, "points": [(0.0, 0.0), (1.0, 0.0)]}], 560, 200)
    assert drawn["rows"] == [(110.0, "0")]
    assert drawn["lines"][0]["points"] == "65.0,110.0 625.0,110.0"


def test_an_axis_ends_with_the_numbers_of_its_curve() -> None:
    drawn = chart([{"run": "r1", "metric": "x", "values": 2, "points": [(0.0, -1.7e308), (1.0, 1.7e308)]}], 560, 200)
    assert [label for _, label in drawn["rows"]] == ["1.7e+308", "8.5e+307", "0", "-8.5e+307", "-1.7e+308"]
    assert drawn["lines"][0]["points"] == "65.0,210.0 625.0,10.0"
