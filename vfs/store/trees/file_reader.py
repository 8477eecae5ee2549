"""Reading a committed file's bytes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from vfs.errors import Corrupt, InvalidInput
from vfs.model.ids import Buffer, ChunkId
from vfs.model.names import show_path
from vfs.model.objects import ChunkRef, Content, Entry, Form, Kind
from vfs.store.object_store import ObjectSource
from vfs.store.sequential_readahead import STREAMS_MAX, AccessPattern
from vfs.store.trees.chunk_lists import list_leaf, list_runs
from vfs.store.trees.directories import file_content

_ZEROS = memoryview(bytes(1024 * 1024))


class Run(NamedTuple):
    """A range of a file that is all data or all hole."""

    start: int
    end: int
    is_hole: bool


def join_runs(runs: Iterable[Run]) -> Iterator[Run]:
    """Yields runs that follow one another, those of one kind as one."""
    open_run: Run | None = None
    for run in runs:
        if open_run is not None and open_run.is_hole == run.is_hole:
            open_run = Run(open_run.start, run.end, run.is_hole)
            continue
        if open_run is not None:
            yield open_run
        open_run = run
    if open_run is not None:
        yield open_run


_Leaf = tuple[list[int], Sequence[ChunkRef]]
"""A part of a file's list: where its runs start (and, last, where the last one ends), and the runs."""


class FileReader:
    """A file of a version, opened. Safe for several threads: the places that it remembers are replaced whole."""

    def __init__(self, source: ObjectSource, content: Content) -> None:
        self._source = source
        self._content = content
        self.size = content.size
        # Two for each stream that is followed: where it is read, and where it is prefetched.
        self._leaves: tuple[_Leaf, ...] = ()
        self._pattern = AccessPattern()
        if content.form == Form.CHUNK:
            self._leaves = (([0, content.size], [ChunkRef(content.id, content.size)]),)

    def read(self, offset: int, size: int) -> Buffer:
        """Returns the bytes at an offset; fewer only at the end. A slice without a copy where one chunk holds them all.

        Holes read as zeros. Raises Corrupt for damage. The result stays valid and must not be written to.
        """
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        if self._content.form == Form.TINY:
            return memoryview(self._content.tiny)[offset:end]
        self._prefetch(offset, end)
        piece = self._piece(offset, end)
        if len(piece) == end - offset:
            return piece
        pieces = [piece]
        at = offset + len(piece)
        while at < end:
            piece = self._piece(at, end)
            pieces.append(piece)
            at += len(piece)
        return b"".join(pieces)

    def _prefetch(self, offset: int, end: int) -> None:
        """Loads a read's chunks, if they are several, with as few disk reads as their places in the packs allow.

        Where the file is read sequentially, starts to prefetch what comes next.
        """
        if self._content.form == Form.LIST:
            ahead = self._pattern.record(offset, end, self.size)
            if ahead is not None:
                self._start_prefetch(*ahead)
        wanted = self._chunks_between(offset, end)
        if len(wanted) > 1:
            self._source.prefetch(wanted)

    def _start_prefetch(self, start: int, end: int) -> None:
        from vfs.store.remote_blocks import NotLocal

        # A read that comes so far reports damage of the list.
        with suppress(Corrupt):
            try:
                self._source.start_prefetch(self._chunks_between(start, end))
            except NotLocal as missing:
                missing.prefetch()
                self._pattern.retract(start, end)

    def _chunks_between(self, start: int, end: int) -> list[ChunkId]:
        found: list[ChunkId] = []
        while start < end:
            starts, refs = self._leaf_at(start)
            first, last = bisect_right(starts, start) - 1, bisect_left(starts, end)
            found.extend(ChunkId(ref.id) for ref in refs[first:last] if ref.id)
            start = starts[-1]
        return found

    def _leaf_at(self, offset: int) -> _Leaf:
        leaves = self._leaves
        for leaf in leaves:
            if leaf[0][0] <= offset < leaf[0][-1]:
                return leaf
        leaf = list_leaf(self._source, self._content.id, offset)
        if not leaf[0][0] <= offset < leaf[0][-1]:
            raise Corrupt(f"chunk list {self._content.id.hex()[:16]} is shorter than its file")
        self._leaves = (leaf, *leaves[: 2 * STREAMS_MAX - 1])
        return leaf

    def _piece(self, offset: int, end: int) -> memoryview:
        """Returns at least one byte of the run that holds `offset`, up to `end` or the run's end."""
        starts, refs = self._leaf_at(offset)
        at = bisect_right(starts, offset) - 1
        start, ref = starts[at], refs[at]
        stop = min(end, starts[at + 1])
        if not ref.id:
            return _ZEROS[: min(stop - offset, len(_ZEROS))]
        chunk = self._source.get_chunk(ChunkId(ref.id))
        if len(chunk) != ref.size:
            raise Corrupt(f"chunk {ref.id.hex()[:16]} has {len(chunk)} bytes where its list says {ref.size}")
        return chunk[offset - start : stop - start]

    def refs(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, ChunkRef]]:
        """Yields (offset, run) for the chunks and holes that overlap [start, end); not for tiny files."""
        if self._content.form == Form.LIST:
            yield from list_runs(self._source, self._content.id, start, end)
        elif self._content.form == Form.CHUNK and start < self.size:
            yield 0, ChunkRef(self._content.id, self.size)

    def runs(self, start: int = 0, end: int | None = None) -> Iterator[Run]:
        """Yields the stretches of data and holes of [start, end), each as long as can be, clipped to the range."""
        end = self.size if end is None else min(end, self.size)
        if start >= end:
            return
        if not self._content.hole_bytes:
            yield Run(start, end, is_hole=False)
            return
        yield from join_runs(
            Run(max(offset, start), min(offset + ref.size, end), is_hole=not ref.id)
            for offset, ref in self.refs(start, end)
        )


def open_file(source: ObjectSource, directory: Entry, entry: Entry, path: bytes) -> FileReader:
    """Opens a regular file that was found in a directory; `path` is for messages."""
    if entry.kind != Kind.FILE:
        raise InvalidInput(f"{show_path(path)} is no regular file")
    return FileReader(source, file_content(source, directory, entry))
