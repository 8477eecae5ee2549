"""Checksums of a journal's records: XXH3, 64 bits. The only importer of `xxhash`.

For what has no adversary: torn ends and rotten bits. Ids, which have one, are BLAKE3 (vfs/model/ids.py).
"""

from __future__ import annotations

from xxhash import xxh3_64, xxh3_64_intdigest

from vfs.model.ids import Buffer


def quick64(data: Buffer, seed: int = 0) -> int:
    """Returns the checksum of bytes; another seed (64 bits) gives another one."""
    return xxh3_64_intdigest(data, seed)


class RunningQuick:
    """The checksum of bytes that arrive in pieces."""

    __slots__ = ("_hash",)

    def __init__(self) -> None:
        self._hash = xxh3_64()

    def update(self, data: Buffer) -> None:
        """Adds the next piece."""
        self._hash.update(data)

    def number(self) -> int:
        """Returns the checksum of everything so far."""
        return self._hash.intdigest()
