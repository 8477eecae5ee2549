"""A remote of an older program is read, pushed to, fetched from and swept."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from support.sharing import Person, content
from vfs.backend.local import LocalBackend
from vfs.backend.locations import parse_location
from vfs.history.revision import UnknownVersion
from vfs.remote.format import decode_root, hash_of
from vfs.repo.fsck import fsck
from vfs.repo.runs.records import list_runs, load_record
from vfs.repo.transfer.remote_check import check_remote
from vfs.store.trees.directories import find_entry
from vfs.store.trees.file_reader import open_file

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize(("number", "form"), [(1, ""), (2, ""), (2, "-node-blocks")])
def test_a_frozen_remote_is_gone_on_with(tmp_path: Path, number: int, form: str) -> None:
    with tarfile.open(DATA / f"remote-format-{number}{form}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    expected = json.loads((tmp_path / "expected.json").read_text())
    place, location = LocalBackend(tmp_path / "remote"), parse_location(str(tmp_path / "remote"))
    root = decode_root(place.read("root"))
    assert root.format == number
    assert root.retiring
    assert root.tombstones
    assert root.replaced
    assert [note.message for note in root.notes.values()] == ["a note"]
    people = [Person(name, tmp_path / name) for name in ("ana", "ben")]
    ana, ben = people
    ana.clone(location, contents=True)
    ben.clone(location)
    for person in people:
        for branch, files in expected.items():
            version = person.repo.resolve(f"origin/{branch}")
            for name, hashed in files.items():
                entry = find_entry(person.repo.store, version.commit.root, name.encode())
                assert entry is not None
                data = open_file(person.repo.store, version.commit.root, entry, name.encode()).read(0, entry.size)
                assert hash_of(bytes(data)) == hashed
            assert find_entry(person.repo.store, version.commit.root, b"purged") is None
        assert person.repo.resolve("first").commit.number == 1
        assert check_remote(person.repo, "origin", read_data=True).is_clean
        metrics = [load_record(person.repo, run).metrics for run in list_runs(person.repo)]
        assert metrics == ([{"accuracy": 0.75}] if number > 1 else [])
    ana.commit("new", content(9))
    ana.push()
    ana.sweep(thorough=True)
    assert not decode_root(place.read("root")).retiring
    ben.pull()
    assert ben.read("new") == content(9)
    ben.commit("newer", content(10))
    ben.push()
    ana.pull()
    assert ana.versions() == ben.versions()
    for person in people:
        assert check_remote(person.repo, "origin", read_data=True).is_clean
        assert fsck(person.repo, read_data=True).is_clean
        person.close()


def test_a_remotes_branch_is_a_name_of_a_version(tmp_path: Path) -> None:
    (tmp_path / "remote").mkdir()
    ana = Person("ana", tmp_path / "ana").init()
    ana.add_remote(parse_location(str(tmp_path / "remote")))
    first = ana.commit("a", content(1))
    ana.commit("b", content(2))
    ana.push()
    ana.commit("c", content(3))
    assert ana.repo.resolve("origin/main").commit.number == 2
    assert ana.repo.resolve("@origin/main~").id == first.id
    for name in ("origin/other", "origin/", "/main", "origin/main/x", "o" * 600 + "/main", "origin/" + "m" * 600):
        try:
            ana.repo.resolve(name)
        except UnknownVersion:
            continue
        raise AssertionError(name)
    ana.close()
