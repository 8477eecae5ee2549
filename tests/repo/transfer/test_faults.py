"""Whole pushes and clones against a real server, over a network that fails in every way that a proxy can make it."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.faulty_proxy import Asked, Failing, FaultyProxy
from support.object_server import lying_server, own_server
from support.sharing import Person, content
from vfs.errors import Corrupt
from vfs.repo.fsck import fsck
from vfs.repo.transfer.remotes import SingleWriter


@pytest.fixture
def ana(tmp_path: Path) -> Iterator[Person]:
    person = Person("ana", tmp_path / "ana").init()
    yield person
    person.close()


@pytest.fixture
def ben(tmp_path: Path) -> Iterator[Person]:
    person = Person("ben", tmp_path / "ben")
    yield person
    person.close()


def _fill(person: Person, files: int = 6) -> None:
    for number in range(files):
        person.write(f"f{number}", content(number, 200_000))
    person.commit("last", b"last")


def test_a_push_and_a_clone_against_a_real_server(proxy: FaultyProxy, ana: Person, ben: Person) -> None:
    location = proxy.location()
    _fill(ana)
    ana.add_remote(location)
    ana.push()
    proxy.clear()
    assert ana.push().refs == []
    assert [asked.method for asked in proxy.asked] == ["GET"]
    for number in range(2):
        ana.write(f"f{number}", content(100 + number, 200_000))
    ana.commit("more", b"more")
    proxy.clear()
    done = ana.push()
    assert done.bytes < 1.05 * 400_000 + 10_000
    assert len(proxy.asked) <= 8
    assert not [asked for asked in proxy.asked if "list-type" in asked.path]
    proxy.clear()
    ben.clone(location)
    assert len(proxy.asked) <= 10
    assert not [asked for asked in proxy.asked if "list-type" in asked.path]
    assert proxy.received < 60_000
    assert [ben.read(f"f{number}") for number in (0, 5)] == [content(100, 200_000), content(5, 200_000)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_push_and_a_clone_through_storms(proxy: FaultyProxy, ana: Person, ben: Person, seed: int) -> None:
    """A third of all requests fail, conditional ones too: refused, cut off before or after, answered by half."""
    chance = random.Random(seed)
    failures = (Failing.BUSY, Failing.REFUSED, Failing.UNANSWERED, Failing.CUT)
    location = proxy.location()
    _fill(ana)
    ana.add_remote(location, is_tested=False)

    def decide(_asked: Asked) -> Failing | None:
        return chance.choice(failures) if chance.random() < 0.33 else None

    proxy.decide = decide
    for number in range(3):
        ana.commit("g", content(number))
        while ana.repo.refs.get("remotes/origin/main") != ana.versions()[-1]:
            try:
                ana.push()
            except OSError:
                continue
    while True:
        try:
            ben.clone(location, contents=True)
            break
        except OSError:
            continue
    proxy.decide = lambda _asked: None
    assert ben.versions() == ana.versions()
    assert len(ben.versions()) == 4
    assert fsck(ben.repo, read_data=True).is_clean


@pytest.mark.parametrize("failing", [Failing.FLIPPED, Failing.SHIFTED])
def test_wrong_bytes_are_never_believed(proxy: FaultyProxy, ana: Person, ben: Person, failing: Failing) -> None:
    location = proxy.location()
    _fill(ana)
    ana.add_remote(location, is_tested=False)
    ana.push()
    ben.clone(location)
    proxy.decide = lambda asked: failing if "/packs/data/" in asked.path and asked.method == "GET" else None
    if failing is Failing.FLIPPED:
        with pytest.raises(Corrupt):
            ben.fetch(contents=True)
    refused = 0
    for number in range(6):
        try:
            assert ben.read(f"f{number}") == content(number, 200_000)
        except Corrupt:
            refused += 1
    assert refused
    # What came wrong is not kept.
    proxy.decide = lambda _asked: None
    assert [ben.read(f"f{number}") for number in range(6)] == [content(number, 200_000) for number in range(6)]
    assert not list((ben.path / "packs" / "data").glob("*/*.pack"))


@pytest.mark.slow
def test_a_server_that_is_killed_during_pushes_loses_nothing_acknowledged(
    tmp_path: Path, ana: Person, ben: Person
) -> None:
    """Killed at any moment of a push, twice; the next push ends what was begun."""
    with own_server(tmp_path / "server") as server:
        location = server.location("repo")
        ana.add_remote(location, is_tested=False)
        for number in range(2):
            ana.commit("f", content(number, 400_000))
            killer = threading.Timer(random.Random(number).uniform(0.0, 0.15), server.kill)
            killer.start()
            with suppress(OSError):
                ana.push()
            killer.join()
            server.start()
        while not wait_for_push(ana):
            continue
        ben.clone(location, contents=True)
        assert ben.versions() == ana.versions()
        assert len(ben.versions()) == 2
        assert fsck(ben.repo, read_data=True).is_clean


def wait_for_push(person: Person) -> bool:
    """Pushes; returns False where the server, just started, cannot take it yet."""
    try:
        person.push()
    except OSError:
        return False
    return True


@pytest.mark.slow
def test_a_place_that_lies_is_refused_unless_one_machine_alone_writes(tmp_path: Path, ana: Person) -> None:
    with lying_server(tmp_path) as server:
        with pytest.raises(SingleWriter, match="not safe for several machines"):
            ana.add_remote(server.location("x"))
        assert not [name for name, _ in ana.repo.refs.settings("remote/")]
