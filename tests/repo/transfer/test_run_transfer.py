"""Runs travel: under the name they were recorded with, and not where they are private; what is false is refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest

from support.sharing import Person, content, record_run
from vfs.backend.local import LocalBackend
from vfs.backend.locations import Location
from vfs.errors import Conflict, Corrupt, Unsupported
from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.model.run_record import RECORD_BYTES_MAX, RunRecord, decode_record, encode_record
from vfs.remote import format as remote_format
from vfs.remote.format import decode_root, encode_root
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit
from vfs.repo.retention.purge import purge
from vfs.repo.runs.records import (
    META,
    begin_run,
    find_run,
    list_runs,
    load_record,
    name_of_run,
    run_version,
)
from vfs.repo.runs.removal import remove_runs
from vfs.repo.transfer.remote_check import check_remote
from vfs.repo.undo import last_operation, undo
from vfs.store.object_writer import ObjectWriter
from vfs.store.trees.directories import find_entry

People = Callable[[str], Person]


@pytest.fixture
def ben(ana: Person, people: People, location: Location) -> Person:
    """Returns a clone of one version."""
    ana.write("secret", content(7))
    ana.commit("a", content(1))
    ana.push()
    person = people("ben")
    person.clone(location, contents=True)
    return person


def names(person: Person) -> list[str]:
    """Returns the names of a person's runs behind `runs/`, sorted."""
    return sorted(run.ref for run in list_runs(person.repo))


def runs_there(place: LocalBackend) -> list[str]:
    """Returns the names of the remote's runs."""
    return sorted(ref for ref in decode_root(place.read("root")).refs if ref.startswith("runs/"))


def test_runs_of_two_machines_keep_their_names(ana: Person, ben: Person) -> None:
    recorded = [record_run(ana, "a", metric=0.9), record_run(ben, "b", dirty=content(5))]
    assert [record.number for record in recorded] == [1, 1]
    ana.push()
    ben.push()
    ana.fetch()
    ben.fetch()
    assert names(ana) == names(ben) == ["1-" + "a" * 16, "1-" + "b" * 16]
    for person in (ana, ben):
        with pytest.raises(Conflict, match="several runs"):
            find_run(person.repo, "r1")
        called = sorted(run.name for run in list_runs(person.repo))
        assert called == ["r1-aaaa", "r1-bbbb"]
        found = [load_record(person.repo, find_run(person.repo, name)) for name in called]
        assert [record.name for record in found] == called
        assert [msgspec.structs.replace(record, label="") for record in found] == recorded
        assert all(b"label" not in encode_record(record) for record in found)
        # One that is not here is called so that it is taken for no other one.
        assert name_of_run(person.repo, "1-" + "c" * 16) == "r1-cccc"
        assert name_of_run(person.repo, "7-" + "c" * 16) == "r7"
    assert record_run(ana, "c").name == "r2"


def test_a_push_of_runs_that_are_there_is_one_request(ana: Person, ben: Person, place: LocalBackend) -> None:
    del ben
    record_run(ana, "a", dirty=content(5))
    assert [ref.name for ref in ana.push().refs] == ["runs/1-" + "a" * 16]
    before = place.read("root")
    assert ana.push().refs == []
    assert ana.fetch().refs == []
    assert place.read("root") == before


def test_a_run_brings_its_snapshot_and_outputs(ana: Person, ben: Person) -> None:
    record_run(ana, "a", dirty=content(5, 400_000))
    ana.push()
    done = ben.fetch(contents=True)
    assert done.bytes > 400_000
    version = run_version(ben.repo, find_run(ben.repo, "r1"))
    assert len(version.commit.parents) == 1
    outputs = find_entry(ben.repo.store, version.commit.root, b"outputs")
    assert outputs is not None
    assert outputs.files == 1
    ana.sweep(thorough=True)
    assert check_remote(ben.repo, "origin", read_data=True).is_clean


def test_private_runs_and_unfinished_ones_stay(ana: Person, ben: Person, place: LocalBackend) -> None:
    record_run(ana, "a", private=True, dirty=content(5))
    begin_run(ana.repo, RunRecord(id="b" * 16, number=1, branch="main"), {}, before=None, author="ana")
    assert ana.push().refs == []
    assert runs_there(place) == []
    ben.fetch()
    assert names(ben) == []


