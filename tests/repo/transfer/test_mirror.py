"""Mirrors: what making one and looking for new versions costs in requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.faulty_proxy import FaultyProxy, faulty_proxy
from support.object_server import object_server
from support.sharing import Person, content
from vfs.repo.repository import Repository
from vfs.repo.transfer.mirror import Mirror, follow, open_mirror
from vfs.repo.transfer.remotes import remote_settings
from vfs.store.refs.operation import BRANCHES

MOUNTS = 50


@pytest.fixture
def proxy() -> Iterator[FaultyProxy]:
    with faulty_proxy(object_server()) as made:
        yield made


@pytest.fixture
def ana(tmp_path: Path, proxy: FaultyProxy) -> Iterator[Person]:
    person = Person("ana", tmp_path / "ana").init()
    person.commit("small", content(1, 60_000))
    person.add_remote(proxy.location())
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
