"""Index: object id to its place in a pack. A cache of what the packs say, deletable, rebuilt from them alone.

Invariant: what the index names is durable, and so is everything that it names in turn (docs/durability.md, rule 5);
a node that is found here therefore stands for its whole subtree.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import NamedTuple

from vfs.backend.protocol import MissingKey, ObjectBackend
from vfs.model.ids import CommitId
from vfs.store.lmdb_environment import DamagedTables
from vfs.store.lmdb_tables import Batch, Tables
from vfs.store.packs.blocks import ObjectType
from vfs.store.packs.compression import Compression
from vfs.store.packs.pack_file import PREFIX, Damage, PackInfo, PackKind, PackName, parse_key, scan_pack, verify_pack
from vfs.store.progress_callbacks import StageProgress

OBJECTS = "objects"
PACKS = "packs"
PACK_NUMBERS = "pack-numbers"
META = "index-meta"
INDEX_TABLES = (OBJECTS, PACKS, PACK_NUMBERS, META)
"""The tables that an Index needs."""
RETIRED_KEY = "retired"
"""The list of packs that a sweep is removing; there while it does."""

_LOCATION = struct.Struct("<IIIIB")
_ROW = struct.Struct("<4xI13x")
_PACK = struct.Struct("<BII16s")
_NUMBER = struct.Struct(">I")
_COMPLETE = b"complete"
_NEXT_NUMBER = b"next-number"
_ADDED = b"added/"
_ABSENT = b"absent/"
"""Before the number of a pack that a remote has and this repository has not."""
_TIME = struct.Struct("<Q")


class Location(NamedTuple):
    """Where an object is: a pack by number, its block by offset and length, its own plain size and type."""

    pack: int
    offset: int
    block_bytes: int
    size: int
    type: int


class PackRow(NamedTuple):
    """A pack that the index knows; `is_here` is False for one that only a remote has."""

    number: int
    name: PackName
    size: int
    objects: int
    is_here: bool = True


class Rebuilt(NamedTuple):
    """What making the index again found: how many packs, damage by pack, and all commits."""

    packs: int
    damage: Sequence[tuple[PackName, Damage]]
    commits: Set[CommitId] = frozenset()


class Index:
    """Finds objects; reads from any thread, writes one transaction at a time among all processes."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._get = tables.get
        self._names: dict[int, PackName] = {}
        self._keys: dict[int, str] = {}
        self._here: set[int] = set()

    def lookup(self, key: bytes) -> Location | None:
        """Returns an object's place, or None where no indexed pack holds it."""
        value = self._get(OBJECTS, key)
        return None if value is None else Location._make(_LOCATION.unpack(value))

    def lookup_many(self, keys: Sequence[bytes]) -> list[Location | None]:
        """Returns the places of several objects, with one transaction."""
        return [
            None if value is None else Location._make(_LOCATION.unpack(value))
            for value in self._tables.get_many(OBJECTS, keys)
        ]

    def rows(self, keys: Sequence[bytes]) -> tuple[bytes, set[int]]:
        """Returns the rows of several objects, one behind the other, and the packs that they name.

        Zeros for missing ones. Their checksums are not compared: for a caller that compares the objects' hashes.
        """
        rows = self._tables.stored_rows(OBJECTS, keys, bytes(_ROW.size))
        return rows, {pack for (pack,) in set(_ROW.iter_unpack(rows)) if pack}

    def bytes_used(self) -> int:
        """Returns the size of the index on disk."""
        return self._tables.bytes_used()

    def hint_readahead(self, bytes_max: int) -> None:
        """Hints that look-ups follow: the kernel reads the index into memory, up to a size, in the background."""
        self._tables.hint_readahead(bytes_max)

    def has(self, key: bytes) -> bool:
        """Returns True if an indexed pack holds an object."""
        return self._get(OBJECTS, key) is not None

    def has_here(self, key: bytes) -> bool:
        """Returns True if a pack of this repository holds an object; a remote's does not count (durability, T7)."""
        location = self.lookup(key)
        return location is not None and self.is_here(location.pack)

    def is_here(self, number: int) -> bool:
        """Says whether a pack is in this repository; one that is here stays."""
        if number not in self._here:
            if self._get(META, _ABSENT + _NUMBER.pack(number)) is not None:
                return False
            self._here.add(number)
        return True

    def knows(self, name: PackName) -> bool:
        """Says whether a pack is indexed."""
        return self._get(PACK_NUMBERS, _name_key(name)) is not None

    def pack_name(self, number: int) -> PackName:
        """Returns a pack by its number. Numbers are never used again, so the answer never changes."""
        name = self._names.get(number)
        if name is None:
            value = self._get(PACKS, _NUMBER.pack(number))
            if value is None:
                raise DamagedTables(f"the index names a pack {number} that it does not know")
            name = self._names[number] = _pack_row(number, value).name
        return name

    def pack_key(self, number: int) -> str:
        """Returns where a backend keeps a pack, by its number."""
        key = self._keys.get(number)
        if key is None:
            key = self._keys[number] = self.pack_name(number).key
        return key

    def packs(self) -> Iterator[PackRow]:
        """Yields the indexed packs in the order in which they were added."""
        for key, value in self._tables.scan(PACKS):
            row = _pack_row(_NUMBER.unpack(key)[0], value)
            yield row if self.is_here(row.number) else row._replace(is_here=False)

    def locations(self) -> Iterator[tuple[bytes, Location]]:
        """Yields (id, place) of all objects, sorted by id."""
        for key, value in self._tables.scan(OBJECTS):
            yield key, Location._make(_LOCATION.unpack(value))

    def object_count(self) -> int:
        """Returns the number of indexed objects."""
        return self._tables.count(OBJECTS)

    @property
    def is_complete(self) -> bool:
        """True if the index has seen all packs once; a new or deleted one has not."""
        return self._get(META, _COMPLETE) is not None

    def add_packs(self, packs: Sequence[PackInfo], *, is_here: bool = True) -> None:
        """Indexes durable packs in one transaction; an object that is known keeps its place.

        Unless `is_here`, only a remote has them: then an object in them moves to a pack of this repository that has it.
        """
        if packs:
            with self._tables.write() as batch:
                _add(batch, packs, is_here=is_here)

    def added_ns(self, number: int) -> int:
        """Returns when a pack was indexed (Unix time); 0 where that was not noted."""
        value = self._get(META, _ADDED + _NUMBER.pack(number))
        return 0 if value is None else int(_TIME.unpack(value)[0])

    def faults(self) -> list[str]:
        """Returns what the small tables say that does not fit the others; raises DamagedTables, also for the file."""
        self._tables.check()
        while True:
            packs = {row.name: row.number for row in self.packs()}
            numbers = dict(self._tables.scan(PACK_NUMBERS))
            rows = dict(self._tables.scan(META))
            # Others may add packs between these looks.
            if packs == {row.name: row.number for row in self.packs()}:
                break
        found = []
        if numbers != {_name_key(name): _NUMBER.pack(number) for name, number in packs.items()}:
            found.append("the index numbers packs in two ways")
        next_number = _NUMBER.unpack(rows.get(_NEXT_NUMBER, _NUMBER.pack(1)))[0]
        if next_number <= max(packs.values(), default=0):
            found.append("the index would give a pack the number of another one")
        return found

    def replace(self, retired: Sequence[PackInfo], added: Sequence[PackInfo]) -> None:
        """Lets durable packs take the place of others, in one transaction; what they do not hold is found no more.

        An object that the index finds elsewhere stays there. A retired pack that is among the added ones stays too.
        """
        with self._tables.write() as batch:
            _add(batch, added)
            numbers = [_number_of(batch, info.name) for info in retired]
            leaving = set(numbers) - {_number_of(batch, info.name) for info in added} - {0}
            rows: list[tuple[bytes, bytes]] = []
            for info in added:
                number = _number_of(batch, info.name)
                for block in info.blocks:
                    for stored in block.objects:
                        if _pack_of(batch, stored.id) in leaving:
                            row = _LOCATION.pack(number, block.offset, block.block_bytes, stored.size, stored.type)
                            rows.append((stored.id, row))
            for key, value in sorted(rows):
                batch.put(OBJECTS, key, value)
            for info, number in zip(retired, numbers, strict=True):
                if number in leaving:
                    _remove(batch, info, number)

    def give_up(self, gone: Set[int], elsewhere: Sequence[PackInfo]) -> None:
        """Lets packs go that a remote alone had and has no more: what they held is found in `elsewhere`, or nowhere.

        `elsewhere` are packs that remotes have. The caller holds the write lock. Looks at every object.
        """
        rows = [key for key, location in self.locations() if location.pack in gone]
        with self._tables.write() as batch:
            _add(batch, elsewhere, is_here=False)
            places: dict[bytes, bytes] = dict.fromkeys(rows, b"")
            for info in elsewhere:
                number = _number_of(batch, info.name)
                if number in gone:
                    continue
                for block in info.blocks:
                    for stored in block.objects:
                        if stored.id in places:
                            places[stored.id] = _LOCATION.pack(
                                number, block.offset, block.block_bytes, stored.size, stored.type
                            )
            for key, row in sorted(places.items()):
                if row:
                    batch.put(OBJECTS, key, row)
                else:
                    batch.delete(OBJECTS, key)
            for number in sorted(gone):
                _forget_pack(batch, _pack_row(number, batch.get(PACKS, _NUMBER.pack(number)) or b"").name, number)

    def rebuild(
        self,
        backend: ObjectBackend,
        compression: Compression,
        progress: StageProgress | None = None,
        *,
        deep: bool = False,
        elsewhere: Iterable[PackInfo] = (),
    ) -> Rebuilt:
        """Makes the index again from the packs, in one transaction: readers see the old one or the new one.

        `deep` reads every byte, so that only objects whose hash is right are indexed; otherwise trailers are trusted.
        `elsewhere`: packs that a remote has.
        """
        todo = list(backend_packs(backend))
        damage: list[tuple[PackName, Damage]] = []
        commits: set[CommitId] = set()
        scan_one = verify_pack if deep else scan_pack
        with self._tables.write() as batch:
            for table in (OBJECTS, PACKS, PACK_NUMBERS):
                batch.clear(table)
            batch.delete_prefix(META, _ADDED)
            batch.delete_prefix(META, _ABSENT)
            self._here.clear()
            for done, (name, size) in enumerate(todo):
                scan = scan_one(backend, name, size, compression)
                damage.extend((name, found) for found in scan.damage)
                _add(batch, [scan.info])
                commits.update(_commits_in(scan.info))
                if progress is not None:
                    progress("rebuilding the index", done + 1, len(todo))
            _add(batch, list(elsewhere), is_here=False)
            batch.put(META, _COMPLETE, b"1")
        return Rebuilt(len(todo), damage, commits)


