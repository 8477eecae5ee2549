"""Mirrors: what making one and looking for new versions costs in requests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from support.faulty_proxy import FaultyProxy
from support.sharing import Person, content
from vfs.backend.locations import open_location
from vfs.errors import Corrupt
from vfs.remote.format import decode_index, decode_root, encode_index, encode_root
from vfs.repo.repository import Repository
from vfs.repo.transfer.mirror import Mirror, follow, is_due, open_mirror
from vfs.repo.transfer.remotes import remote_settings
from vfs.store.refs.operation import BRANCHES
from vfs.store.trees.directories import file_content, find_entry
from vfs.store.trees.file_reader import FileReader

MOUNTS = 50


@pytest.fixture
def ana(tmp_path: Path, proxy: FaultyProxy) -> Iterator[Person]:
    person = Person("ana", tmp_path / "ana").init()
    person.commit("small", content(1, 60_000))
    person.add_remote(proxy.location(), is_tested=False)
    person.push()
    proxy.clear()
    yield person
    person.close()


def _opened(ana: Person, tmp_path: Path) -> Mirror:
    return open_mirror(remote_settings(ana.repo, "origin").location, tmp_path / "cache")


def test_a_mirror_is_made_with_one_request_for_each_object(ana: Person, proxy: FaultyProxy, tmp_path: Path) -> None:
    made = _opened(ana, tmp_path)
    paths = [asked.path for asked in proxy.asked]
    assert len(paths) == len(set(paths)) <= 6
    with Repository.open(made.path) as repo:
        assert [ref for ref, _ in repo.refs.list(BRANCHES)] == ["branches/main"]


def test_many_mounts_of_an_unchanged_remote_ask_once_each_and_get_no_body(
    ana: Person, proxy: FaultyProxy, tmp_path: Path
) -> None:
    first = _opened(ana, tmp_path)
    proxy.clear()
    assert {_opened(ana, tmp_path) for _ in range(MOUNTS)} == {first}
    assert len(proxy.asked) == MOUNTS
    assert {(asked.method, asked.path.endswith("/root")) for asked in proxy.asked} == {("GET", True)}
    assert proxy.received == 0


def test_a_mirror_follows_what_was_pushed_meanwhile(ana: Person, proxy: FaultyProxy, tmp_path: Path) -> None:
    mirror = _opened(ana, tmp_path)
    assert not follow(mirror.path)
    ana.commit("small", content(2, 60_000))
    ana.push()
    assert follow(mirror.path)
    with Repository.open(mirror.path) as repo:
        assert repo.refs.get("branches/main") == ana.repo.refs.get("branches/main")
    proxy.clear()
    assert not follow(mirror.path)
    assert proxy.received == 0


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"location": 3}'])
def test_a_damaged_note_of_what_was_polled_is_made_again(ana: Person, tmp_path: Path, text: bytes) -> None:
    mirror = _opened(ana, tmp_path)
    (mirror.path / "polled").write_bytes(text)
    assert not follow(mirror.path)
    assert (mirror.path / "polled").read_bytes() != text


def _read(mirror: Mirror, name: bytes) -> bytes:
    with Repository.open(mirror.path) as repo:
        version = repo.head("main")
        assert version is not None
        entry = find_entry(repo.store, version.commit.root, name)
        assert entry is not None
        return bytes(FileReader(repo.store, file_content(repo.store, version.commit.root, entry)).read(0, entry.size))


def _mark(mirror: Mirror) -> Path:
    return mirror.path.with_name(mirror.path.name + ".unsettled")


def test_a_mirror_of_a_mount_is_not_synced_and_is_durable_after_the_first_poll(
    ana: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def count(descriptor: int) -> None:
        synced.append(descriptor)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", count)
    mirror = _opened(ana, tmp_path)
    assert _mark(mirror).exists()
    assert not synced
    assert not follow(mirror.path)
    assert not _mark(mirror).exists()
    assert len(synced) > len(list(mirror.path.glob("packs/tree/*/*.pack")))


@pytest.mark.parametrize("mark", [b"another start of the machine", b"", b"\xff"])
def test_what_a_power_cut_leaves_of_a_mirror_is_fetched_again_but_for_what_was_read(
    ana: Person, proxy: FaultyProxy, tmp_path: Path, mark: bytes
) -> None:
    mirror = _opened(ana, tmp_path)
    assert _read(mirror, b"small") == content(1, 60_000)
    _mark(mirror).write_bytes(mark)
    for torn in (mirror.path / "index" / "data.mdb", mirror.path / "vfs.json", *mirror.path.glob("packs/tree/*/*")):
        torn.write_bytes(b"")
    assert _opened(ana, tmp_path) == mirror
    proxy.clear()
    assert _read(mirror, b"small") == content(1, 60_000)
    assert not proxy.asked
    assert not mirror.path.with_name(mirror.path.name + ".segments").exists()


def test_a_mirror_that_is_durable_stays_after_the_machine_was_started_again(
    ana: Person, proxy: FaultyProxy, tmp_path: Path
) -> None:
    mirror = _opened(ana, tmp_path)
    follow(mirror.path)
    proxy.clear()
    assert _opened(ana, tmp_path) == mirror
    assert [asked.method for asked in proxy.asked] == ["GET"]


def test_a_poll_refuses_a_remote_whose_trees_name_what_it_does_not_have(ana: Person, tmp_path: Path) -> None:
    backend = open_location(remote_settings(ana.repo, "origin").location)
    root = decode_root(backend.read("root"))
    (name,) = root.indexes
    name, data = encode_index([pack for pack in decode_index(name, backend.read(name.key)) if pack.kind == 2])
    backend.put(name.key, data)
    backend.put("root", encode_root(msgspec.structs.replace(root, indexes=(name,))))
    mirror = _opened(ana, tmp_path)
    with pytest.raises(Corrupt, match="names an object"):
        follow(mirror.path)
    assert _mark(mirror).exists()


def test_one_process_polls_in_each_interval_also_after_the_clock_was_put_back(tmp_path: Path) -> None:
    assert is_due(tmp_path, 3600.0)
    assert not is_due(tmp_path, 3600.0)
    (polled,) = tmp_path.iterdir()
    later = polled.stat().st_mtime_ns + 10**9 * 86400
    os.utime(polled, ns=(later, later))
    assert is_due(tmp_path, 3600.0)
    assert not is_due(tmp_path, 3600.0)
