"""Records of runs in a repository: sealed once, kept by gc, checked by fsck, passed over by undo, cleaned by purge."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from support.repositories import Repositories
from vfs.errors import Conflict, Corrupt, NotFound, Unsupported
from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.model.run_record import RunRecord, Source
from vfs.overlay.overlay import Overlay
from vfs.repo import config
from vfs.repo.commit import commit
from vfs.repo.config import decode_config
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository
from vfs.repo.retention.gc import gc
from vfs.repo.retention.purge import purge
from vfs.repo.runs.records import (
    OUTPUTS,
    STDOUT,
    RunRef,
    begin_run,
    find_run,
    iterate_records,
    list_runs,
    load_manifest,
    load_record,
    run_file,
)
from vfs.repo.runs.run_event_file import Event, RecordingFile, is_recorded, read_events, recording_path
from vfs.repo.runs.sealing import DAEMON_DIED, Ending, seal, seal_abandoned
from vfs.repo.runs.snapshots import Snapshots
from vfs.repo.stats import stats
from vfs.repo.undo import last_operation, undo
from vfs.store.refs.operation import RUNS, Operation, RefChange
from vfs.store.trees.directories import resolve_path

AUTHOR = "ann@lab"


def write(overlay: Overlay, name: bytes, data: bytes) -> None:
    """Writes a file of the working layer's root."""
    attr = overlay.find(name) or overlay.mknod(1, name, 0o100644, 0, 0, 0)
    overlay.write(attr.ino, 0, data)


def begun(
    repo: Repository, run_id: str = "0" * 16, source: Source | None = None, before: CommitId | None = None
) -> RunRef:
    """Begins the record of a run that a daemon observes."""
    record = RunRecord(
        id=run_id, number=1, branch="main", is_observed=True, sources=(source,) if source is not None else ()
    )
    begin_run(repo, record, {}, before=before, author=AUTHOR)
    return find_run(repo, run_id)


def recorded(repo: Repository, run_id: str, *events: Event) -> None:
    """Writes a recording, as a daemon does."""
    file = RecordingFile(recording_path(repo.path, run_id))
    file.append(list(events))
    file.close()


@pytest.fixture
def layer(repositories: Repositories, repo: Repository) -> Overlay:
    """A working layer over a version with three files."""
    overlay = repositories.overlay(repo)
    for name in (b"a", b"b", b"c"):
        write(overlay, name, name * 3000)
    commit(repo, overlay, "one", AUTHOR)
    return overlay


def source_of(version: Version | None) -> Source:
    """The working layer, without changes, over a version."""
    assert version is not None
    return Source("main", version.commit.number, version.id.hex())


def test_a_run_is_numbered_sealed_and_read_again(repo: Repository, layer: Overlay) -> None:
    run = begun(repo, source=source_of(layer.base))
    assert load_record(repo, run).status == "running"
    write(layer, b"model", b"m" * 5000)
    after = Snapshots().take(repo, layer, AUTHOR)
    assert after is not None
    recorded(
        repo,
        run.id,
        Event("read", b"a"),
        Event("list", b""),
        Event("read", b"model"),
        Event("write", b"model"),
        Event("write", b"gone"),
        Event("end", version=after.id),
    )
    sealed = seal(repo, run, Ending(exit_status=0, files={STDOUT: b"done\n"}, metrics={"acc": 0.5}), AUTHOR)
    found = find_run(repo, "r1")
    assert load_record(repo, found) == sealed
    assert (sealed.status, sealed.metrics, sealed.notes) == ("ok", {"acc": 0.5}, ())
    [source] = sealed.sources
    assert (source.opened, source.files, source.listed) == (1, 3, 1)
    assert load_manifest(repo, found).reads[0].opened == (b"a",)
    [output] = sealed.outputs
    assert (output.path, output.size) == ("model", 5000)
    entry = resolve_path(repo.store, repo.store.get_commit(found.commit_id).root, OUTPUTS + b"/model").entry
    assert entry.content.hex() == output.content
    assert run_file(repo, found, STDOUT) == b"done\n"
    assert not recording_path(repo.path, run.id).exists()


def test_the_first_seal_counts(repo: Repository, layer: Overlay) -> None:
    run = begun(repo, source=source_of(layer.base))
    recorded(repo, run.id, Event("end"))
    seal(repo, run, Ending(exit_status=0), AUTHOR)
    assert seal(repo, run, Ending(exit_status=1), AUTHOR).exit_status == 0


