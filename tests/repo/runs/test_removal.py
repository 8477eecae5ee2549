"""Records of runs that are removed: undo brings them back, gc frees what they alone kept, no number is given twice."""

from __future__ import annotations

import pytest

from support.repositories import Repositories
from vfs.errors import Busy, NotFound
from vfs.model.ids import CommitId
from vfs.model.run_record import RunRecord, Source
from vfs.overlay.overlay import Overlay
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository
from vfs.repo.retention.gc import gc
from vfs.repo.runs.records import begin_run, find_run, list_runs, load_record
from vfs.repo.runs.removal import remove_runs
from vfs.repo.runs.run_event_file import Event, RecordingFile, recording_path
from vfs.repo.runs.sealing import Ending, seal
from vfs.repo.runs.snapshots import Snapshots
from vfs.repo.undo import last_operation, undo

AUTHOR = "ann@lab"


@pytest.fixture
def repo(repositories: Repositories) -> Repository:
    return repositories.make()


def sealed_run(repo: Repository, run_id: str, before: CommitId | None = None) -> RunRecord:
    source = Source("main", known="snapshot" if before is not None else "working")
    record = RunRecord(id=run_id, number=1, branch="main", is_observed=True, sources=(source,))
    begin_run(repo, record, {}, before=before, author=AUTHOR)
    with_end = RecordingFile(recording_path(repo.path, run_id))
    with_end.append([Event("end", version=before or b"")])
    with_end.close()
    return seal(repo, find_run(repo, run_id), Ending(exit_status=0), AUTHOR)


def snapshot_of(repositories: Repositories, repo: Repository, data: bytes) -> CommitId:
    layer: Overlay = repositories.overlay(repo)
    attr = layer.mknod(1, b"dirty", 0o100644, 0, 0, 0)
    layer.write(attr.ino, 0, data)
    taken = Snapshots().take(repo, layer, AUTHOR)
    assert taken is not None
    layer.close()
    return taken.id


def test_a_removed_record_comes_back_by_undo_and_no_number_is_given_twice(repo: Repository) -> None:
    records = [sealed_run(repo, digit * 16) for digit in "abc"]
    remove_runs(repo, [find_run(repo, "r2"), find_run(repo, "r3")], AUTHOR)
    assert [run.number for run in list_runs(repo)] == [1]
    assert sealed_run(repo, "d" * 16).name == "r4"
    undo(repo, None, last_operation(repo), AUTHOR)
    assert [run.number for run in list_runs(repo)] == [4, 3, 2, 1]
    assert load_record(repo, find_run(repo, "r3")) == records[2]
    undo(repo, None, last_operation(repo), AUTHOR)
    assert [run.number for run in list_runs(repo)] == [4, 1]
    remove_runs(repo, [find_run(repo, "r1")], AUTHOR)
    assert sealed_run(repo, "e" * 16).name == "r5"
    repo.refs.rebuild()
    assert sealed_run(repo, "f" * 16).name == "r6"
    with pytest.raises(NotFound):
        find_run(repo, "r2")


def test_gc_frees_the_snapshot_of_a_removed_record(repositories: Repositories, repo: Repository) -> None:
    before = snapshot_of(repositories, repo, bytes(range(256)) * 800)
    sealed_run(repo, "a" * 16, before)
    gc(repo, grace_s=0, undo_s=0, thorough=True)
    assert repo.index.has(before)
    remove_runs(repo, [find_run(repo, "r1")], AUTHOR)
    gc(repo, grace_s=0, thorough=True)
    # Undo may bring it back.
    assert repo.index.has(before)
    gc(repo, grace_s=0, undo_s=0, thorough=True)
    assert not repo.index.has(before)
    assert fsck(repo, read_data=True).is_clean


def test_a_run_that_goes_on_is_not_removed(repo: Repository) -> None:
    begin_run(repo, RunRecord(id="a" * 16, number=1, is_observed=True), {}, before=None, author=AUTHOR)
    file = RecordingFile(recording_path(repo.path, "a" * 16))
    with pytest.raises(Busy, match="goes on"):
        remove_runs(repo, list_runs(repo), AUTHOR)
    file.close()
    remove_runs(repo, list_runs(repo), AUTHOR)
    assert list_runs(repo) == []
