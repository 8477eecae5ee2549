"""What a remote holds, as far as this repository has seen: its index objects, kept here, and a table made from them.

The table answers whether the remote has an object, and in which pack. It can be deleted: the index objects are read
again. It follows the root exactly, since a pack that the remote gave up must be sent again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from vfs.backend.protocol import MissingKey, ObjectBackend
from vfs.errors import Corrupt
from vfs.remote.format import INDEX_PREFIX, IndexName, StoredPack, decode_index, index_name
from vfs.remote.remote import Remote
from vfs.store.lmdb_environment import DamagedTables
from vfs.store.lmdb_tables import Tables, discard
from vfs.store.packs.pack_file import PackInfo, PackKind, PackName

KEPT = "remotes"
"""Below this a repository keeps what it has seen of its remotes."""
_PACKS, _IDS, _NUMBERS, _CHECKED = "packs", "ids", "numbers", "checked"
_TABLES = (_PACKS, _IDS, _NUMBERS, _CHECKED)
_NUMBER = struct.Struct(">I")
_WITHOUT_IDS = _NUMBER.pack(0)
"""In place of a pack's number: its objects are not in the table yet."""
REQUESTS, LARGE_REQUESTS = 8, 2
LARGE_BYTES = 1024 * 1024
"""Index objects that are fetched at the same time: large ones take memory, twice their size each."""
OBJECTS_MAX = 10_000
"""How many objects one transaction adds, and those of a pack."""
_ID_BYTES = 16
"""Enough to tell objects apart: no two hashes can be made to agree in 128 bits."""