def test_a_torn_recording_counts_up_to_where_it_is_torn(repo: Repository, layer: Overlay) -> None:
    run = begun(repo, source=source_of(layer.base))
    recorded(repo, run.id, Event("read", b"a"))
    path = recording_path(repo.path, run.id)
    whole = path.path.read_bytes()
    path.path.write_bytes(whole + whole[:-1])
    [record] = seal_abandoned(repo, AUTHOR)
    assert record.status == "interrupted"
    assert record.sources[0].opened == 1
    assert DAEMON_DIED in record.notes


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"\xff" * 100, b"\x05\0\0\0\0\0\0\0hello"])
def test_a_damaged_recording_seals_a_record_without_it(repo: Repository, layer: Overlay, damage: bytes) -> None:
    run = begun(repo, source=source_of(layer.base))
    recorded(repo, run.id)
    recording_path(repo.path, run.id).path.write_bytes(damage)
    [record] = seal_abandoned(repo, AUTHOR)
    assert record.sources[0].opened == 0
    assert list(read_events(recording_path(repo.path, run.id))) == []


def test_a_run_that_goes_on_is_not_sealed_by_others(repo: Repository, layer: Overlay) -> None:
    run = begun(repo, source=source_of(layer.base))
    file = RecordingFile(recording_path(repo.path, run.id))
    assert is_recorded(recording_path(repo.path, run.id))
    assert seal_abandoned(repo, AUTHOR) == []
    file.close()
    assert len(seal_abandoned(repo, AUTHOR)) == 1


def test_equal_files_count_for_every_version_that_the_run_named(repo: Repository, layer: Overlay) -> None:
    first = repo.head()
    write(layer, b"a", b"changed" * 500)
    second = commit(repo, layer, "two", AUTHOR).version
    assert first is not None
    run = begun(repo)
    events = []
    for version, name in ((first, b"a"), (first, b"b"), (first, b"c")):
        entry = resolve_path(repo.store, version.commit.root, name).entry
        events.append(Event("version-read", name, first.id, msgspec.msgpack.encode(entry)))
    recorded(repo, run.id, Event("named", version=second.id), *events, Event("end"))
    record = seal(repo, run, Ending(exit_status=0), AUTHOR)
    by_commit = {source.commit: source for source in record.sources}
    assert by_commit[second.id.hex()].known == "seen"
    assert by_commit[second.id.hex()].opened == 2
    # Of the named version `a` is another file: the program must have read it elsewhere.
    assert by_commit[first.id.hex()].known == "first-seen"
    assert by_commit[first.id.hex()].opened == 1


def test_numbers_of_two_clones_are_told_apart_by_ids(repo: Repository, layer: Overlay) -> None:
    run = begun(repo, "a" * 16)
    other = "1-" + "b" * 16
    repo.refs.move(Operation(kind="run", refs=(RefChange(RUNS + other, "", run.commit_id.hex()),)))
    with pytest.raises(Conflict, match=r"r1-aaaa.*r1-bbbb|r1-bbbb.*r1-aaaa"):
        find_run(repo, "r1")
    assert find_run(repo, "r1-bb").id == "b" * 16
    assert find_run(repo, "aaaa").id == "a" * 16
    with pytest.raises(NotFound):
        find_run(repo, "r2")
    begun(repo, "c" * 16)
    assert [found.number for found in list_runs(repo)] == [2, 1, 1]


@pytest.mark.parametrize("name", ["runs/x", "runs/", "runs/0-" + "a" * 16, "runs/1-../x", "runs/1-" + "A" * 16])
def test_a_ref_that_is_no_run_is_refused(repo: Repository, layer: Overlay, name: str) -> None:
    head = repo.head()
    assert head is not None
    with pytest.raises(Exception, match="no name of a run"):
        repo.refs.move(Operation(kind="run", refs=(RefChange(name, "", head.id.hex()),)))


