"""Mirrors of remotes that lie: a mirror is made before its trees are walked, so each lie is refused when it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from support.hostile import ENDLESS, IMPOSSIBLE, Build, make
from support.sharing import Person, content
from vfs.backend.local import LocalBackend
from vfs.backend.locations import Location
from vfs.errors import VfsError
from vfs.model.ids import ID_BYTES, CommitId
from vfs.model.objects import Kind
from vfs.remote.format import FORMAT, Root, StoredPack, decode_index, decode_root, encode_index, encode_root
from vfs.remote.remote import Remote, new_nonce
from vfs.repo.repository import Repository
from vfs.repo.transfer.mirror import follow, open_mirror
from vfs.repo.transfer.remotes import config_of
from vfs.store.packs.blocks import HEAD_BYTES
from vfs.store.packs.pack_file import PackKind, table_of
from vfs.store.trees.directories import file_content, walk
from vfs.store.trees.file_reader import FileReader

FILES = 8
SIZE = 70_000
RECORD_BYTES = 37
BUILDS: dict[str, Build] = {**IMPOSSIBLE, **ENDLESS}
PATHS_MAX = 200
WANTED = {b"f%d" % number: content(number, SIZE) for number in range(FILES)}


def _published(path: Path, place: LocalBackend, head: CommitId) -> None:
    """Makes a remote of a repository, whatever that says, as no push would."""
    with Repository.open(path) as repo:
        remote = Remote(place)
        remote.create(config_of(repo))
        packs = []
        for row in repo.index.packs():
            place.put(row.name.key, repo.backend.read(row.name.key))
            table = table_of(repo.backend, row.name, row.size)
            packs.append(StoredPack(int(row.name.kind), bytes.fromhex(row.name.hex), row.size, table))
        name, data = encode_index(packs)
        place.put(name.key, data)
        nonce = new_nonce()
        root = Root(format=FORMAT, id=repo.config.id, seq=1, nonce=nonce, chain=(nonce,), indexes=(name,))
        place.put("root", encode_root(msgspec.structs.replace(root, refs={"branches/main": head.hex()})))


def _read_all(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yields names and bytes of the newest version, as a mount reads them."""
    with Repository.open(path) as repo:
        version = repo.head("main")
        assert version is not None
        list(islice(repo.history(), PATHS_MAX))
        for name, directory, entry in islice(walk(repo.store, version.commit.root), PATHS_MAX):
            if entry.kind == Kind.FILE:
                reader = FileReader(repo.store, file_content(repo.store, directory, entry))
                yield name, bytes(reader.read(0, min(entry.size, 1 << 20)))


@pytest.mark.parametrize("name", BUILDS)
def test_what_cannot_be_is_refused_when_it_is_read(name: str, place: LocalBackend, location: Location) -> None:
    tmp_path = place.root.parent
    head = make(tmp_path / "repo", BUILDS[name])
    _published(tmp_path / "repo", place, head)
    with suppress(VfsError):
        mirror = open_mirror(location, tmp_path / "cache")
        with suppress(VfsError):
            for _ in _read_all(mirror.path):
                pass
        with suppress(VfsError):
            follow(mirror.path)
    assert {path.name for path in tmp_path.iterdir()} <= {"repo", "remote", "cache"}


@pytest.fixture
def pushed(ana: Person) -> Person:
    for name, data in WANTED.items():
        ana.write(name.decode(), data)
    ana.commit("g", content(99, 1000))
    ana.push()
    return ana


Lie = Callable[[LocalBackend], None]


def _packs(place: LocalBackend) -> list[StoredPack]:
    root = decode_root(place.read("root"))
    return [pack for name in root.indexes for pack in decode_index(name, place.read(name.key))]


def _with_index(place: LocalBackend, packs: list[StoredPack]) -> None:
    root = decode_root(place.read("root"))
    name, data = encode_index(packs)
    place.put(name.key, data)
    place.put("root", encode_root(msgspec.structs.replace(root, indexes=(name,))))


def _of_packs(kind: PackKind, change: Callable[[bytes], bytes | None]) -> Lie:
    """Changes the packs themselves."""

    def lie(place: LocalBackend) -> None:
        for pack in _packs(place):
            if pack.kind == kind:
                key = pack.pack.key
                data = change(place.read(key))
                place.delete(key)
                if data is not None:
                    place.put(key, data)

    return lie


def _of_tables(kind: PackKind, change: Callable[[StoredPack], StoredPack]) -> Lie:
    """Changes what the index says of packs."""

    def lie(place: LocalBackend) -> None:
        _with_index(place, [change(pack) if pack.kind == kind else pack for pack in _packs(place)])

    return lie