def test_no_runs_go_if_none_are_to(ana: Person, ben: Person) -> None:
    del ben
    record_run(ana, "a")
    assert ana.push(runs=False).refs == []


def test_a_run_of_versions_that_were_not_pushed_waits_for_them(ana: Person, ben: Person, place: LocalBackend) -> None:
    del ben
    create_branch(ana.repo, "mine", ana.repo.resolve("v1"), author="ana")
    ana.commit("b", content(2))
    record_run(ana, "a", dirty=content(5))
    assert ana.push(["mine"]).refs[0].name == "branches/mine"
    assert runs_there(place) == []
    ana.push()
    assert runs_there(place) == ["runs/1-" + "a" * 16]


def test_a_removed_run_is_removed_for_all_and_its_number_stays_taken(
    ana: Person, ben: Person, place: LocalBackend
) -> None:
    for digit in "ab":
        record_run(ana, digit)
    ana.push()
    ben.fetch()
    remove_runs(ben.repo, [find_run(ben.repo, "r2")], "ben")
    assert ben.fetch().refs == []
    assert names(ben) == ["1-" + "a" * 16]
    ben.push()
    assert runs_there(place) == ["runs/1-" + "a" * 16]
    ana.push()
    assert names(ana) == ["1-" + "a" * 16, "2-" + "b" * 16]
    ana.fetch()
    assert names(ana) == ["1-" + "a" * 16]
    assert record_run(ana, "c").name == "r3"
    undo(ben.repo, None, last_operation(ben.repo), "ben")
    ben.push()
    ana.fetch()
    assert "2-" + "b" * 16 in names(ana)


def test_a_purge_takes_the_file_out_of_runs_everywhere(ana: Person, ben: Person, place: LocalBackend) -> None:
    record_run(ana, "a", dirty=content(5, 150_000))
    ana.push()
    ben.fetch()
    ana.overlay.unlink(1, b"dirty")
    ana.overlay.close()
    purge(ana.repo, [b"dirty", b"secret"], author="ana", undo_s=0)
    ana.reopen()
    ana.push()
    ben.fetch()
    run = find_run(ben.repo, "r1")
    assert run.commit_id == find_run(ana.repo, "r1").commit_id
    assert (
        find_entry(ben.repo.store, run_version(ben.repo, run).commit.root, b"outputs") is None
        or not load_record(ben.repo, run).outputs
    )
    ana.sweep(thorough=True)
    assert sum(size for _, size in place.list("packs/")) < 140_000
    ben.pull()
    ben.push()
    assert names(ana) == names(ben)


def test_a_run_from_before_a_purge_does_not_bring_it_back(ana: Person, ben: Person, place: LocalBackend) -> None:
    record_run(ben, "b", dirty=content(5))
    ana.overlay.close()
    purge(ana.repo, [b"secret"], author="ana", undo_s=0)
    ana.reopen()
    record_run(ana, "a", dirty=content(6))
    ana.push()
    ben.overlay.unlink(1, b"dirty")
    ben.pull()
    ben.commit("c", content(3))
    ben.push()
    assert runs_there(place) == ["runs/1-" + "a" * 16]
    assert names(ben) == ["1-" + "a" * 16, "1-" + "b" * 16]


# What another program may have put there.

NAME = "7-" + "d" * 16


def plant(person: Person, place: LocalBackend, commit_id: CommitId, name: str = NAME) -> None:
    """Makes the remote name a commit as a run."""
    repo = person.repo
    create_branch(repo, "carrier", Version(commit_id, repo.store.get_commit(commit_id)), author=person.name)
    person.push(["carrier"])
    root = decode_root(place.read("root"))
    refs = {ref: at for ref, at in root.refs.items() if ref != "branches/carrier"}
    refs[f"runs/{name}"] = commit_id.hex()
    place.put("root", encode_root(msgspec.structs.replace(root, format=2, refs=refs)))


def forged(person: Person, record: bytes, *, parents: tuple[bytes, ...] = (), name: str = NAME) -> CommitId:
    """Stores a commit that says that it is a run's."""
    person.write("run.json", record)
    under = commit(person.repo, person.overlay, "forged", person.name).version.commit
    false = msgspec.structs.replace(under, number=1 + len(parents), parents=parents, meta=((META, name),))
    with ObjectWriter(person.repo.store) as writer:
        made = writer.put_commit(false)
        writer.flush()
    return made


