"""The inodes of versions' files that the kernel knows, in columns: some forty bytes each, where an object takes 300.

A walk makes the kernel know every file of a version. Of each is kept: its number, a check, how often it was looked up,
its directory and its position there, from which the rest is read again. Rows are found by open addressing. They are
divided among shards, so that no insertion moves more than a part of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

from vfs.fuse.known_inode_count import KnownNames, NameCount

_SHARD_BITS = 6
_LAST_SHARD = (1 << _SHARD_BITS) - 1
_SLOTS_MIN = 16


class Holder(Protocol):
    """A directory that rows refer to. `slot` is the columns' own: -1 at first."""

    slot: int


D = TypeVar("D", bound=Holder)


class Row(NamedTuple, Generic[D]):
    """What is kept of a file: its check, a directory that it is in, and its position there."""

    check: int
    directory: D
    position: int


class FileTable(Protocol[D]):
    """The files of versions that the kernel knows: FileColumns, or what the native session layer has."""

    @property
    def known(self) -> NameCount:
        """How many are held."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[int]:
        """Yields the numbers that are held; nothing may change meanwhile."""
        ...

    def some(self, count: int) -> list[int]:
        """Returns numbers that are held, at least `count` where there are as many, and others each time."""
        ...

    def check(self, ino: int) -> int | None:
        """Returns the check of a number that is held, or None."""
        ...

    def row(self, ino: int) -> Row[D] | None:
        """Returns what is kept of a number that is held, or None."""
        ...

    def hold(self, ino: int, check: int, directory: D, position: int) -> None:
        """Counts one lookup. The first one keeps the rest."""
        ...

    def lookups_of(self, ino: int) -> int:
        """Returns the count of lookups of a number, 0 for an unknown one."""
        ...

    def forget(self, ino: int, lookups: int) -> int | None:
        """Decrements the count of lookups and returns what is left of it, below 0 too; None for an unknown number."""
        ...

    def is_marked(self, ino: int) -> bool:
        """Returns the mark of a number; False for one that is not held."""
        ...

    def mark(self, ino: int) -> None:
        """Sets the mark of a number, if it is held."""
        ...


class _Shard:
    """Rows by number. `index`: by hash, a row's number plus 1, or 0. A row with no lookups is free."""

    __slots__ = ("checks", "directories", "free", "index", "inos", "lookups", "mask", "positions")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.index = array("I", bytes(4 * _SLOTS_MIN))
        self.mask = _SLOTS_MIN - 1
        self.inos = array("Q")
        self.checks = array("I")
        self.lookups = array("Q")
        self.directories = array("I")
        self.positions = array("Q")
        self.free: list[int] = []

    @property
    def rows(self) -> int:
        return len(self.inos) - len(self.free)

    def row(self, ino: int) -> int:
        """Returns the row of a number, or -1."""
        index, inos, mask = self.index, self.inos, self.mask
        slot = ino >> _SHARD_BITS & mask
        while at := index[slot]:
            if inos[at - 1] == ino:
                return at - 1
            slot = slot + 1 & mask
        return -1

    def insert(self, slot: int, values: tuple[int, int, int, int]) -> None:
        """Adds a row with one lookup, whose number is not there and belongs in a free slot of the index."""
        ino, check, directory, position = values
        if self.free:
            row = self.free.pop()
            self.inos[row] = ino
            self.checks[row] = check
            self.lookups[row] = 2
            self.directories[row] = directory
            self.positions[row] = position
            self.index[slot] = row + 1
            return
        self.inos.append(ino)
        self.checks.append(check)
        self.lookups.append(2)
        self.directories.append(directory)
        self.positions.append(position)
        row = self.index[slot] = len(self.inos)
        if 2 * row > self.mask:
            self._index_anew(2 * (self.mask + 1))

    def _index_anew(self, slots: int) -> None:
        index, mask = array("I", bytes(4 * slots)), slots - 1
        for row, ino in enumerate(self.inos):
            if self.lookups[row]:
                slot = ino >> _SHARD_BITS & mask
                while index[slot]:
                    slot = slot + 1 & mask
                index[slot] = row + 1
        self.index, self.mask = index, mask

    def remove(self, row: int) -> None:
        """Removes a row, and gives memory back when most rows are free."""
        index, inos, mask = self.index, self.inos, self.mask
        hole = inos[row] >> _SHARD_BITS & mask
        while index[hole] != row + 1:
            hole = hole + 1 & mask
        # What follows the hole, and would be found through it, moves there.
        slot = hole + 1 & mask
        while at := index[slot]:
            home = inos[at - 1] >> _SHARD_BITS & mask
            if (slot - home & mask) >= (slot - hole & mask):
                index[hole] = at
                hole = slot
            slot = slot + 1 & mask
        index[hole] = 0
        self.lookups[row] = 0
        self.free.append(row)
        if len(self.free) > 64 and 4 * self.rows < len(self.inos):
            self._compact()

    def _compact(self) -> None:
        kept = [row for row, lookups in enumerate(self.lookups) if lookups]
        for column in (self.inos, self.checks, self.lookups, self.directories, self.positions):
            column[:] = array(column.typecode, [column[row] for row in kept])
        self.free = []
        slots = _SLOTS_MIN
        while slots < 2 * len(kept) + 1:
            slots *= 2
        self._index_anew(slots)


