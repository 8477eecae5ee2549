"""Inode numbers of the working layer: derived from places, unique among those in use, and persistent through pins.

A child `name` of the directory with number P gets 2^61 plus hash(P, name, k), for the first k = 0, 1, … that gives an
unused number. Every branch's root has number 1, so the branch's name is hashed with the root: the numbers of different
branches are unrelated. (`main` adds nothing: it is older than other branches.) So numbers are the same after every
opening, and moving a directory changes no number below it. A pin holds the number of a file if it differs from the one
derived from its place in the base version (renamed files, hard links, collisions).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from vfs.model.ids import digest64
from vfs.model.objects import MAIN
from vfs.overlay.layer_nodes import ROOT_INO, Place

INO_BITS = 61
FIRST_INO = 1 << INO_BITS
"""Numbers of the working layer are in [2^61, 2^62)."""

UNUSED: Place = (-1, b"")
"""Owner of a number that is not in use."""

OwnerOf = Callable[[int], Place | None]
"""Returns the owner of a number among the known inodes: a place of the base version, None (an inode that the base
version does not have) or UNUSED."""


class Numbers:
    """Allocates and finds inode numbers. `bits`: the width of the hash; a small one causes collisions in tests."""

    def __init__(self, owner_of: OwnerOf, bits: int = INO_BITS, branch: str = MAIN) -> None:
        self._owner_of = owner_of
        # No name and no path has a NUL in it, so one branch's names are never another's.
        self._root_salt = branch.encode() + b"\0" if branch != MAIN else b""
        self._mask = (1 << bits) - 1
        self._pins: dict[Place, int] = {}
        self._pinned: dict[int, Place] = {}

    def derived(self, place: Place, probe: int = 0) -> int:
        """Returns the number derived from a place and a probe count."""
        parent, name = place
        # 8 bytes of parent, 4 of probe, then the name: no two places give the same bytes.
        key = parent.to_bytes(8, "little") + probe.to_bytes(4, "little")
        salt = self._root_salt if parent <= ROOT_INO else b""
        return FIRST_INO | (digest64(key + salt + name) & self._mask)

    def owner(self, ino: int) -> Place | None:
        """Returns the owner of a number; see OwnerOf."""
        owner = self._owner_of(ino)
        if owner == UNUSED:
            return self._pinned.get(ino, UNUSED)
        return owner

    def fresh(self, place: Place, taken: Container[int] = ()) -> int:
        """Returns an unused number for a new inode at a place; none of those `taken`."""
        probe = 0
        while self.owner(ino := self.derived(place, probe)) != UNUSED or ino in taken:
            probe += 1
        return ino

    def of_base(self, place: Place) -> tuple[int, bool]:
        """Returns the number of the inode at a place of the base version, and True if it must be pinned to stay so."""
        pin = self._pins.get(place)
        if pin is not None and self._owner_of(pin) in (UNUSED, place):
            return pin, False
        probe = 0
        while self.owner(ino := self.derived(place, probe)) not in (UNUSED, place):
            probe += 1
        return ino, probe > 0 or pin is not None

    def pin(self, place: Place, ino: int) -> None:
        """Pins a number to a place of the base version."""
        self.unpin(place)
        self._pins[place] = ino
        self._pinned[ino] = place

    def unpin(self, place: Place) -> None:
        """Removes a place's pin: its number is derived again."""
        ino = self._pins.pop(place, None)
        if ino is not None and self._pinned.get(ino) == place:
            del self._pinned[ino]

    def pin_of(self, place: Place) -> int | None:
        """Returns a place's pin."""
        return self._pins.get(place)

    def pins(self) -> Iterable[tuple[Place, int]]:
        """Returns all pins."""
        return self._pins.items()
