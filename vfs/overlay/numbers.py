"""Inode numbers of the working layer: derived from places, proved unique among those in use, kept by pins.

A child `name` of the directory numbered P gets 2^61 plus hash(P, name, k), k = 0, 1, … the first that nobody else
has. Every branch's root is number 1, so a branch's name goes into the hash with the root: below it no two branches'
numbers have anything to do with each other. (`main`, which was there before other branches, adds nothing.) So it is the
same after every reopening, and moving a directory changes no number below it. Where a file has another number than
its place in the base version gives (renamed files, hard links, collisions), a pin says which.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from vfs.model.ids import digest64
from vfs.model.objects import MAIN
from vfs.overlay.nodes import ROOT_INO, Place

INO_BITS = 61
FIRST_INO = 1 << INO_BITS
"""Numbers of the working layer are in [2^61, 2^62)."""

UNUSED: Place = (-1, b"")
"""Owner of a number that is not in use."""

OwnerOf = Callable[[int], Place | None]
"""Says who has a number among the inodes at hand: a place of the base version, None (an inode that the base version
does not have) or UNUSED."""


class Numbers:
    """Gives and finds inode numbers. `bits` is the width of the hash: small ones make tests meet collisions."""

    def __init__(self, owner_of: OwnerOf, bits: int = INO_BITS, branch: str = MAIN) -> None:
        self._owner_of = owner_of
        # No name and no path has a NUL in it, so one branch's names are never another's.
        self._root_salt = branch.encode() + b"\0" if branch != MAIN else b""
        self._mask = (1 << bits) - 1
        self._pins: dict[Place, int] = {}
        self._pinned: dict[int, Place] = {}

    def derived(self, place: Place, probe: int = 0) -> int:
        """Returns a place's number if nobody stands in its way before the given probe."""
        parent, name = place
        # 8 bytes of parent, 4 of probe, then the name: no two places give the same bytes.
        key = parent.to_bytes(8, "little") + probe.to_bytes(4, "little")
        salt = self._root_salt if parent <= ROOT_INO else b""
        return FIRST_INO | (digest64(key + salt + name) & self._mask)

    def owner(self, ino: int) -> Place | None:
        """Returns who has a number; see OwnerOf."""
        owner = self._owner_of(ino)
        if owner == UNUSED:
            return self._pinned.get(ino, UNUSED)
        return owner

    def fresh(self, place: Place, taken: Container[int] = ()) -> int:
        """Returns a number that nobody has, for an inode that is made at a place; none of those `taken`."""
        probe = 0
        while self.owner(ino := self.derived(place, probe)) != UNUSED or ino in taken:
            probe += 1
        return ino

    def of_base(self, place: Place) -> tuple[int, bool]:
        """Returns the number of the inode at a place of the base version, and whether it must be pinned to stay so."""
        pin = self._pins.get(place)
        if pin is not None and self._owner_of(pin) in (UNUSED, place):
            return pin, False
        probe = 0
        while self.owner(ino := self.derived(place, probe)) not in (UNUSED, place):
            probe += 1
        return ino, probe > 0 or pin is not None

    def pin(self, place: Place, ino: int) -> None:
        """Makes a number that of a place of the base version."""
        self.unpin(place)
        self._pins[place] = ino
        self._pinned[ino] = place

    def unpin(self, place: Place) -> None:
        """Lets a place's number be what its name gives."""
        ino = self._pins.pop(place, None)
        if ino is not None and self._pinned.get(ino) == place:
            del self._pinned[ino]

    def pin_of(self, place: Place) -> int | None:
        """Returns a place's pin."""
        return self._pins.get(place)

    def pins(self) -> Iterable[tuple[Place, int]]:
        """Returns all pins."""
        return self._pins.items()