def _flipped(data: bytes) -> bytes:
    # A bit of every KiB: in headers, in payloads, in the trailer.
    changed = bytearray(data)
    for at in range(100, len(changed), 1024):
        changed[at] ^= 1
    return bytes(changed)


def _renamed(pack: StoredPack) -> StoredPack:
    """Returns a pack of which the index says that each object is the next one."""
    ids = [stored.id for block in pack.info().blocks for stored in block.objects]
    others = iter([*ids[1:], ids[0]])
    table, at = bytearray(pack.table), 0
    for block in pack.info().blocks:
        records = at + HEAD_BYTES
        for number in range(len(block.objects)):
            end = records + (number + 1) * RECORD_BYTES
            table[end - ID_BYTES : end] = next(others)
        end = records + len(block.objects) * RECORD_BYTES
        check = crc32(table[records:end], crc32(table[at : records - 4]))
        table[records - 4 : records] = check.to_bytes(4, "little")
        at = end
    return msgspec.structs.replace(pack, table=bytes(table))


def _of_root(**changes: object) -> Lie:
    def lie(place: LocalBackend) -> None:
        root = decode_root(place.read("root"))
        place.put("root", encode_root(msgspec.structs.replace(root, **changes)))

    return lie


def _of_index_name(**changes: object) -> Lie:
    def lie(place: LocalBackend) -> None:
        root = decode_root(place.read("root"))
        names = tuple(msgspec.structs.replace(name, **changes) for name in root.indexes)
        place.put("root", encode_root(msgspec.structs.replace(root, indexes=names)))

    return lie


LIES: dict[str, Lie] = {
    "flipped bits in contents": _of_packs(PackKind.DATA, _flipped),
    "flipped bits in trees": _of_packs(PackKind.TREE, _flipped),
    "contents cut short": _of_packs(PackKind.DATA, lambda data: data[: len(data) // 10]),
    "trees cut short": _of_packs(PackKind.TREE, lambda data: data[: len(data) // 2]),
    "contents longer": _of_packs(PackKind.DATA, lambda data: data[:1000] + data),
    "no contents": _of_packs(PackKind.DATA, lambda _data: None),
    "no trees": _of_packs(PackKind.TREE, lambda _data: None),
    "empty contents": _of_packs(PackKind.DATA, lambda _data: b""),
    "contents elsewhere": _of_tables(PackKind.DATA, _renamed),
    "trees elsewhere": _of_tables(PackKind.TREE, _renamed),
    "larger contents": _of_tables(PackKind.DATA, lambda pack: msgspec.structs.replace(pack, size=pack.size + 1)),
    "smaller trees": _of_tables(PackKind.TREE, lambda pack: msgspec.structs.replace(pack, size=pack.size - 1)),
    "table of nothing": _of_tables(PackKind.DATA, lambda pack: msgspec.structs.replace(pack, table=b"")),
    "contents that are trees": _of_tables(PackKind.DATA, lambda pack: msgspec.structs.replace(pack, kind=2)),
    "an index that is missing": _of_index_name(name="0" * 32),
    "a smaller index": _of_index_name(size=10),
    "an index with more packs": _of_index_name(packs=9),
    "no index": _of_root(indexes=()),
    "a commit that is missing": _of_root(refs={"branches/main": "ab" * 32}),
}


@pytest.mark.parametrize("lie", LIES)
def test_no_other_bytes_are_served(lie: str, pushed: Person, place: LocalBackend, location: Location) -> None:
    LIES[lie](place)
    found: dict[bytes, bytes] = {}
    with pytest.raises(VfsError, match=r"\w"):
        found.update(_read_all(open_mirror(location, place.root.parent / "cache").path))
    assert found.items() <= {**WANTED, b"g": content(99, 1000)}.items()


def test_a_mirror_refuses_a_remote_that_went_back_and_shows_what_it_had(
    pushed: Person, place: LocalBackend, location: Location
) -> None:
    old = place.read("root")
    pushed.commit("f0", b"newer")
    pushed.push()
    mirror = open_mirror(location, place.root.parent / "cache")
    assert dict(_read_all(mirror.path))[b"f0"] == b"newer"
    place.put("root", old)
    for _ in range(2):
        with pytest.raises(VfsError, match="went back from push 2 to 1"):
            open_mirror(location, place.root.parent / "cache")
        with pytest.raises(VfsError, match="went back from push 2 to 1"):
            follow(mirror.path)
    assert dict(_read_all(mirror.path))[b"f0"] == b"newer"