class FileColumns(Generic[D]):
    """The table of files. A directory is kept as long as a row refers to it."""

    def __init__(self) -> None:
        self._shards = [_Shard() for _ in range(_LAST_SHARD + 1)]
        self._directories: list[D | None] = []
        self._references = array("Q")
        self._free: list[int] = []
        self._next_shard = 0
        self._known = KnownNames()
        self.known: NameCount = self._known

    def __len__(self) -> int:
        return self._known.count

    def __iter__(self) -> Iterator[int]:
        """Yields the numbers that are held; nothing may change meanwhile."""
        for shard in self._shards:
            for row, lookups in enumerate(shard.lookups):
                if lookups:
                    yield shard.inos[row]

    def some(self, count: int) -> list[int]:
        """Returns numbers that are held, at least `count` where there are as many, and others each time."""
        found: list[int] = []
        for _ in self._shards:
            if len(found) >= count:
                break
            shard = self._shards[self._next_shard]
            self._next_shard = self._next_shard + 1 & _LAST_SHARD
            found += [ino for ino, lookups in zip(shard.inos, shard.lookups, strict=True) if lookups]
        return found

    def check(self, ino: int) -> int | None:
        """Returns the check of a number that is held, or None."""
        # As `_Shard.row`, and so is `hold`: both are called for each name listed.
        shard = self._shards[ino & _LAST_SHARD]
        index, mask = shard.index, shard.mask
        slot = ino >> _SHARD_BITS & mask
        while at := index[slot]:
            if shard.inos[at - 1] == ino:
                return shard.checks[at - 1]
            slot = slot + 1 & mask
        return None

    def row(self, ino: int) -> Row[D] | None:
        """Returns what is kept of a number that is held, or None."""
        shard = self._shards[ino & _LAST_SHARD]
        row = shard.row(ino)
        if row < 0:
            return None
        directory = self._directories[shard.directories[row]]
        assert directory is not None
        return Row(shard.checks[row], directory, shard.positions[row])

    def hold(self, ino: int, check: int, directory: D, position: int) -> None:
        """Counts one lookup. The first one keeps the rest."""
        shard = self._shards[ino & _LAST_SHARD]
        index, mask = shard.index, shard.mask
        slot = ino >> _SHARD_BITS & mask
        while at := index[slot]:
            if shard.inos[at - 1] == ino:
                shard.lookups[at - 1] += 2
                return
            slot = slot + 1 & mask
        held_as = directory.slot
        if held_as < 0:
            held_as = self._keep(directory)
        self._references[held_as] += 1
        shard.insert(slot, (ino, check, held_as, position))
        self._known.add()

    def _keep(self, directory: D) -> int:
        if self._free:
            directory.slot = self._free.pop()
            self._directories[directory.slot] = directory
        else:
            directory.slot = len(self._directories)
            self._directories.append(directory)
            self._references.append(0)
        return directory.slot

    def lookups_of(self, ino: int) -> int:
        """Returns the count of lookups of a number, 0 for an unknown one."""
        shard = self._shards[ino & _LAST_SHARD]
        row = shard.row(ino)
        return shard.lookups[row] >> 1 if row >= 0 else 0

    def forget(self, ino: int, lookups: int) -> int | None:
        """Decrements the count of lookups and returns what is left of it, below 0 too; None for an unknown number."""
        shard = self._shards[ino & _LAST_SHARD]
        row = shard.row(ino)
        if row < 0:
            return None
        left = (shard.lookups[row] >> 1) - lookups
        if left > 0:
            shard.lookups[row] -= 2 * lookups
        else:
            self._let_go(shard.directories[row])
            shard.remove(row)
            self._known.drop()
        return left

    def _let_go(self, at: int) -> None:
        self._references[at] -= 1
        directory = self._directories[at]
        if not self._references[at] and directory is not None:
            directory.slot = -1
            self._directories[at] = None
            self._free.append(at)

    def is_marked(self, ino: int) -> bool:
        """Returns the mark of a number; False for one that is not held."""
        shard = self._shards[ino & _LAST_SHARD]
        row = shard.row(ino)
        return row >= 0 and bool(shard.lookups[row] & 1)

    def mark(self, ino: int) -> None:
        """Sets the mark of a number, if it is held."""
        shard = self._shards[ino & _LAST_SHARD]
        row = shard.row(ino)
        if row >= 0:
            shard.lookups[row] |= 1
