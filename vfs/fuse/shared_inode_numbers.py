"""Inode numbers of several working layers in one mount: each is one inode's only.

Overlays derive their numbers from the branch's name and the path, so numbers of two branches meet as often as any two
hashes of 61 bits do, which is not expected to happen. It is proved all the same: where a number is known to the kernel
as another layer's, the inode gets another one for good (docs/decisions/0050-branches-in-a-mount.md).
"""

from __future__ import annotations

import errno
from typing import Generic, TypeVar

from vfs.fuse.inodes import WORKING_BITS, WORKING_START, ProbedNumbers
from vfs.model.ids import digest64

_PROBES_MAX = 10_000

L = TypeVar("L")
"""A working layer."""


class SharedNumbers(Generic[L]):
    """Which layer has which number, of those that the kernel knows. One thread uses it; `known` any thread may call.

    `hash_bits` narrows the numbers that the loser of a collision gets.
    """

    def __init__(self, probed: ProbedNumbers, *, hash_bits: int = 64) -> None:
        self._probed = probed
        self._mask = (1 << min(WORKING_BITS, hash_bits)) - 1
        self._owners: dict[int, tuple[L, int]] = {}
        """By the kernel's number: the layer and the number that its overlay gave."""

    @property
    def has_given(self) -> bool:
        """Whether any number was given that is not an overlay's own."""
        return bool(self._probed)

    def find(self, number: int) -> tuple[L, int]:
        """Returns the layer that has a number, and the overlay's number for it. Raises OSError(ESTALE)."""
        try:
            return self._owners[number]
        except KeyError:
            raise OSError(errno.ESTALE, "the kernel does not know this inode") from None

    def number(self, layer: L, branch: bytes, ino: int) -> int:
        """Returns the number by which the kernel knows, or is to know, an inode of a layer; `hold` must follow."""
        known = self.known(branch, ino)
        if known != ino:
            return known
        owner = self._owners.get(ino)
        is_ours = owner is None or (owner[0] is layer and owner[1] == ino)
        if is_ours and (not self._probed or self._probed.free_for(ino, _key(branch, ino))):
            return ino
        return self._probe(branch, ino)

    def known(self, branch: bytes, ino: int) -> int:
        """Returns the number that an inode of a layer was given; changes nothing."""
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
        """Says that the kernel knows an inode by a number that `number` gave."""
        self._owners[number] = layer, ino

    def drop(self, number: int) -> None:
        """Says that the kernel has forgotten a number."""
        self._owners.pop(number, None)


def _key(branch: bytes, ino: int) -> bytes:
    # What a number of this kind is derived from, before the count of the probe.
    return b"w" + branch + b"\0" + ino.to_bytes(8, "little")
