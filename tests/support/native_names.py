"""What tells the native session layer of names, in tests: a directory, and what the layer asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from support.native_layer import DIRECTORY_INO
from vfs.model.nodes import NodeKind, encode_node
from vfs.model.objects import Entry
from vfs.native.session import BEHIND, NativeSession

PREFIX = b"epath\0"
SLOT = 5
"""The directory's in the table of known files."""
LISTED_INO = DIRECTORY_INO + 1
"""The number of each directory in it."""


class Admitted(NamedTuple):
    """A directory that was looked up."""

    directory: int
    position: int
    encoded: bytes


class Names:
    """A directory whose entries begin at a position, in leaves of so many; it has no entries before and behind."""

    def __init__(
        self, session: NativeSession, entries: Sequence[Entry] = (), position: int = 0, leaf_entries: int = 2048
    ) -> None:
        self._session = session
        self._entries = entries
        self._position = position
        self._leaf_entries = leaf_entries
        self.freed: list[int] = []
        self.known_files = session.known_files(self.freed.append)
        self.known_files.are_derived(are_derived=True)
        self.asked: list[object] = []
        self.found: list[Admitted] = []
        self.answered: list[tuple[int, int]] = []
        self.attributes: dict[int, tuple[int, bytes]] = {}
        self.admit: Callable[[Admitted], int] = lambda _: LISTED_INO

    def open_leaf(self, directory: int, name: bytes) -> bool:
        self.asked.append(name)
        at = max((at for at, entry in enumerate(self._entries) if entry.name <= name), default=0)
        return self._keep(directory, at)

    def open_leaf_at(self, directory: int, position: int) -> int:
        self.asked.append(position)
        at = position - self._position
        # As of a real directory: one that is a single leaf is handed over for each position.
        is_single = 0 < len(self._entries) <= self._leaf_entries
        return BEHIND if at >= len(self._entries) and not is_single else self._keep(directory, at)

    def _keep(self, directory: int, at: int) -> bool:
        start = min(at, len(self._entries) - 1) // self._leaf_entries * self._leaf_entries
        leaf = self._entries[start : start + self._leaf_entries]
        node = encode_node(NodeKind.ENTRIES, 0, leaf)
        is_last = start + len(leaf) == len(self._entries)
        position = self._position + start
        return bool(leaf) and self._session.keep_leaf(directory, SLOT, position, PREFIX, node, is_last=is_last)

    def admit_directory(self, directory: int, position: int, encoded: bytes) -> int:
        self.found.append(Admitted(directory, position, encoded))
        return self.admit(self.found[-1])

    def find_attributes(self, ino: int) -> bool:
        self.asked.append(ino)
        return ino in self.attributes and self._session.keep_attributes(ino, *self.attributes[ino])

    def admitted(self, ino: int, prepared: int) -> None:
        self.answered.append((ino, prepared))