def test_gc_fsck_undo_and_stats_go_on_with_runs(repo: Repository, layer: Overlay) -> None:
    write(layer, b"dirty", b"d" * 4000)
    before = Snapshots().take(repo, layer, AUTHOR)
    assert before is not None
    run = begun(repo, source=Source("main", 1, "", "snapshot"), before=before.id)
    recorded(repo, run.id, Event("read", b"dirty"), Event("end", version=before.id))
    record = seal(repo, run, Ending(exit_status=0), AUTHOR)
    assert record.sources[0].opened == 1
    gc(repo, grace_s=0, undo_s=0, thorough=True)
    assert fsck(repo, read_data=True).is_clean
    parent = repo.store.get_commit(find_run(repo, "r1").commit_id).parents[0]
    assert resolve_path(repo.store, repo.store.get_commit(CommitId(parent)).root, b"dirty").entry.size == 4000
    assert stats(repo).versions == 1
    assert last_operation(repo).kind == "commit"
    repo.rebuild_index()
    assert load_record(repo, find_run(repo, "r1")) == record


def test_undo_takes_back_the_commit_before_a_run_and_leaves_the_run(repo: Repository, layer: Overlay) -> None:
    write(layer, b"a", b"other" * 900)
    commit(repo, layer, "two", AUTHOR)
    run = begun(repo, source=source_of(layer.base))
    recorded(repo, run.id, Event("end"))
    seal(repo, run, Ending(exit_status=0), AUTHOR)
    undo(repo, layer, last_operation(repo), AUTHOR)
    head = repo.head()
    assert head is not None
    assert head.name == "v1"
    assert len(list_runs(repo)) == 1


def test_purge_takes_a_path_out_of_outputs_and_snapshots(
    repositories: Repositories, repo: Repository, layer: Overlay
) -> None:
    write(layer, b"secret", b"s" * 5000)
    shown = Snapshots().take(repo, layer, AUTHOR)
    assert shown is not None
    run = begun(repo, source=Source("main", 1, "", "snapshot"), before=shown.id)
    reads = Event("read", b"secret"), Event("read", b"a"), Event("list", b"")
    recorded(repo, run.id, *reads, Event("write", b"secret"), Event("write", b"a"), Event("end", version=shown.id))
    seal(repo, run, Ending(exit_status=0), AUTHOR)
    commit(repo, layer, "two", AUTHOR)
    layer.close()
    purge(repo, [b"secret"], author=AUTHOR)
    found = find_run(repo, "r1")
    root = repo.store.get_commit(found.commit_id).root
    with pytest.raises(NotFound):
        resolve_path(repo.store, root, OUTPUTS + b"/secret")
    assert resolve_path(repo.store, root, OUTPUTS + b"/a").entry.size == 3000
    record = load_record(repo, found)
    assert [output.path for output in record.outputs] == ["a"]
    # Which runs used a file is asked most when it had to go.
    assert record.sources[0].opened == 2
    assert load_manifest(repo, found).reads[0].opened == (b"a", b"secret")
    parent = repo.store.get_commit(CommitId(repo.store.get_commit(found.commit_id).parents[0]))
    with pytest.raises(NotFound):
        resolve_path(repo.store, parent.root, b"secret")
    assert fsck(repo, read_data=True).is_clean


def test_the_first_run_sets_the_feature_that_older_programs_refuse(
    repositories: Repositories, repo: Repository, layer: Overlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "runs" not in repo.config.features
    begun(repo)
    assert "runs" in decode_config((repo.path / "vfs.json").read_bytes()).features
    layer.close()
    repo.close()
    with monkeypatch.context() as older:
        older.setattr(config, "FEATURES", frozenset())
        with pytest.raises(Unsupported, match="runs"):
            Repository.open(repo.path)
    repositories.open(repo.path)


def test_a_record_that_cannot_be_read_hides_no_other(repo: Repository, layer: Overlay) -> None:
    begun(repo, "a" * 16)
    head = repo.head()
    assert head is not None
    repo.refs.move(Operation(kind="run", refs=(RefChange(f"{RUNS}2-{'b' * 16}", "", head.id.hex()),)))
    with pytest.raises(Corrupt):
        load_record(repo, find_run(repo, "r2"))
    assert [record.id for _, record in iterate_records(repo)] == ["a" * 16]


def test_a_snapshot_of_an_unchanged_layer_is_taken_once(repo: Repository, layer: Overlay, tmp_path: Path) -> None:
    snapshots = Snapshots()
    assert snapshots.take(repo, layer, AUTHOR) == layer.base
    write(layer, b"a", b"x" * 3000)
    first = snapshots.take(repo, layer, AUTHOR)
    assert first is not None
    assert first.commit.parents == ()
    assert snapshots.take(repo, layer, AUTHOR) == first
    write(layer, b"a", b"y" * 3000)
    assert snapshots.take(repo, layer, AUTHOR) != first
