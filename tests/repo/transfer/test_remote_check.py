"""The check of a remote: what is missing or damaged is named by version and path, whatever a hostile remote says."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from support.sharing import Person, content
from vfs.backend.local import LocalBackend
from vfs.backend.locations import Location
from vfs.model.objects import Version
from vfs.remote.format import StoredPack, decode_index, decode_root, encode_index, encode_root
from vfs.repo.fsck import Report
from vfs.repo.transfer.remote_check import check_remote

People = Callable[[str], Person]


@pytest.fixture
def pushed(ana: Person) -> Person:
    """Returns a person who has pushed three versions, each in packs of its own."""
    for number in range(3):
        ana.write("last", content(10 + number, 60_000))
        ana.commit(f"f{number}", content(number))
        ana.push()
    return ana


def check(person: Person, *, read_data: bool = False) -> Report:
    return check_remote(person.repo, "origin", read_data=read_data, wrap=person.wrap)


def packs_of(place: LocalBackend, kind: str) -> list[str]:
    """Returns the keys of packs in the order in which they were pushed."""
    root = decode_root(place.read("root"))
    stored = [pack for name in root.indexes for pack in decode_index(name, place.read(name.key))]
    return [pack.pack.key for pack in stored if pack.pack.key.startswith(f"packs/{kind}/")]


def rewrite(place: LocalBackend, change: Callable[[list[StoredPack]], list[StoredPack]]) -> None:
    """Gives the remote another index, as an attacker who can write there could."""
    root = decode_root(place.read("root"))
    packs = [pack for name in root.indexes for pack in decode_index(name, place.read(name.key))]
    name, data = encode_index(change(packs))
    place.put(name.key, data)
    place.put("root", encode_root(msgspec.structs.replace(root, indexes=(name,))))


def test_a_whole_remote_is_clean(pushed: Person) -> None:
    report = check(pushed, read_data=True)
    assert report.is_clean, report.damage
    assert (report.versions, report.packs) == (3, 6)
    assert report.bytes_read > 300_000
    assert check(pushed).bytes_read < 20_000


def test_a_missing_data_pack_is_named_by_version_and_path(pushed: Person, place: LocalBackend) -> None:
    place.delete(packs_of(place, "data")[1])
    found = {(damage.path, damage.versions) for damage in check(pushed).damage if damage.path is not None}
    assert found == {(b"f1", ("v2", "v3")), (b"last", ("v2",))}


def test_damaged_contents_are_found_by_reading_them(pushed: Person, place: LocalBackend) -> None:
    key = packs_of(place, "data")[0]
    data = bytearray(place.read(key))
    data[len(data) // 4] ^= 1
    place.put(key, bytes(data))
    assert check(pushed).is_clean
    report = check(pushed, read_data=True)
    assert {damage.path for damage in report.damage} & {b"f0", b"last"}
    assert all(key in damage.reason for damage in report.damage)


def test_a_missing_tree_pack_and_a_cut_one_are_named(pushed: Person, place: LocalBackend) -> None:
    first, second, _ = packs_of(place, "tree")
    place.delete(first)
    place.put(second, place.read(second)[:-9])
    report = check(pushed)
    said = " ".join(damage.reason for damage in report.damage)
    assert f"{first} is missing" in said
    assert f"{second} has" in said
    assert "v3 needs the version" in said


def test_missing_and_damaged_small_objects_are_named(pushed: Person, place: LocalBackend) -> None:
    (name,) = decode_root(place.read("root")).indexes
    whole = place.read(name.key)
    place.put(name.key, whole[:-1] + b"\x00")
    assert any(name.key in damage.reason for damage in check(pushed).damage)
    place.delete(name.key)
    assert any(name.key in damage.reason for damage in check(pushed).damage)
    place.put(name.key, whole)
    root = place.read("root")
    for data in (b"", root[:-3], b"x" * 100, bytes(len(root))):
        place.put("root", data)
        assert not check(pushed).is_clean
    place.delete("root")
    assert not check(pushed).is_clean
    place.put("root", root)
    assert check(pushed).is_clean


def test_an_index_that_claims_what_is_not_there_is_found(pushed: Person, place: LocalBackend) -> None:
    rewrite(place, lambda packs: packs[:-1])
    assert not check(pushed).is_clean
    rewrite(place, lambda packs: [*packs, StoredPack(1, b"\x01" * 16, 1000, b"no table")])
    assert any("01010101" in damage.reason for damage in check(pushed).damage)


def test_a_remote_that_went_back_is_refused(pushed: Person, place: LocalBackend) -> None:
    before = place.read("root")
    pushed.commit("g", content(20))
    pushed.push()
    place.put("root", before)
    assert "went back" in check(pushed).damage[0].reason


def test_a_pack_in_use_that_a_sweep_may_remove_is_found(pushed: Person, place: LocalBackend) -> None:
    root = decode_root(place.read("root"))
    key = packs_of(place, "data")[0]
    place.put("root", encode_root(msgspec.structs.replace(root, tombstones={key: 1})))
    assert any("a sweep may remove it" in damage.reason for damage in check(pushed).damage)


def test_a_clone_checks_its_remote(pushed: Person, people: People, location: Location, place: LocalBackend) -> None:
    ben = people("ben")
    ben.clone(location)
    assert check(ben, read_data=True).is_clean
    pushed.sweep(thorough=True)
    assert check(ben, read_data=True).is_clean
    head = ben.repo.head("main")
    assert isinstance(head, Version)
    del place