def a_version(person: Person) -> CommitId:
    return person.repo.resolve("v1").id


def a_long_record(person: Person) -> CommitId:
    return forged(person, bytes(RECORD_BYTES_MAX + 1))


def no_json(person: Person) -> CommitId:
    return forged(person, b"{" * 1000)


def a_newer_record(person: Person) -> CommitId:
    return forged(person, json.dumps({"format": 99, "id": "d" * 16, "number": 7}).encode())


def one_that_goes_on(person: Person) -> CommitId:
    return forged(person, encode_record(RunRecord(id="d" * 16, number=7)))


def one_on_a_version(person: Person) -> CommitId:
    record = encode_record(RunRecord(id="d" * 16, number=7, status="ok"))
    return forged(person, record, parents=(person.repo.resolve("v1").id,))


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (a_version, "not the record of this run"),
        (a_long_record, "too long"),
        (no_json, "cannot be read"),
        (a_newer_record, "format 99"),
        (one_that_goes_on, "goes on"),
        (one_on_a_version, "no snapshot"),
    ],
)
def test_a_false_run_is_refused_by_name_and_keeps_nothing_else_back(
    ana: Person, ben: Person, place: LocalBackend, forge: Callable[[Person], CommitId], reason: str
) -> None:
    record_run(ben, "b")
    ben.push()
    plant(ben, place, forge(ben))
    done = ana.fetch()
    assert list(done.refused) == [f"runs/{NAME}"]
    assert reason in done.refused[f"runs/{NAME}"]
    assert names(ana) == ["1-" + "b" * 16]
    ana.commit("c", content(3))
    ana.push()
    assert f"runs/{NAME}" in runs_there(place)


def test_a_number_near_the_largest_one_leaves_room_for_others(ana: Person, ben: Person, place: LocalBackend) -> None:
    name = f"{10**12 - 1}-{'d' * 16}"
    record = RunRecord(id="d" * 16, number=10**12 - 1, status="ok")
    plant(ben, place, forged(ben, encode_record(record), name=name), name)
    assert ana.fetch().refused == {}
    assert names(ana) == [name]
    assert record_run(ana, "a").name == "r1"
    remove_runs(ana.repo, [find_run(ana.repo, name)], "ana")
    assert record_run(ana, "b").name == "r2"


def test_texts_that_cannot_be_written_make_a_record_unreadable(ana: Person, ben: Person, place: LocalBackend) -> None:
    record = encode_record(RunRecord(id="d" * 16, number=7, status="ok", command=("x",)))
    plant(ben, place, forged(ben, record.replace(b'"x"', b'"\\ud800"')))
    assert list(ana.fetch().refused) == [f"runs/{NAME}"]
    assert decode_record(record.replace(b'"x"', b'"\\udcff"')).command == ("\udcff",)


@pytest.mark.parametrize("name", ["../../../etc", "0-" + "d" * 16, "7", "1" * 13 + "-" + "d" * 16, NAME + "/x", ""])
def test_a_name_that_is_none_is_refused(ana: Person, ben: Person, place: LocalBackend, name: str) -> None:
    plant(ben, place, a_version(ben), name)
    with pytest.raises(Corrupt, match="names a ref 'runs/"):
        ana.fetch()
    assert names(ana) == []


def test_a_run_whose_objects_are_missing_is_refused(ana: Person, ben: Person, place: LocalBackend) -> None:
    del ben
    root = decode_root(place.read("root"))
    refs = {**root.refs, f"runs/{NAME}": "5" * 64}
    place.put("root", encode_root(msgspec.structs.replace(root, format=2, refs=refs)))
    with pytest.raises(Corrupt):
        ana.fetch()


def test_an_older_program_refuses_a_remote_with_runs_alone(
    ana: Person, ben: Person, place: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    del ben
    assert decode_root(place.read("root")).format == 1
    record_run(ana, "a")
    ana.push()
    monkeypatch.setattr(remote_format, "ROOT_FORMAT", 1)
    with pytest.raises(Unsupported, match="format 2"):
        decode_root(place.read("root"))
    monkeypatch.undo()
    remove_runs(ana.repo, list_runs(ana.repo), "ana")
    ana.push()
    assert decode_root(place.read("root")).format == 1
