"""Compression of blocks: zstd where it saves something, raw where it does not. The only importer of `zstandard`.

Contexts belong to a thread: one that two threads share damages valid frames.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from enum import IntEnum

import zstandard

from vfs.errors import Corrupt
from vfs.model.ids import Buffer

NODE_BLOCKS = "node-blocks"
"""Feature of a repository, or of a remote: its trees may be in blocks without ids, and are written in them."""
LEVEL_DEFAULT = 1
"""Higher levels save under 2 % more on data sets for five times the time (docs/decisions)."""
_DENSE = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_BTOPT,
    min_match=3,
    search_log=3,
    target_length=48,
    window_log=17,
    hash_log=15,
    chain_log=15,
)
"""For data that is worth a tenth of level 1's speed: as small as level 14 nearly, in half its time (decision 2)."""
_DENSE_LEVEL = 14
_WORTH_IT = 32
"""Compression is kept when it saves at least one part in this many (3 %): raw blocks are read without a copy."""


def is_worth_it(stored_bytes: int, plain_bytes: int) -> bool:
    """Returns True if compression saves enough to be kept."""
    return stored_bytes < plain_bytes - plain_bytes // _WORTH_IT


class Codec(IntEnum):
    """How a block's payload is stored."""

    RAW = 0
    ZSTD = 1
    NODES = 2
    """In parts, without the ids that nodes have (vfs/store/packs/node_payload.py)."""


class BadFrame(Corrupt):
    """A compressed payload is not the frame that its header promises."""


class Compression:
    """Compresses at one level, or denser, and decompresses any frame; usable from any thread.

    `node_blocks`: trees are written in blocks without ids, as a repository with that feature has them.
    """

    def __init__(self, level: int = LEVEL_DEFAULT, *, node_blocks: bool = False) -> None:
        self.node_blocks = node_blocks
        self._level = level
        self._local = threading.local()

    def compress(self, plain: Buffer, *, is_dense: bool = False) -> tuple[Codec, Buffer]:
        """Returns the codec and what to store; RAW returns `plain` itself."""
        stored = self.compress_densely(plain) if is_dense else self._compressor().compress(plain)
        return (Codec.ZSTD, stored) if is_worth_it(len(stored), len(plain)) else (Codec.RAW, plain)

    def compress_many(self, plains: Sequence[Buffer]) -> list[tuple[Codec, Buffer]]:
        """Does what `compress` does for each, as one piece of work: a thread waits once for the interpreter."""
        if not plains:
            return []
        frames = self._compressor().multi_compress_to_buffer(list(plains))
        stored: list[tuple[Codec, Buffer]] = []
        for number, plain in enumerate(plains):
            frame = frames[number]
            is_smaller = is_worth_it(len(frame), len(plain))
            stored.append((Codec.ZSTD, frame.tobytes()) if is_smaller else (Codec.RAW, plain))
        return stored

    def compress_densely(self, plain: Buffer) -> bytes:
        """Returns a frame, whether it is smaller or not."""
        return self._dense_compressor().compress(plain)

    def _compressor(self) -> zstandard.ZstdCompressor:
        found: zstandard.ZstdCompressor | None = getattr(self._local, "compressor", None)
        if found is None:
            # No checksum: the ids of the objects inside check more than it could.
            found = zstandard.ZstdCompressor(level=self._level, write_checksum=False, write_content_size=True)
            self._local.compressor = found
        return found

    def _dense_compressor(self) -> zstandard.ZstdCompressor:
        if self._level >= _DENSE_LEVEL:
            return self._compressor()
        found: zstandard.ZstdCompressor | None = getattr(self._local, "dense", None)
        if found is None:
            found = self._local.dense = zstandard.ZstdCompressor(compression_params=_DENSE)
        return found

    def decompress(self, codec: int, stored: Buffer, plain_bytes: int) -> memoryview:
        """Returns the payload, read-only and exactly `plain_bytes` long, or raises BadFrame; RAW is not copied.

        The caller has bounded `plain_bytes`; a frame that states another size is refused before memory is taken.
        """
        if codec == Codec.RAW:
            if len(stored) != plain_bytes:
                raise BadFrame("a raw block is not as long as its header says")
            return memoryview(stored).toreadonly()
        if codec != Codec.ZSTD:
            raise BadFrame(f"a block has the unknown codec {codec}")
        decompressor: zstandard.ZstdDecompressor | None = getattr(self._local, "decompressor", None)
        if decompressor is None:
            decompressor = zstandard.ZstdDecompressor()
            self._local.decompressor = decompressor
        try:
            if zstandard.frame_content_size(stored) != plain_bytes:
                raise BadFrame("a compressed block states another size than its header")
            plain = decompressor.decompress(stored, max_output_size=plain_bytes, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise BadFrame(f"a compressed block cannot be read: {error}") from error
        if len(plain) != plain_bytes:
            raise BadFrame("a compressed block is not as long as its header says")
        return memoryview(plain)
