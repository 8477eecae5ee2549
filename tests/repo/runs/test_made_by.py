"""Which runs a version names: those that wrote what it commits, and the run that commits."""

from __future__ import annotations

import pytest

from support.recorded_runs import AUTHOR, RunMaker, write_file
from support.repositories import Repositories
from vfs.model.runs import RunRecord
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.repo.runs.made_by import made_by, run_names
from vfs.repo.runs.records import begin_run


@pytest.fixture
def runs(repositories: Repositories, repo: Repository) -> RunMaker:
    """A version with one file."""
    maker = RunMaker(repo, repositories.overlay(repo))
    write_file(maker.overlay, b"raw", b"r" * 500)
    commit(repo, maker.overlay, "raw", AUTHOR)
    return maker


def names(runs: RunMaker, running: str = "") -> list[str]:
    """Returns the runs that a commit of now would name."""
    return [name for _, value in made_by(runs.repo, "main", (), running) for name in run_names(value)]


def test_the_run_that_commits_is_named_while_it_goes_on(runs: RunMaker) -> None:
    runs.record("prepare", writes={b"prepared": b"p"})
    begin_run(runs.repo, RunRecord(id="a" * 16, number=1, branch="main"), {}, before=None, author=AUTHOR)
    assert names(runs, "a" * 16) == ["r1", "r2"]
    # What VFS_RUN names may be a run of another repository, and a run that goes on elsewhere commits nothing.
    assert names(runs, "b" * 16) == names(runs) == ["r1"]


def test_what_was_committed_while_a_run_went_on_is_not_named_again(runs: RunMaker) -> None:
    with runs.going_on("train", writes={b"model": b"m" * 900, b"log": b"1"}):
        commit(runs.repo, runs.overlay, "epoch 1", AUTHOR)
    assert names(runs) == []
    write_file(runs.overlay, b"readme", b"words")
    assert names(runs) == []


def test_what_a_run_wrote_after_its_commit_is_named(runs: RunMaker) -> None:
    with runs.going_on("train", writes={b"model": b"m" * 900, b"log": b"1"}):
        commit(runs.repo, runs.overlay, "epoch 1", AUTHOR)
        write_file(runs.overlay, b"log", b"2")
    assert names(runs) == ["r1"]