def backend_packs(backend: ObjectBackend) -> Iterator[tuple[PackName, int]]:
    """Yields (pack, size) of the packs in a backend: data packs, then tree packs, each sorted by name.

    Without those that a sweep was removing when it was cut off (docs/durability.md, G5).
    """
    leaving = set(retired_packs(backend))
    for key, size in backend.list(PREFIX):
        name = parse_key(key)
        if name is not None and name not in leaving:
            yield name, size


def retired_packs(backend: ObjectBackend) -> Sequence[PackName]:
    """Returns the packs that a sweep has begun to remove, and has not recorded as removed."""
    try:
        listed = backend.read(RETIRED_KEY).decode("ascii", "replace").splitlines()
    except MissingKey:
        return []
    return [name for name in map(parse_key, listed) if name is not None]


def _name_key(name: PackName) -> bytes:
    return bytes((name.kind,)) + bytes.fromhex(name.hex)


def _number_of(batch: Batch, name: PackName) -> int:
    """Returns an indexed pack's number, 0 for one that is not."""
    value = batch.get(PACK_NUMBERS, _name_key(name))
    return 0 if value is None else int(_NUMBER.unpack(value)[0])


def _pack_of(batch: Batch, key: bytes) -> int:
    value = batch.get(OBJECTS, key)
    return 0 if value is None else int(_LOCATION.unpack(value)[0])


