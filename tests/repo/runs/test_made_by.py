"""Which runs a version names: those that wrote what it commits, and the run that commits."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.recorded_runs import AUTHOR, RunMaker, write_file
from support.repositories import Repositories
from vfs.model.objects import Version
from vfs.model.run_record import RunRecord
from vfs.repo.acting_run import RUN_VARIABLE, acting_for
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit
from vfs.repo.describe import amend
from vfs.repo.import_directory import import_directory
from vfs.repo.merge import merge
from vfs.repo.repository import Repository
from vfs.repo.runs.made_by import naming_makers, run_names, writers_of_changes
from vfs.repo.runs.records import MADE_BY, begin_run


@pytest.fixture
def runs(repositories: Repositories, repo: Repository) -> RunMaker:
    """A version with one file."""
    maker = RunMaker(repo, repositories.overlay(repo))
    write_file(maker.overlay, b"raw", b"r" * 500)
    commit(repo, maker.overlay, "raw", AUTHOR)
    return maker


def names(runs: RunMaker) -> list[str]:
    """Returns the runs that a commit of now would name."""
    made = naming_makers(runs.repo, (), writers_of_changes(runs.repo, "main"))
    return [name for _, value in made for name in run_names(runs.repo, value)]


def makers(repo: Repository, version: Version) -> list[str]:
    """Returns the runs that a version names."""
    return run_names(repo, dict(version.commit.meta).get(MADE_BY, ""))


def test_the_run_that_commits_is_named_while_it_goes_on(runs: RunMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.record("prepare", writes={b"prepared": b"p"})
    begin_run(runs.repo, RunRecord(id="a" * 16, number=1, branch="main"), {}, before=None, author=AUTHOR)
    assert names(runs) == ["r1"]
    monkeypatch.setenv(RUN_VARIABLE, "a" * 16)
    assert names(runs) == ["r1", "r2"]
    # A daemon may have been started by a run's program: it acts for the programs that ask.
    with acting_for(lambda: ""):
        assert names(runs) == ["r1"]
    # What VFS_RUN names may be a run of another repository.
    monkeypatch.setenv(RUN_VARIABLE, "b" * 16)
    assert names(runs) == ["r1"]


def test_whatever_makes_a_version_names_the_run_that_asked(
    runs: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo, overlay = runs.repo, runs.overlay
    begin_run(repo, RunRecord(id="a" * 16, number=1, branch="main"), {}, before=None, author=AUTHOR)
    first = repo.head()
    assert first is not None
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one").write_text("1")
    monkeypatch.setenv(RUN_VARIABLE, "a" * 16)
    imported = import_directory(repo, tmp_path / "data", "data", AUTHOR, overlay=overlay).version
    assert makers(repo, imported) == ["r1"]
    assert repo.head() == imported
    create_branch(repo, "side", first, author=AUTHOR)
    with repo.open_overlay("side") as side:
        write_file(side, b"two", b"2")
        made = commit(repo, side, "two", AUTHOR).version
        assert makers(repo, made) == ["r1"]
        write_file(side, b"three", b"3")
        monkeypatch.delenv(RUN_VARIABLE)
        # What an amended version is made by stays, and what is added counts too.
        amended = amend(repo, side, AUTHOR, "two and three").version
        assert makers(repo, amended) == ["r1"]
    monkeypatch.setenv(RUN_VARIABLE, "a" * 16)
    merged = merge(repo, overlay, "side", amended, AUTHOR).version
    assert merged is not None
    assert makers(repo, merged) == ["r1"]


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
