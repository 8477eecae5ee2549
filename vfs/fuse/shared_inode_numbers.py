"""Inode number remapping between the working layers of one mount: no two of their inodes have the same number.

Overlays derive their numbers from the branch's name and the path, so numbers of two branches collide as often as any
two hashes of 61 bits do, which is not expected to happen. It is checked all the same: if the kernel knows a number as
another layer's, the inode gets another one permanently (docs/decisions/0050-branches-in-a-mount.md).
"""

from __future__ import annotations

import errno
from typing import Generic, TypeVar

from vfs.fuse.inodes import WORKING_BITS, WORKING_START, CollisionTable
from vfs.model.ids import digest64

_PROBES_MAX = 10_000

L = TypeVar("L")
"""A working layer."""


class RemappedNumbers(Generic[L]):
    """The layer of each number that the kernel knows. One thread uses it; `known` any thread may call.

    `hash_bits` narrows the numbers that inodes get after a collision, for tests.
    """

    def __init__(self, probed: CollisionTable, *, hash_bits: int = 64) -> None:
        self._probed = probed
        self._mask = (1 << min(WORKING_BITS, hash_bits)) - 1
        self._owners: dict[int, tuple[L, int]] = {}
        """By the kernel's number: the layer, and the overlay's number."""

    @property
    def has_given(self) -> bool:
        """True if any inode has a number other than its overlay's."""
        return bool(self._probed)

    def find(self, number: int) -> tuple[L, int]:
        """Returns the layer of a number that the kernel knows, and the overlay's number. Raises OSError(ESTALE)."""
        try:
            return self._owners[number]
        except KeyError:
            raise OSError(errno.ESTALE, "the kernel does not know this inode") from None

    def number(self, layer: L, branch: bytes, ino: int) -> int:
        """Returns the kernel's number for an inode of a layer, a new one if needed; the caller calls `hold` next."""
        known = self.known(branch, ino)
        if known != ino:
            return known
        owner = self._owners.get(ino)
        is_ours = owner is None or (owner[0] is layer and owner[1] == ino)
        if is_ours and (not self._probed or self._probed.free_for(ino, _key(branch, ino))):
            return ino
        return self._probe(branch, ino)

    def known(self, branch: bytes, ino: int) -> int:
        """Returns the kernel's number for an inode of a layer; changes nothing."""
        if not self._probed:
            return ino
        return self._probed.number_of(_key(branch, ino)) or ino

    def _probe(self, branch: bytes, ino: int) -> int:
        key = _key(branch, ino)
        for count in range(1, _PROBES_MAX):
            number = WORKING_START + (digest64(key + count.to_bytes(4, "little")) & self._mask)
            if number not in self._owners and self._probed.free_for(number, key):
                self._probed.add(key, number)
                return number
        raise OSError(errno.ENFILE, "no inode number is free")

    def hold(self, number: int, layer: L, ino: int) -> None:
        """Records that the kernel knows an inode by a number that `number` returned."""
        self._owners[number] = layer, ino

    def drop(self, number: int) -> None:
        """Records that the kernel has forgotten a number."""
        self._owners.pop(number, None)


def _key(branch: bytes, ino: int) -> bytes:
    # Numbers are derived from this and the count of the probe.
    return b"w" + branch + b"\0" + ino.to_bytes(8, "little")
