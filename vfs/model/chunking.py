"""Content-defined chunking (FastCDC 2020). The only importer of `pyfastcdc`.

A boundary depends on the bytes since the last one alone, and on whether the stream ends right behind it (LOOKAHEAD).
So the same run of bytes is cut the same way wherever it starts at a boundary, which is what lets a changed file be cut
again around the change only.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Annotated, Any, Protocol

import msgspec

from vfs.errors import Unsupported
from vfs.model.ids import Buffer

LOOKAHEAD_BYTES = 16
"""A boundary stands whatever comes this far behind it.

FastCDC looks at two bytes a step and never at an odd last one, so a boundary one byte before the end of a stream is
missed that would be found in a longer one; the rest is margin.
"""


class ChunkerParams(msgspec.Struct, frozen=True):
    """What decides the boundaries; stored in the repository, since the same data must be cut the same way for ever.

    The real mean length is near `avg_bytes + min_bytes / 2`.
    """

    min_bytes: Annotated[int, msgspec.Meta(ge=64, le=1 << 20)] = 32 * 1024
    avg_bytes: Annotated[int, msgspec.Meta(ge=256, le=4 << 20)] = 64 * 1024
    max_bytes: Annotated[int, msgspec.Meta(ge=1024, le=16 << 20)] = 256 * 1024
    normalization: Annotated[int, msgspec.Meta(ge=0, le=3)] = 2
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


class IngestParams(msgspec.Struct, frozen=True):
    """What decides how bytes are kept; stored in the repository."""

    chunker: ChunkerParams = ChunkerParams()
    tiny_bytes_max: int = 2048


class ByteStream(Protocol):
    """What can be cut without being held in memory."""

    def readinto(self, buffer: memoryview) -> int:
        """Fills the buffer from its start, returns the number of bytes, 0 at the end only."""
        ...


@cache
def _library() -> ModuleType:
    with warnings.catch_warnings():
        # The package warns at import where its compiled part is missing; Chunker refuses that outright.
        warnings.simplefilter("ignore")
        import pyfastcdc
    return pyfastcdc


class Chunker:
    """Content-defined chunking of bytes. Not for several threads at once: each makes its own."""

    def __init__(self, params: ChunkerParams) -> None:
        # The fallback has the same boundaries at a thousandth of the speed, without a message.
        if not _library().FastCDC.__module__.startswith("pyfastcdc.cy"):
            raise Unsupported(
                "the compiled part of pyfastcdc is missing",
                hint="Install pyfastcdc from a wheel, or with a C compiler present.",
            )
        self.params = params
        self._cdc: Any = _library().FastCDC(
            params.avg_bytes,
            min_size=params.min_bytes,
            max_size=params.max_bytes,
            normalized_chunking=params.normalization,
            seed=params.seed,
        )

    def cut(self, data: Buffer) -> list[int]:
        """Returns the lengths of the chunks of a whole buffer, in order; none for an empty one."""
        if len(data) <= self.params.min_bytes:
            return [len(data)] if len(data) else []
        return [chunk.length for chunk in self._cdc.cut_buf(data)]

    def stream(self, source: ByteStream) -> Iterator[memoryview]:
        """Yields the chunks of a stream; each is valid only until the next one is asked for."""
        for chunk in self._cdc.cut_stream(source):
            yield chunk.data
