"""The inodes of versions' files that the kernel knows, in the native session layer, which counts look-ups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic

from vfs.fuse.compact_file_inodes import D, Row
from vfs.fuse.known_inode_count import NameCount
from vfs.native.known_files import SHARDS
from vfs.native.session import NativeSession


class NativeFiles(Generic[D]):
    """As FileColumns, natively. A directory is kept as long as a row refers to it, or `hold_directory` has."""

    def __init__(self, native: NativeSession) -> None:
        self.table = native.known_files(self._let_go)
        self.known: NameCount = self.table.count
        self._directories: list[D | None] = []
        self._free: list[int] = []
        self._held: set[int] = set()
        self._next_shard = 0

    def __len__(self) -> int:
        return self.known.count

    def __iter__(self) -> Iterator[int]:
        """Yields the numbers that are held; nothing may change meanwhile."""
        for shard in range(SHARDS):
            yield from self.table.inos(shard)

    def some(self, count: int) -> list[int]:
        """Returns numbers that are held, at least `count` where there are as many, and others each time."""
        found: list[int] = []
        for _ in range(SHARDS):
            if len(found) >= count:
                break
            found += self.table.inos(self._next_shard)
            self._next_shard = (self._next_shard + 1) % SHARDS
        return found

    def check(self, ino: int) -> int | None:
        """Returns the check of a number that is held, or None."""
        known = self.table.find(ino)
        return None if known is None else known.check

    def row(self, ino: int) -> Row[D] | None:
        """Returns what is kept of a number that is held, or None."""
        known = self.table.find(ino)
        if known is None:
            return None
        directory = self._directories[known.slot]
        assert directory is not None
        return Row(known.check, directory, known.position)

    def hold(self, ino: int, check: int, directory: D, position: int) -> None:
        """Counts one lookup. The first one keeps the rest."""
        is_new = directory.slot < 0
        slot = self._slot_of(directory)
        if not self.table.hold(ino, check, slot, position) and is_new:
            self._let_go(slot)

    def _slot_of(self, directory: D) -> int:
        if directory.slot < 0:
            if self._free:
                directory.slot = self._free.pop()
                self._directories[directory.slot] = directory
            else:
                directory.slot = len(self._directories)
                self._directories.append(directory)
        return directory.slot

    def hold_directory(self, directory: D) -> int:
        """Returns the slot of a directory, which stays its own until `release_directory`."""
        slot = self._slot_of(directory)
        if slot not in self._held:
            self.table.hold_slot(slot)
            self._held.add(slot)
        return slot

    def release_directory(self, directory: D) -> None:
        """Ends that, if it was begun."""
        if directory.slot in self._held:
            self._held.remove(directory.slot)
            if self.table.release_slot(directory.slot):
                self._let_go(directory.slot)

    def lookups_of(self, ino: int) -> int:
        """Returns the count of lookups of a number, 0 for an unknown one."""
        known = self.table.find(ino)
        return 0 if known is None else known.lookups

    def forget(self, ino: int, lookups: int) -> int | None:
        """Decrements the count of lookups and returns what is left of it, below 0 too; None for an unknown number."""
        known = self.table.find(ino)
        if known is None:
            return None
        if self.table.forget(ino, lookups):
            self._let_go(known.slot)
        return known.lookups - lookups

    def _let_go(self, slot: int) -> None:
        directory = self._directories[slot]
        if directory is not None:
            directory.slot = -1
            self._directories[slot] = None
            self._free.append(slot)

    def is_marked(self, ino: int) -> bool:
        """Returns the mark of a number; False for one that is not held."""
        known = self.table.find(ino)
        return known is not None and known.is_marked

    def mark(self, ino: int) -> None:
        """Sets the mark of a number, if it is held."""
        self.table.mark(ino)