def _remove(batch: Batch, info: PackInfo, number: int) -> None:
    for key in sorted(stored.id for block in info.blocks for stored in block.objects):
        if _pack_of(batch, key) == number:
            batch.delete(OBJECTS, key)
    _forget_pack(batch, info.name, number)


def _forget_pack(batch: Batch, name: PackName, number: int) -> None:
    batch.delete(PACKS, _NUMBER.pack(number))
    batch.delete(PACK_NUMBERS, _name_key(name))
    batch.delete(META, _ADDED + _NUMBER.pack(number))
    batch.delete(META, _ABSENT + _NUMBER.pack(number))


def _add(batch: Batch, packs: Sequence[PackInfo], *, is_here: bool = True) -> None:
    rows: list[tuple[bytes, bytes]] = []
    next_number = _next_number(batch)
    for info in packs:
        name = _name_key(info.name)
        known = batch.get(PACK_NUMBERS, name)
        if known is not None:
            # The same objects in the same order give the same pack: it is indexed already.
            if is_here:
                batch.delete(META, _ABSENT + known)
            continue
        number, next_number = next_number, next_number + 1
        objects = 0
        for block in info.blocks:
            objects += len(block.objects)
            rows.extend(
                (stored.id, _LOCATION.pack(number, block.offset, block.block_bytes, stored.size, stored.type))
                for stored in block.objects
            )
        batch.put(PACKS, _NUMBER.pack(number), _PACK.pack(info.name.kind, info.size, objects, name[1:]))
        batch.put(PACK_NUMBERS, name, _NUMBER.pack(number))
        batch.put(META, _ADDED + _NUMBER.pack(number), _TIME.pack(time.time_ns()))
        if not is_here:
            batch.put(META, _ABSENT + _NUMBER.pack(number), b"1")
            batch.put(META, _ABSENT, b"1")
    rows.sort()
    if is_here and batch.get(META, _ABSENT) is not None:
        # What is here is found here, and not at a remote.
        for key, row in rows:
            found = batch.get(OBJECTS, key)
            if found is not None and batch.get(META, _ABSENT + _NUMBER.pack(_LOCATION.unpack(found)[0])) is not None:
                batch.put(OBJECTS, key, row)
    batch.put_new(OBJECTS, iter(rows))
    batch.put(META, _NEXT_NUMBER, _NUMBER.pack(next_number))


def _next_number(batch: Batch) -> int:
    value = batch.get(META, _NEXT_NUMBER)
    if value is not None:
        return int(_NUMBER.unpack(value)[0])
    return 1


def _commits_in(info: PackInfo) -> Iterator[CommitId]:
    for block in info.blocks:
        for stored in block.objects:
            if stored.type == ObjectType.COMMIT:
                yield CommitId(stored.id)


def _pack_row(number: int, value: bytes) -> PackRow:
    kind, size, objects, name = _PACK.unpack(value)
    if kind not in tuple(PackKind):
        raise DamagedTables(f"the index says that pack {number} is of a kind that there is not")
    return PackRow(number, PackName(PackKind(kind), name.hex()), size, objects)
