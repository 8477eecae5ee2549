"""Ids: BLAKE3 hashes (32 bytes) of what they name. The only importer of `blake3`.

A chunk's id is the plain BLAKE3 of its bytes, so that `b3sum` on a small file prints it. Nodes and commits are hashed
under contexts of their own: bytes that a user stores as a file can never pass for a node (docs/format.md, "Ids").
"""

from __future__ import annotations

import struct
from typing import NewType

from blake3 import blake3

Buffer = bytes | bytearray | memoryview
"""What carries bytes; the standard library names it only from 3.12 on."""

ChunkId = NewType("ChunkId", bytes)
NodeId = NewType("NodeId", bytes)
CommitId = NewType("CommitId", bytes)

ID_BYTES = 32
SHORT_HEX = 8
"""Hex digits of a commit id that people are shown, and the fewest that name one."""

_NODE_CONTEXT = "vfs format 1 tree node"
_COMMIT_CONTEXT = "vfs format 1 commit"


def chunk_id(plain: Buffer) -> ChunkId:
    """Returns the id of a run of file bytes."""
    return ChunkId(blake3(plain).digest())


def node_id(encoded: Buffer) -> NodeId:
    """Returns the id of an encoded tree node."""
    return NodeId(blake3(encoded, derive_key_context=_NODE_CONTEXT).digest())


def commit_id(encoded: Buffer) -> CommitId:
    """Returns the id of an encoded commit."""
    return CommitId(blake3(encoded, derive_key_context=_COMMIT_CONTEXT).digest())


_DIGEST_AND_CHECK = struct.Struct("<QI").unpack


def digest64(data: Buffer) -> int:
    """Returns the first 8 bytes of BLAKE3 as a little-endian number: node boundaries and inode numbers."""
    return int.from_bytes(blake3(data).digest(8), "little")


def digest64_and_check(data: Buffer) -> tuple[int, int]:
    """Returns `digest64` and a number of 32 bits from the bytes that follow in BLAKE3."""
    return _DIGEST_AND_CHECK(blake3(data).digest(12))


def check64(data: Buffer) -> bytes:
    """Returns the same as bytes: a checksum that is only ever compared."""
    return blake3(data).digest(8)


class RunningHash:
    """The plain BLAKE3 of bytes that arrive in pieces: what `b3sum` prints for the whole."""

    __slots__ = ("_hash",)

    def __init__(self) -> None:
        self._hash = blake3()

    def update(self, data: Buffer) -> None:
        """Adds the next piece."""
        self._hash.update(data)

    def hex(self) -> str:
        """Returns the hash of everything so far."""
        return self._hash.hexdigest()

    def number(self) -> int:
        """Returns what `digest64` gives for everything so far."""
        return int.from_bytes(self._hash.digest(8), "little")
