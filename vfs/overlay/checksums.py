"""Checksums of a journal's records: XXH3, 64 bits. The only importer of `xxhash`.

For what has no adversary: torn ends and rotten bits. Ids, which have one, are BLAKE3 (vfs/model/ids.py).
"""

from __future__ import annotations

from xxhash import xxh3_64_intdigest

from vfs.model.ids import Buffer


def quick64(data: Buffer) -> int:
    """Returns the checksum of bytes."""
    return xxh3_64_intdigest(data)
