"""Fetch and clone: everything is there, nothing is believed, and a remote that went back is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from support.sharing import Person, content
from vfs.backend.local import LocalBackend
from vfs.backend.locations import Location
from vfs.backend.wrappers import CountingBackend, Fault, FaultBackend, Request
from vfs.errors import Conflict, Corrupt, VfsError
from vfs.remote.format import decode_index, decode_root, encode_index, encode_root
from vfs.remote.rollback_check import RolledBack
from vfs.repo.repository import Repository
from vfs.repo.retention.gc import forget, gc
from vfs.repo.tags import create_tag
from vfs.repo.transfer.fetch import fetch

People = Callable[[str], Person]


def _packs(person: Person, kind: str) -> int:
    return len(list((person.path / "packs" / kind).glob("*/*.pack")))


def test_a_clone_has_all_versions_and_reads_contents_when_they_are_needed(
    ana: Person, people: People, location: Location, counted: CountingBackend
) -> None:
    for number in range(100):
        ana.write(f"f{number}", content(number))
    ana.commit("last", content(1000))
    ana.commit("f1", content(1001))
    ana.push()
    ben = people("ben")
    counted.counts.requests.clear()
    counted.counts.bytes_read = 0
    done = ben.clone(location)
    assert counted.counts.bytes_read < 100 * 50_000 * 0.005 + 20_000
    assert sum(count for name, count in counted.counts.requests.items() if name != "size") <= 10
    assert counted.counts.requests["list"] == 0
    assert done.fetched.bytes_elsewhere > 100 * 50_000
    assert _packs(ben, "data") == 0
    assert ben.versions() == ana.versions()


def test_contents_of_a_clone_are_read_from_the_remote_and_kept(ana: Person, people: People, location: Location) -> None:
    ana.commit("a", content(1, 3_000_000))
    ana.push()
    ben = people("ben")
    ben.clone(location)
    assert ben.read("a") == content(1, 3_000_000)
    data = ben.path / "segments" / "data"
    assert data.stat().st_blocks * 512 >= 3_000_000
    remote = Path(location.url.removeprefix("file://"))
    remote.rename(remote.with_name("away"))
    ben.reopen()
    assert ben.read("a") == content(1, 3_000_000)
    remote.with_name("away").rename(remote)
    for at in range(0, data.stat().st_size, 100_000):
        with data.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes((byte[0] ^ 1,)))
    ben.reopen()
    assert ben.read("a") == content(1, 3_000_000)


@pytest.mark.parametrize("depth", [1, 2])
def test_depth_brings_the_contents_of_the_newest_versions(
    ana: Person, people: People, location: Location, depth: int
) -> None:
    for number in range(3):
        ana.commit("a", content(number, 400_000))
        ana.push()
    ben = people("ben")
    ben.clone(location, depth=depth)
    assert _packs(ben, "data") == depth
    assert ben.read("a") == content(2, 400_000)
    ben.fetch(contents=True)
    assert _packs(ben, "data") == 3


def test_a_clone_with_all_contents_needs_its_remote_no_more(
    ana: Person, people: People, location: Location, place: LocalBackend
) -> None:
    ana.commit("a", content(1, 400_000))
    ana.push()
    ben = people("ben")
    ben.clone(location, contents=True)
    for key, _ in list(place.list("packs/")):
        place.delete(key)
    assert ben.read("a") == content(1, 400_000)
    assert "lazy" not in ben.repo.config.features


def test_a_clone_that_was_cut_off_goes_on(
    ana: Person, people: People, location: Location, counted: CountingBackend
) -> None:
    ana.commit("a", content(1, 400_000))
    ana.push()
    ben = people("ben")
    fail = True

    def fault(name: Request, key: str) -> Fault | None:
        return Fault(OSError(5, "the cable")) if fail and key.startswith("packs/tree") else None

    ben.wrap = lambda _backend: FaultBackend(counted, fault)
    with pytest.raises(OSError, match="the cable"):
        ben.clone(location, contents=True)
    fail = False
    ben.clone(location, contents=True)
    assert ben.versions() == ana.versions()


def test_the_index_of_a_clone_is_made_again(ana: Person, people: People, location: Location) -> None:
    ana.commit("a", content(1, 400_000))
    ana.push()
    ben = people("ben")
    ben.clone(location)
    before = {key: place._replace(pack=0) for key, place in ben.repo.index.locations()}
    elsewhere = [row.name for row in ben.repo.index.packs() if not row.is_here]
    ben.overlay.close()
    ben.repo.rebuild_index()
    assert {key: place._replace(pack=0) for key, place in ben.repo.index.locations()} == before
    assert [row.name for row in ben.repo.index.packs() if not row.is_here] == elsewhere
    ben.reopen()


def test_a_sweep_in_a_clone_keeps_what_the_remote_has(ana: Person, people: People, location: Location) -> None:
    ana.commit("a", content(1, 400_000))
    ana.push()
    ben = people("ben")
    ben.clone(location)
    gc(ben.repo, grace_s=0, undo_s=0, thorough=True)
    ben.commit("b", content(2))
    ben.push()
    ana.pull()
    assert ana.read("b") == content(2)


def test_what_only_a_remote_claims_to_have_is_stored_by_who_writes_it(
    ana: Person, people: People, location: Location
) -> None:
    ana.commit("a", content(1, 400_000))
    ana.push()
    ben = people("ben")
    ben.clone(location)
    ben.commit("copy", content(1, 400_000))
    assert sum(path.stat().st_size for path in (ben.path / "packs" / "data").glob("*/*.pack")) > 400_000
    sent = ben.push()
    assert sent.bytes < 50_000


def test_tags_come_and_those_of_other_versions_are_left(ana: Person, people: People, location: Location) -> None:
    first = ana.commit("a", content(1))
    create_tag(ana.repo, "one", first, author="ana")
    create_tag(ana.repo, "two", first, author="ana")
    ana.push(tags=True)
    ben = people("ben")
    ben.clone(location)
    assert ben.repo.refs.get("tags/one") == first.id
    second = ben.commit("b", content(2))
    create_tag(ben.repo, "two", second, author="ben", replace=True)
    done = ben.fetch()
    assert done.kept == ["two"]
    assert ben.repo.refs.get("tags/two") == second.id


def test_forgotten_versions_are_forgotten_everywhere(ana: Person, people: People, location: Location) -> None:
    first = ana.commit("a", content(1))
    ana.commit("a", content(2))
    ana.push()
    ben = people("ben")
    ben.clone(location)
    forget(ana.repo, [first], author="ana")
    ana.push()
    ben.fetch()
    assert ben.repo.refs.is_forgotten(first.id)
    with pytest.raises(VfsError):
        ben.repo.resolve("v1")


def test_a_remote_that_went_back_is_refused_by_name(ana: Person, place: LocalBackend) -> None:
    ana.commit("a", content(1))
    ana.push()
    old = place.read("root")
    ana.commit("b", content(2))
    ana.push()
    place.put("root", old)
    with pytest.raises(RolledBack, match="went back from push 2 to 1"):
        ana.fetch()
    with pytest.raises(RolledBack):
        ana.push()
    root = decode_root(old)
    other = msgspec.structs.replace(root, seq=5, nonce="f" * 16, chain=(*root.chain, *("e" * 16,) * 3, "f" * 16))
    place.put("root", encode_root(other))
    with pytest.raises(RolledBack, match="another history"):
        ana.fetch()


def test_another_repository_at_the_address_is_refused(ana: Person, people: People, location: Location) -> None:
    eve = people("eve").init()
    with pytest.raises(Conflict, match="another repository"):
        eve.add_remote(location)


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


@pytest.mark.parametrize("prefix", ["packs/tree/", "index/", "root", "vfs-remote.json"])
def test_bytes_that_do_not_match_their_hash_are_refused(
    ana: Person, people: People, location: Location, place: LocalBackend, prefix: str
) -> None:
    ana.commit("a", content(1))
    ana.push()
    for key, _ in list(place.list(prefix)):
        data = place.read(key)
        # A flip in the name of a field that has its default changes nothing.
        place.put(key, _flip(data, data.index(b'"id"') + 10 if prefix.endswith(".json") else len(data) // 2))
    ben = people("ben")
    with pytest.raises(Corrupt):
        ben.clone(location)
    ben.path = ben.path.with_name("empty")
    ben.init()


def test_a_remote_that_lists_packs_without_what_their_trees_name_is_refused(
    ana: Person, people: People, location: Location, place: LocalBackend
) -> None:
    ana.commit("a", content(1, 400_000))
    ana.push()
    root = decode_root(place.read("root"))
    (name,) = root.indexes
    packs = decode_index(name, place.read(name.key))
    name, data = encode_index([pack for pack in packs if pack.kind == 2])
    place.put(name.key, data)
    place.put("root", encode_root(msgspec.structs.replace(root, indexes=(name,))))
    ben = people("ben")
    with pytest.raises(Corrupt, match="names an object"):
        ben.clone(location)
    with Repository.open(ben.path) as repo:
        assert list(repo.refs.list()) == []
    ben.path = ben.path.with_name("empty")
    ben.init()


def test_a_pack_that_a_killed_fetch_has_left_has_a_durable_name_before_a_ref_needs_it(
    ana: Person, people: People, location: Location, place: LocalBackend
) -> None:
    ana.commit("a", content(1))
    ana.push()
    ben = people("ben")
    ben.clone(location, contents=True)
    ana.commit("b", content(2))
    ana.push()
    left = [key for key, _ in place.list("packs/") if not (ben.path / key).exists()]
    for key in left:
        (ben.path / key).parent.mkdir(parents=True, exist_ok=True)
        (ben.path / key).write_bytes(place.read(key))
    ben.close()
    steps: list[str] = []
    with Repository.open(ben.path, on_step=steps.append) as repo:
        fetch(repo, "origin", author="ben", contents=True, wrap=ben.wrap)
    ben.reopen()
    log = next(number for number, name in enumerate(steps) if name.startswith("append "))
    assert left
    assert {f"fsync directory of {key}" for key in left} <= set(steps[:log])
    assert not {f"rename {key}" for key in left} & set(steps)
