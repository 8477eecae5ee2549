"""Memory of push and fetch: it follows the size of a pack and of a transaction, not the number of files."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from support.many_files import commit_many
from vfs.backend.locations import Location
from vfs.remote import index_merging, known_objects
from vfs.remote.format import StoredPack
from vfs.repo.config import Config
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository
from vfs.repo.transfer import byte_transfer, object_set, remotes
from vfs.repo.transfer.fetch import fetch
from vfs.repo.transfer.object_set import ObjectSet
from vfs.repo.transfer.push import push
from vfs.repo.transfer.remotes import add_remote
from vfs.repo.transfer.sent_packs import SentPacks
from vfs.store.packs import pack_file
from vfs.store.packs.pack_file import PackKind, PackName

FEW, MANY = 3_000, 9_000
IN_MEMORY = 1_000
SIZE = 200
CACHE_BYTES = 1 << 20
ORIGIN = "origin"

R = TypeVar("R")


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_file, "PACK_OBJECTS_MAX", IN_MEMORY)
    monkeypatch.setattr(object_set, "RECENT_MAX", IN_MEMORY)
    monkeypatch.setattr(known_objects, "OBJECTS_MAX", IN_MEMORY)
    monkeypatch.setattr(byte_transfer, "REQUESTS", 2)
    for module in (remotes, index_merging):
        monkeypatch.setattr(module, "INDEX_BYTES_MAX", 100 * IN_MEMORY)


def _peaks(path: Path, files: int) -> tuple[int, int]:
    """Returns what a push and a fetch of so many files take, at most."""
    path.mkdir()
    location = Location(f"file://{path}/remote")
    config = Config(tiny_bytes_max=0)
    with Repository.init(path / "repo", config, cache_bytes_max=CACHE_BYTES) as repo:
        commit_many(repo, files, size=SIZE)
        add_remote(repo, ORIGIN, location, author="a")
        _, pushing = _peak(lambda: push(repo, ORIGIN, ["main"], author="a"))
    with Repository.init(path / "clone", config, cache_bytes_max=CACHE_BYTES) as repo:
        add_remote(repo, ORIGIN, location, author="a")
        fetched, fetching = _peak(lambda: fetch(repo, ORIGIN, author="a", contents=True))
        assert fsck(repo).is_clean
        assert fetched.bytes > FEW * SIZE
    return pushing, fetching


def _peak(action: Callable[[], R]) -> tuple[R, int]:
    """Returns what an action returns and how many bytes it takes, at most."""
    tracemalloc.start()
    try:
        return action(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    few, many = _peaks(tmp_path / "few", FEW), _peaks(tmp_path / "many", MANY)
    more = MANY - FEW
    assert many[0] - few[0] <= 100 * more
    assert many[1] - few[1] <= 100 * more


def test_tables_of_packs_that_were_sent_are_on_disk(tmp_path: Path) -> None:
    tables = {bytes([number]) * 16: bytes([number]) * 200_000 for number in range(20)}
    sent = SentPacks(tmp_path)
    sent.open()
    tracemalloc.start()
    try:
        for name, table in tables.items():
            sent.add(StoredPack(PackKind.DATA, name, 300_000, bytes(bytearray(table))))
        names = sent.names({PackName(PackKind.DATA, next(iter(tables)).hex())})
        assert {stored.name: stored.table for stored in sent.stored(names[:3])} == dict(list(tables.items())[1:4])
        assert tracemalloc.get_traced_memory()[0] <= 1_000_000
    finally:
        tracemalloc.stop()
    assert (len(sent), len(names)) == (20, 19)
    sent.close()
    assert not list(tmp_path.iterdir())


def test_a_set_of_objects_is_the_same_in_memory_and_on_disk(tmp_path: Path) -> None:
    ids = [number.to_bytes(32, "big") for number in range(3 * IN_MEMORY)]
    found = ObjectSet(tmp_path)
    assert all(found.add(one) for one in ids)
    assert not any(found.add(one) for one in ids)
    assert len(found) == len(ids)
    assert all(one in found for one in ids)
    assert bytes(32 * b"\xff") not in found
    assert list(found) == ids
    found.close()
    assert not list(tmp_path.iterdir())
