"""Storing a file's bytes: cutting, putting the chunks, and the content that names them.

The content follows from the bytes and holes alone, whether a file is read whole or only where it has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from vfs.model.chunking import LOOKAHEAD_BYTES, Chunker, IngestParams
from vfs.model.ids import Buffer, chunk_id
from vfs.model.objects import EMPTY_CONTENT, ChunkRef, Content, Form
from vfs.store.object_store import ObjectSink
from vfs.store.trees.chunk_lists import ListEdit, list_build, list_edit, list_runs
from vfs.store.trees.file_reader import Run

ReadInto = Callable[[int, memoryview], int]
"""(offset, buffer): fills the buffer from its start and returns with how many bytes; fewer only at the end."""
RunsFrom = Callable[[int], Iterator[Run]]
"""Offset to the runs of data and holes from there to the end of the file, each as long as can be."""

_READ_BYTES = 1024 * 1024


def content_from_refs(sink: ObjectSink, refs: Sequence[ChunkRef]) -> Content:
    """Returns the content of a file too large for a tiny one, given its chunks (already put) and holes."""
    if not refs:
        return EMPTY_CONTENT
    if len(refs) == 1 and refs[0].id:
        return Content(Form.CHUNK, refs[0].id, refs[0].size)
    tree = list_build(sink, refs)
    return Content(Form.LIST, tree.id, tree.size, sum(ref.size for ref in refs if not ref.id))


def tiny_content(data: bytes) -> Content:
    """Returns the content of a file small enough to stand in its directory."""
    return Content(Form.TINY, chunk_id(data), len(data), 0, data) if data else EMPTY_CONTENT


class ContentWriter:
    """Stores contents into a sink; for one thread."""

    def __init__(self, sink: ObjectSink, params: IngestParams) -> None:
        self._sink = sink
        self._params = params
        self._chunker = Chunker(params.chunker)

    def from_bytes(self, data: Buffer) -> Content:
        """Stores a file without holes that is at hand as a whole."""
        if len(data) <= self._params.tiny_bytes_max:
            return tiny_content(bytes(data))
        view = memoryview(data)
        refs = []
        start = 0
        for size in self._chunker.cut(view):
            refs.append(ChunkRef(self._sink.put_chunk(view[start : start + size]), size))
            start += size
        return content_from_refs(self._sink, refs)

    def from_reader(self, size: int, read: ReadInto, runs: RunsFrom) -> Content:
        """Stores a file read piece by piece; memory does not grow with it but for its list of chunks."""
        if size <= self._params.tiny_bytes_max and not any(run.is_hole for run in runs(0)):
            data = bytearray(size)
            return tiny_content(bytes(data[: read(0, memoryview(data))]))
        return content_from_refs(self._sink, list(self._cut(read, runs(0))))

    def update(
        self, old: Content, size: int, changed: Iterable[tuple[int, int]], read: ReadInto, runs: RunsFrom
    ) -> Content:
        """Stores a file of which only the [start, end) stretches in `changed` (sorted, apart) differ from `old`.

        A different size counts as changed from the smaller one on by itself. Reads and cuts from the chunk before a
        change to the first boundary behind it that was one before.
        """
        if old.form != Form.LIST or size <= self._params.tiny_bytes_max:
            return self.from_reader(size, read, runs)
        edits: list[ListEdit] = []
        hole_bytes = old.hole_bytes
        resume = 0
        for start, end in _with_tail(changed, old.size, size):
            if end <= resume:
                continue
            # The run before a change is cut again, as its end may have been that of the file or of a hole and not one
            # that its content gives; not so where it has been cut just now.
            edit, gone = self._edit_around(old, size, max(start - LOOKAHEAD_BYTES, resume), end, read, runs)
            hole_bytes += sum(ref.size for ref in edit.refs if not ref.id) - gone
            resume = edit.end
            edits.append(edit)
            if resume == old.size:
                break
        tree = list_edit(self._sink, old.id, _merge_touching(edits))
        if tree.items == 1:
            _, only = next(list_runs(self._sink, tree.id))
            if only.id:
                return Content(Form.CHUNK, only.id, only.size)
        return Content(Form.LIST, tree.id, tree.size, hole_bytes)

    def _edit_around(
        self, old: Content, size: int, start: int, end: int, read: ReadInto, runs: RunsFrom
    ) -> tuple[ListEdit, int]:
        """Returns the edit from the run that holds `start` on, and the bytes of holes that it takes away."""
        old_runs = list_runs(self._sink, old.id, start)
        offset, run = next(old_runs, (0, None))
        first = offset
        gone = 0
        fresh: list[ChunkRef] = []
        at = first
        for ref in self._cut(read, runs(first)):
            fresh.append(ref)
            at += ref.size
            while run is not None and offset + run.size <= at:
                gone += 0 if run.id else run.size
                offset, run = next(old_runs, (old.size, None))
            if at >= end and run is not None and offset == at and at < size:
                return ListEdit(first, at, fresh), gone
        while run is not None:
            gone += 0 if run.id else run.size
            offset, run = next(old_runs, (old.size, None))
        return ListEdit(first, old.size, fresh), gone

    def _cut(self, read: ReadInto, runs: Iterable[Run]) -> Iterator[ChunkRef]:
        for run in runs:
            if run.is_hole:
                yield ChunkRef(b"", run.end - run.start)
                continue
            for chunk in self._chunker.stream(_RunStream(read, run)):
                yield ChunkRef(self._sink.put_chunk(chunk), len(chunk))


def _with_tail(changed: Iterable[tuple[int, int]], old_size: int, size: int) -> Iterator[tuple[int, int]]:
    """Yields the changed stretches within the new size, the last one to its end where the size differs."""
    tail = min(old_size, size)
    for start, end in changed:
        if old_size != size and end >= tail:
            yield min(start, tail), size
            return
        yield start, end
    if old_size != size:
        yield tail, size


def _merge_touching(edits: Sequence[ListEdit]) -> list[ListEdit]:
    merged: list[ListEdit] = []
    for edit in edits:
        if merged and merged[-1].end == edit.start:
            last = merged.pop()
            merged.append(ListEdit(last.start, edit.end, [*last.refs, *edit.refs]))
        else:
            merged.append(edit)
    return merged


class _RunStream:
    """One run of a file as the stream that a chunker reads."""

    def __init__(self, read: ReadInto, run: Run) -> None:
        self._read = read
        self._at = run.start
        self._end = run.end

    def readinto(self, buffer: memoryview) -> int:
        filled = self._read(self._at, buffer[: min(len(buffer), self._end - self._at, _READ_BYTES)])
        self._at += filled
        return filled
