"""Tables over the records of runs: which run opened which path, kept up to date when a record is sealed."""

from __future__ import annotations

import random

import pytest

from support.recorded_runs import AUTHOR, RunMaker, write_file
from support.repositories import Repositories
from vfs.model.run_record import RunRecord
from vfs.repo.commit import commit
from vfs.repo.paths import run_tables
from vfs.repo.repository import Repository
from vfs.repo.runs import run_tables as tables_module
from vfs.repo.runs import sealing as sealing_module
from vfs.repo.runs.records import RunRef, begin_run, load_record
from vfs.repo.runs.run_event_file import Event
from vfs.repo.runs.run_tables import RunTables, listed_records
from vfs.repo.runs.sealing import seal_abandoned
from vfs.store.lmdb_tables import Tables, discard


@pytest.fixture
def runs(repositories: Repositories, repo: Repository) -> RunMaker:
    """A version with five files: a run that opens so many has opened all."""
    maker = RunMaker(repo, repositories.overlay(repo))
    for path in (b"raw", b"1", b"2", b"3", b"4"):
        write_file(maker.overlay, path, b"r" * 500)
    commit(repo, maker.overlay, "raw", AUTHOR)
    return maker


def read_by_open(repo: Repository) -> int:
    """Returns how many records were read when the tables were opened."""
    read = 0

    def count(done: int, _total: int) -> None:
        nonlocal read
        read = done

    RunTables.open(repo, count).close()
    return read


def test_a_sealed_record_is_not_read_again_for_a_question(runs: RunMaker) -> None:
    for number in range(3):
        runs.record(f"train {number}", Event("read", b"raw"))
    assert read_by_open(runs.repo) == 0
    discard(run_tables(runs.repo.path))
    assert read_by_open(runs.repo) == 3
    runs.record("train more", Event("read", b"raw"))
    assert read_by_open(runs.repo) == 0


@pytest.mark.parametrize("is_made_again", [False, True])
def test_every_opened_path_is_told_from_all_others(runs: RunMaker, is_made_again: bool) -> None:
    paths = [b"d/%d" % number for number in range(20_000)]
    chosen = random.Random(1)
    opened = [set(chosen.sample(paths, count)) for count in (15_000, 9_000, 3, 1)]
    opened.append({paths[-1], b"only here"})
    commits = [
        runs.record(f"train {number}", *(Event("read", path) for path in sorted(read))).commit_id
        for number, read in enumerate(opened)
    ]
    if is_made_again:
        discard(run_tables(runs.repo.path))
    with RunTables.open(runs.repo) as tables:
        for commit_id, read in zip(commits, opened, strict=True):
            run = tables.runs[commit_id]
            assert {path for path in [*paths, b"only here", b"nowhere"] if tables.has_opened(run, 0, path)} == read


def test_tables_of_another_form_are_made_again(runs: RunMaker) -> None:
    run = runs.record("train", Event("read", b"raw"))
    discard(run_tables(runs.repo.path))
    other = Tables(run_tables(runs.repo.path), ["runs", "outputs", "written", "reads"])
    with other.write() as batch:
        batch.put("runs", run.commit_id, b"\x91\xa0")
    other.close()
    # Sealing leaves them as they are: a question makes them again.
    second = runs.record("train again", Event("read", b"raw"))
    with RunTables.open(runs.repo) as tables:
        assert set(tables.runs) == {run.commit_id, second.commit_id}
        assert all(tables.has_opened(known, 0, b"raw") for known in tables.runs.values())


def test_a_list_of_runs_reads_no_sealed_record(runs: RunMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        runs.record(f"train {number}", Event("read", b"raw"), metrics={"accuracy": number})
    read: list[str] = []

    def load(repo: Repository, run: RunRef) -> RunRecord:
        read.append(run.name)
        return load_record(repo, run)

    monkeypatch.setattr(tables_module, "load_record", load)
    monkeypatch.setattr(sealing_module, "load_record", load)
    begin_run(runs.repo, RunRecord(id="a" * 16, number=1), {}, before=None, author=AUTHOR)
    found = [(run.name, record.status, record.metrics) for run, record in listed_records(runs.repo)]
    assert set(read) == {"r4"}
    # Nor does the look for runs whose command was killed.
    assert [record.name for record in seal_abandoned(runs.repo, AUTHOR)] == ["r4"]
    assert set(read) == {"r4"}
    assert found == [("r4", "running", {}), *((f"r{n + 1}", "ok", {"accuracy": float(n)}) for n in (2, 1, 0))]


def test_a_list_of_runs_needs_no_tables(runs: RunMaker) -> None:
    for number in range(3):
        runs.record(f"train {number}")
    # They are open in this process: another opener does without.
    with RunTables.open(runs.repo):
        assert [run.name for run, _ in listed_records(runs.repo)] == ["r3", "r2", "r1"]
