"""Sequential reads of a file: which bytes to prefetch next, and the interface of what prefetches them. No I/O here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from vfs.model.ids import ChunkId

FIRST_BYTES = 256 * 1024
"""Reads from a file's start are a stream after this many bytes: more than a header has."""
RUN_BYTES = 2 * 1024 * 1024
"""Reads from anywhere else are one after this many: more than a program reads at a random place."""
WINDOW_BYTES = 4 * 1024 * 1024
"""How far ahead of the reader a prefetch goes, at most."""

JOB_BYTES_MAX = 1024 * 1024
JOB_CHUNKS_MAX = 512
"""The most that one prefetch job has: plain bytes, and chunks."""


class Extent(NamedTuple):
    """Blocks that lie side by side in a pack: its key, where they begin, the length of each. Worth one read."""

    pack: str
    offset: int
    sizes: Sequence[int]


class ChunkPrefetcher(Protocol):
    """Prefetches chunks into memory in the background; usable from any thread."""

    def holds(self, object_id: ChunkId) -> bool:
        """Returns True if a chunk is prefetched or in flight."""
        ...

    def prefetch(self, chunks: Sequence[ChunkId], extents: list[Extent]) -> None:
        """Begins to prefetch one job's chunks, which lie in these extents; may do nothing."""
        ...

    def get(self, object_id: ChunkId) -> memoryview | None:
        """Returns a prefetched chunk, read-only and checked, after a short wait if its job has started; else None."""
        ...


STREAMS_MAX = 4
"""Streams of one file that are followed at once: programs read several columns, or parts of an array, in turn."""


class _Stream:
    """A sequential stream of reads: its start, the last read's offset and end, and the end of what was prefetched."""

    __slots__ = ("ahead", "last", "next", "start")

    def __init__(self, start: int) -> None:
        self.start = self.last = self.next = self.ahead = start


class AccessPattern:
    """Follows the reads of one open file."""

    __slots__ = ("_streams",)

    def __init__(self) -> None:
        # The one that went on last is the last. Threads may read at once: the tuple is replaced whole.
        self._streams: tuple[_Stream, ...] = ()

    def record(self, offset: int, end: int, size: int) -> tuple[int, int] | None:
        """Records a read of [offset, end) in a file of `size`; returns the range to prefetch now, if any.

        The range grows with the length of the stream, so a stream that ends wastes no more than it used.
        The last read of a stream may be recorded again, when a request is repeated that had to wait for its chunks.
        """
        stream = self._stream_at(offset, end)
        stream.last, stream.next = offset, end
        run = end - stream.start
        if run < (FIRST_BYTES if stream.start == 0 else RUN_BYTES):
            return None
        first = max(end, stream.ahead)
        last = min(end + min(run, WINDOW_BYTES), size)
        if first >= last:
            return None
        stream.ahead = last
        return first, last

    def retract(self, first: int, last: int) -> None:
        """Cancels a range that `record` returned and that could not be prefetched; the next read gets it again."""
        for stream in self._streams:
            if stream.ahead == last:
                stream.ahead = first

    def _stream_at(self, offset: int, end: int) -> _Stream:
        streams = self._streams
        found = next((stream for stream in reversed(streams) if stream.next == offset), None)
        if found is None:
            # Only then: where reads overlap, the one that goes on is meant.
            again = (stream for stream in reversed(streams) if (stream.last, stream.next) == (offset, end))
            found = next(again, None) or _Stream(offset)
        if not streams or streams[-1] is not found:
            others = tuple(stream for stream in streams if stream is not found)
            self._streams = (*others[1 - STREAMS_MAX :], found)
        return found