class Known:
    """The packs and objects of one remote. Used by one process at a time, as a context manager."""

    def __init__(self, directory: Path, local: ObjectBackend, prefix: str) -> None:
        """`directory`: of the table. `local`, `prefix`: where index objects are kept, `remotes/NAME`."""
        self._directory = directory
        self._local = local
        self._prefix = prefix
        self._has_all_ids = False
        try:
            self._tables = Tables(directory, _TABLES)
        except DamagedTables:
            discard(directory)
            self._tables = Tables(directory, _TABLES)

    def __enter__(self) -> Known:
        return self

    def __exit__(self, *_: object) -> None:
        self._tables.close()

    def has(self, object_id: bytes) -> bool:
        """Returns True if the remote has an object, and therefore everything that it names."""
        if not self._has_all_ids:
            self._add_ids()
        return self._tables.get(_IDS, object_id[:_ID_BYTES]) is not None

    def packs(self) -> set[PackName]:
        """Returns the packs that the remote has."""
        return {_pack_of(key) for key, _ in self._tables.scan(_PACKS)}

    def absorb(self, remote: Remote, indexes: Sequence[IndexName]) -> None:
        """Follows the index objects of a root, reading those that are new. Raises Corrupt, OSError."""
        known = self.packs()
        if known - {stored.pack for index in indexes for stored in self.stored(remote, index)}:
            # The remote gave packs up: which objects it still has elsewhere only the rest can tell.
            with self._tables.write() as batch:
                for table in _TABLES:
                    batch.clear(table)
            known = set()
        packs = (stored for index in indexes for stored in self.stored(remote, index))
        fresh = [_key_of(stored.pack) for stored in packs if stored.pack not in known]
        if fresh:
            self._has_all_ids = False
            with self._tables.write() as batch:
                for key in fresh:
                    batch.put(_PACKS, key, _WITHOUT_IDS)
        self._drop_others(indexes)

    def bring(self, remote: Remote, indexes: Sequence[IndexName]) -> None:
        """Fetches the index objects that are not kept here, several at a time. Raises as `stored` does."""
        kept = {key for key, _ in self._local.list(f"{self._prefix}/index/")}
        missing = [index for index in indexes if f"{self._prefix}/{index.key}" not in kept]
        large = [index for index in missing if index.size > LARGE_BYTES]
        small = [index for index in missing if index.size <= LARGE_BYTES]

        def fetch(index: IndexName) -> None:
            # Without its bytes: results stay until the last one is there.
            self._fetch(remote, index)

        for group, requests in ((small, REQUESTS), (large, LARGE_REQUESTS)):
            with ThreadPoolExecutor(requests, thread_name_prefix="indexes") as threads:
                for _ in threads.map(fetch, group):
                    pass

    def _add_ids(self) -> None:
        """Adds the objects of packs that were absorbed: a push alone asks for them."""
        lacking = {_pack_of(key) for key, value in self._tables.scan(_PACKS) if value == _WITHOUT_IDS}
        if lacking:
            packs = _packs_below(self._local, f"{self._prefix}/")
            self.add(stored.info() for stored in packs if stored.pack in lacking)
        self._has_all_ids = True

    def unchecked(self, packs: Iterable[PackName]) -> set[PackName]:
        """Returns the packs of which no fetch has found yet that all that they name is there."""
        return {name for name in packs if self._tables.get(_CHECKED, _key_of(name)) is None}

    def mark_checked(self, packs: Iterable[PackName]) -> None:
        """Notes that all that packs name is there."""
        with self._tables.write() as batch:
            for name in packs:
                batch.put(_CHECKED, _key_of(name), b"1")

    def stored(self, remote: Remote, index: IndexName) -> list[StoredPack]:
        """Returns the packs of an index object, read from here or from the remote."""
        key = f"{self._prefix}/{index.key}"
        try:
            return decode_index(index, self._local.read(key))
        except (MissingKey, Corrupt):
            return decode_index(index, self._fetch(remote, index))

    def _fetch(self, remote: Remote, index: IndexName) -> bytes:
        data = remote.read_index(index)
        self.keep(index, data)
        return data

    def keep(self, index: IndexName, data: bytes) -> None:
        """Keeps an index object that this repository has made."""
        self._local.put(f"{self._prefix}/{index.key}", data)

    def add(self, packs: Iterable[PackInfo]) -> None:
        """Adds packs that the remote has now; what stops it leaves some of them unknown."""
        for group in in_groups(packs):
            self._add(group)

    def _add(self, packs: Sequence[PackInfo]) -> None:
        with self._tables.write() as batch:
            number = _NUMBER.unpack(batch.get(_NUMBERS, b"next") or _NUMBER.pack(1))[0]
            rows: list[tuple[bytes, bytes]] = []
            for info in packs:
                key = _key_of(info.name)
                if batch.get(_PACKS, key) not in (None, _WITHOUT_IDS):
                    continue
                batch.put(_PACKS, key, _NUMBER.pack(number))
                rows += [
                    (stored.id[:_ID_BYTES], _NUMBER.pack(number)) for block in info.blocks for stored in block.objects
                ]
                number += 1
            batch.put_new(_IDS, iter(sorted(rows)))
            batch.put(_NUMBERS, b"next", _NUMBER.pack(number))

    def _drop_others(self, indexes: Sequence[IndexName]) -> None:
        wanted = {f"{self._prefix}/{index.key}" for index in indexes}
        for key, _ in list(self._local.list(f"{self._prefix}/index/")):
            if key not in wanted:
                self._local.delete(key)


def in_groups(packs: Iterable[PackInfo]) -> Iterator[list[PackInfo]]:
    """Yields packs in groups for one transaction each, whose memory does not grow with all of them."""
    group: list[PackInfo] = []
    count = 0
    for info in packs:
        group.append(info)
        count += sum(len(block.objects) for block in info.blocks)
        if count >= OBJECTS_MAX:
            yield group
            group, count = [], 0
    if group:
        yield group


def kept_packs(local: ObjectBackend) -> Iterator[PackInfo]:
    """Yields the packs that the index objects of all remotes name; damaged ones are skipped, and fetched again."""
    for stored in _packs_below(local, f"{KEPT}/"):
        with suppress(Corrupt):
            yield stored.info()


def _packs_below(local: ObjectBackend, prefix: str) -> Iterator[StoredPack]:
    for key, _ in list(local.list(prefix)):
        _, _, folder, name = [*key.split("/"), "", "", ""][:4]
        if f"{folder}/" == INDEX_PREFIX:
            data = local.read(key)
            try:
                packs = decode_index(index_name(name, data), data)
            except Corrupt:
                continue
            yield from packs


def _key_of(name: PackName) -> bytes:
    return bytes((name.kind,)) + bytes.fromhex(name.hex)


def _pack_of(key: bytes) -> PackName:
    return PackName(PackKind(key[0]), key[1:].hex())
