"""What made a file and what used it, over runs recorded by the real writer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.recorded_runs import AUTHOR, RunMaker, write_file
from support.repositories import Repositories
from vfs.api.lineage_documents import lineage_document
from vfs.errors import NotFound
from vfs.model.ids import chunk_id
from vfs.model.objects import Version
from vfs.model.run_record import Manifest, Output, Read, RunRecord, Source, encode_manifest
from vfs.repo.commit import commit
from vfs.repo.lineage.lineage_nodes import Edge, Lineage, RunNode
from vfs.repo.lineage.origins import made_by
from vfs.repo.lineage.targets import FileTarget, RunTarget, Target, VersionTarget
from vfs.repo.lineage.uses import used_by
from vfs.repo.paths import run_tables
from vfs.repo.repository import Repository
from vfs.repo.retention.purge import purge
from vfs.repo.runs.records import MANIFEST, begin_run, find_run, list_runs
from vfs.repo.runs.run_event_file import Event
from vfs.repo.runs.run_tables import RunTables
from vfs.store.lmdb_tables import discard
from vfs.store.trees.directories import resolve_path

RAW = {b"raw/a": b"a" * 500, b"raw/b": b"b" * 500}
MODEL = b"m" * 3000


@pytest.fixture
def runs(repositories: Repositories, repo: Repository) -> RunMaker:
    """A version with raw files."""
    maker = RunMaker(repo, repositories.overlay(repo))
    for path, data in RAW.items():
        write_file(maker.overlay, path, data)
    commit(repo, maker.overlay, "raw", AUTHOR)
    return maker


def pipeline(runs: RunMaker) -> None:
    """Records r1 clean, r2 train, each committed, and r3, which reads the model."""
    cleaned = {b"clean/a": b"A" * 500, b"clean/b": b"B" * 500}
    runs.record("clean", Event("read", b"raw/a"), Event("read", b"raw/b"), writes=cleaned)
    commit(runs.repo, runs.overlay, "cleaned", AUTHOR)
    runs.record("train", *(Event("read", path) for path in cleaned), writes={b"model": MODEL})
    commit(runs.repo, runs.overlay, "model", AUTHOR)
    runs.record("evaluate", Event("read", b"model"), metrics={"accuracy": 0.9})


def edges(graph: Lineage) -> set[tuple[str, str, str, int]]:
    """Returns edges by the names of their nodes."""

    def name(node_id: str) -> str:
        node = graph.nodes[node_id]
        if isinstance(node, RunNode):
            return node.run.record.name
        return getattr(node, "label", "") or getattr(node, "path", b"").decode()

    return {(name(edge.later), edge.relation, name(edge.earlier), edge.files) for edge in graph.edges}


def ask(repo: Repository, target: Target, *, used: bool = False, depth: int | None = None) -> Lineage:
    """Returns the answer about a target."""
    with RunTables.open(repo) as tables:
        return (used_by if used else made_by)(repo, tables, target, depth=depth)


def file_target(repo: Repository, path: bytes, version: Version | None = None) -> FileTarget:
    """Returns a file of a version, the newest one without."""
    shown = version if version is not None else repo.head("main")
    assert shown is not None
    entry = resolve_path(repo.store, shown.commit.root, path).entry
    return FileTarget(path, entry.content, "", entry.size, shown)


MADE = {
    ("model", "written-by", "r2", 1),
    ("r2", "read", "main@v2", 2),
    ("main@v2", "written-by", "r1", 2),
    ("r1", "read", "main@v1", 2),
}


def test_a_model_is_followed_down_to_the_first_inputs(runs: RunMaker) -> None:
    pipeline(runs)
    graph = ask(runs.repo, file_target(runs.repo, b"model"))
    assert edges(graph) == MADE
    assert graph.notes == []


def test_a_copy_is_found_by_its_content_or_its_sha256(runs: RunMaker) -> None:
    pipeline(runs)
    known = file_target(runs.repo, b"model")
    outside = FileTarget(b"/elsewhere/best.onnx", known.content, "", len(MODEL), is_outside=True)
    graph = ask(runs.repo, outside)
    assert {edge[2] for edge in edges(graph)} == {"r2", "main@v2", "r1", "main@v1"}
    assert graph.edges[0].is_copy
    # Written outside of the mount, and only its SHA-256 is known.
    digest = "ab" * 32
    runs.record("export", Event("read", b"model"), outside=(Output("/out/x", "outside", 9000, "", digest),))
    found = ask(runs.repo, FileTarget(b"/elsewhere", b"\1" * 32, digest, 9000, is_outside=True))
    assert ("/elsewhere", "written-by", "r4", 1) in edges(found)


def test_a_file_that_no_run_wrote_came_with_a_version(runs: RunMaker) -> None:
    pipeline(runs)
    assert edges(ask(runs.repo, file_target(runs.repo, b"raw/a"))) == {("raw/a", "came-with", "main@v1", 1)}
    version = runs.repo.head("main")
    assert version is not None
    assert edges(ask(runs.repo, VersionTarget(version))) >= {
        ("main@v3", "written-by", "r1", 2),
        ("main@v3", "written-by", "r2", 1),
        ("main@v3", "came-with", "main@v1", 2),
    }


def test_uses_reach_through_what_runs_wrote(runs: RunMaker) -> None:
    pipeline(runs)
    expected = {("r1", "used", "raw/a", 1), ("r2", "used", "r1", 2), ("r3", "used", "r2", 1)}
    assert edges(ask(runs.repo, FileTarget(b"raw/a"), used=True)) == expected
    graph = ask(runs.repo, file_target(runs.repo, b"raw/a"), used=True)
    assert edges(graph) == expected
    assert graph.nodes[graph.target].held_by == ("v1 to v3",)  # type: ignore[union-attr]
    assert edges(ask(runs.repo, RunTarget(find_run(runs.repo, "r2")), used=True)) == {("r3", "used", "r2", 1)}
    near = ask(runs.repo, FileTarget(b"raw/a"), used=True, depth=1)
    assert edges(near) == {("r1", "used", "raw/a", 1)}
    assert "left out" in near.notes[0]


def test_uses_of_one_content_are_not_those_of_another(runs: RunMaker) -> None:
    runs.record("first", Event("read", b"raw/a"))
    old = file_target(runs.repo, b"raw/a")
    write_file(runs.overlay, b"raw/a", b"changed" * 100)
    commit(runs.repo, runs.overlay, "changed", AUTHOR)
    runs.record("second", Event("read", b"raw/a"))
    new = file_target(runs.repo, b"raw/a")
    assert edges(ask(runs.repo, old, used=True)) == {("r1", "used", "raw/a", 1)}
    assert edges(ask(runs.repo, new, used=True)) == {("r2", "used", "raw/a", 1)}
    assert len(edges(ask(runs.repo, FileTarget(b"raw/a"), used=True))) == 2


def test_an_erased_file_still_names_the_runs_that_opened_it(runs: RunMaker) -> None:
    runs.record("uses both", Event("read", b"raw/a"), Event("read", b"raw/b"))
    runs.record("uses one", Event("read", b"raw/b"))
    write_file(runs.overlay, b"raw/c", b"c" * 500)
    commit(runs.repo, runs.overlay, "c", AUTHOR)
    runs.record("uses it again", Event("read", b"raw/a"))
    runs.overlay.close()
    purge(runs.repo, [b"raw/a"], author=AUTHOR)
    graph = ask(runs.repo, FileTarget(b"raw/a"), used=True)
    # The first one opened all files of its version: which these were went with the version.
    assert ("r3", "used", "raw/a", 1) in edges(graph)
    assert not any(later == "r2" for later, *_ in edges(graph))


def test_changes_that_were_not_committed_are_followed(runs: RunMaker) -> None:
    runs.record("clean", Event("read", b"raw/a"), writes={b"clean": b"c" * 900})
    runs.record("train", Event("read", b"clean"), Event("read", b"raw/b"), writes={b"model": MODEL})
    graph = ask(runs.repo, RunTarget(find_run(runs.repo, "r2")))
    assert ("main@v1", "written-by", "r1", 1) in edges(graph)
    assert ("main@v1", "came-with", "main@v1", 1) in edges(graph)


def test_short_files_that_are_equal_by_chance_are_no_copies(runs: RunMaker) -> None:
    runs.record("writes", writes={b"labels/one": b"1\n"})
    write_file(runs.overlay, b"other", b"1\n")
    commit(runs.repo, runs.overlay, "labels", AUTHOR)
    runs.record("reads", Event("read", b"other"))
    graph = ask(runs.repo, RunTarget(find_run(runs.repo, "r2")))
    assert edges(graph) == {
        ("r2", "read", "main@v2", 1),
        ("main@v2", "came-with", "main@v2", 1),
        ("main@v2", "committed-by", "r1", 0),
    }
    assert edges(ask(runs.repo, RunTarget(find_run(runs.repo, "r1")), used=True)) == set()


def test_what_a_step_wrote_is_not_also_its_pipelines(runs: RunMaker) -> None:
    outer = runs.record("pipeline", Event("read", b"raw/a"), writes={b"clean": b"c" * 900})
    runs.record("step", Event("read", b"raw/a"), writes={b"clean": b"d" * 900}, parent=outer.id)
    commit(runs.repo, runs.overlay, "clean", AUTHOR)
    graph = ask(runs.repo, file_target(runs.repo, b"clean"))
    assert ("clean", "written-by", "r2", 1) in edges(graph)
    assert not any(earlier == "r1" for _, _, earlier, _ in edges(graph))


def test_a_long_chain_of_runs_is_followed_without_recursion(runs: RunMaker) -> None:
    for number in range(40):
        read = Event("read", b"state" if number else b"raw/a")
        runs.record(f"step {number}", read, writes={b"state": b"%d" % number * 200})
    graph = ask(runs.repo, RunTarget(find_run(runs.repo, "r40")))
    assert sum(isinstance(node, RunNode) for node in graph.nodes.values()) == 40
    limited = ask(runs.repo, RunTarget(find_run(runs.repo, "r40")), depth=3)
    assert sum(isinstance(node, RunNode) for node in limited.nodes.values()) == 5


def test_a_run_that_goes_on_is_not_in_the_tables(runs: RunMaker) -> None:
    begin_run(runs.repo, RunRecord(id="f" * 16, number=1), {}, before=None, author=AUTHOR)
    with pytest.raises(NotFound):
        ask(runs.repo, RunTarget(find_run(runs.repo, "r1")))


@pytest.mark.parametrize("state", ["kept", "removed", "damaged"])
def test_tables_are_brought_up_to_date_or_made_again(runs: RunMaker, state: str) -> None:
    directory = run_tables(runs.repo.path)
    pipeline(runs)
    assert edges(ask(runs.repo, file_target(runs.repo, b"model"))) == MADE
    if state == "removed":
        discard(directory)
    elif state == "damaged":
        (directory / "data.mdb").write_bytes(b"x" * 5000)
    runs.record("more", Event("read", b"model"))
    found = ask(runs.repo, file_target(runs.repo, b"model"), used=True)
    assert ("r4", "used", "model", 1) in edges(found)
    assert ("r3", "used", "model", 1) in edges(found)


def test_rows_of_records_that_are_gone_do_not_count(runs: RunMaker, repositories: Repositories) -> None:
    pipeline(runs)
    ask(runs.repo, file_target(runs.repo, b"model"))
    with RunTables.open(runs.repo) as tables:
        assert len(tables.runs) == 3
        writers = tables.writers(chunk_id(b"nothing"))
        assert writers == []
        before = {run.commit_id for run in list_runs(runs.repo)}
        assert set(tables.runs) == before
    runs.overlay.close()
    purge(runs.repo, [b"model"], author=AUTHOR)
    with RunTables.open(runs.repo) as tables:
        assert set(tables.runs) == {run.commit_id for run in list_runs(runs.repo)}
        assert len(tables.runs) == 3


@pytest.mark.parametrize(
    "manifest", [b"", b"\xc1", encode_manifest(Manifest((Read(True),) * 9)), encode_manifest(Manifest((Read(),)))]
)
def test_records_from_elsewhere_may_name_anything(runs: RunMaker, manifest: bytes) -> None:
    pipeline(runs)
    strange = (
        Source("../x", 3, "ab" * 32, "seen", opened=1, files=9),
        Source("", 0, "", "working", opened=1, files=9),
        Source("main", 1, "", "snapshot", opened=2, files=2),
        Source("main", 2, find_run(runs.repo, "r1").commit_id.hex(), "pinned", opened=1, files=1),
    )
    record = RunRecord(
        id="e" * 16,
        number=1,
        status="ok",
        command=("\udcff\x1b[2J",),
        sources=strange,
        outputs=(Output("../\udcff", content="cd" * 32, size=2000), Output("x", removed=True)),
        parent="e" * 16,
        steps=("e" * 16,),
        start_ns=2**62,
    )
    begin_run(runs.repo, record, {MANIFEST: manifest} if manifest else {}, before=None, author=AUTHOR)
    for target in (FileTarget(b"x", b"\xcd" * 32, "", 2000, is_outside=True), RunTarget(find_run(runs.repo, "r2"))):
        for used in (False, True):
            ask(runs.repo, target, used=used)
    # A manifest that cannot be read makes the record one that is not there.
    if manifest != b"\xc1":
        graph = ask(runs.repo, RunTarget(find_run(runs.repo, "r4")))
        lines = list(lineage_document(graph)["nodes"])
        assert len(lines) >= 3
        json.dumps(lineage_document(graph))


def test_edges_name_examples_and_no_more(runs: RunMaker) -> None:
    many = {b"clean/%02d" % number: b"%d" % number * 300 for number in range(30)}
    runs.record("clean", Event("read", b"raw/a"), writes=many)
    runs.record("train", *(Event("read", path) for path in many))
    graph = ask(runs.repo, RunTarget(find_run(runs.repo, "r2")))
    [edge] = [each for each in graph.edges if each.relation == "written-by"]
    assert isinstance(edge, Edge)
    assert (edge.files, len(edge.samples)) == (30, 5)
    assert Path(edge.samples[0].decode()).parent.name == "clean"
