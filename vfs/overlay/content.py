"""Reads and writes file content, copy-on-write: extents in journals, over the frozen layer, over the base version."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

from vfs.errors import InvalidInput, IsADirectory
from vfs.model.ids import Buffer
from vfs.model.objects import Content, Kind
from vfs.overlay.apply import apply_write
from vfs.overlay.copy_up import materialise
from vfs.overlay.extents import GAP
from vfs.overlay.journal.journal import Journal
from vfs.overlay.journal.journal_records import Write
from vfs.overlay.layer_nodes import Clean, CommittedFile, FileNode
from vfs.overlay.namespace import FILE_BYTES_MAX, clear_capabilities, inode_kind
from vfs.overlay.state import Inode, State
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import file_content
from vfs.store.trees.file_reader import FileReader, Run, join_runs

WRITE_BYTES_MAX = 1 << 30
"""A larger write is partial, as the system call allows."""


class Piece(NamedTuple):
    """Where `size` bytes come from: `position` of a journal or of a committed file; zeros if `origin` is None."""

    size: int
    origin: Journal | FileReader | None
    position: int


def open_file(state: State, ino: int) -> CommittedFile | None:
    """Counts an open file, whose inode stays after its last name. Returns the committed file, if unchanged."""
    unchanged = unchanged_file(state, ino)
    state.opens[ino] = state.opens.get(ino, 0) + 1
    return unchanged


def close_file(state: State, ino: int) -> None:
    """Ends one `open_file`."""
    left = state.opens.get(ino, 0) - 1
    if left > 0:
        state.opens[ino] = left
    else:
        state.opens.pop(ino, None)
        state.release(ino)


def read(state: State, lock: AbstractContextManager[object], ino: int, offset: int, size: int) -> Buffer:
    """Returns bytes of a file, fewer only at its end; takes the layer's lock, but reads the store without it."""
    with lock:
        pieces = plan_read(state, ino, offset, size)
        journals = hold_journals(pieces)
    try:
        return fetch(pieces)
    finally:
        if journals:
            with lock:
                for journal in journals:
                    journal.release()


def plan_read(state: State, ino: int, offset: int, size: int) -> list[Piece]:
    """Returns where the bytes of a stretch of a file are, cut at its end. They may be read without the lock."""
    inode = state.resolve(ino)
    if isinstance(inode, Clean):
        _check_file(inode)
        size = max(0, min(size, inode.entry.size - offset))
        return [Piece(size, _clean_reader(state, inode), offset)] if size else []
    if not isinstance(inode, FileNode):
        _check_file(inode)
        return []
    end = min(offset + size, inode.size)
    return list(layer_pieces(state.source, state.journals, inode, offset, end))


def layer_pieces(
    source: ObjectSource, journals: Mapping[int, Journal], node: FileNode, start: int, end: int
) -> Iterator[Piece]:
    """Yields where the bytes [start, end) of a materialised file are."""
    if start >= end:
        return
    for begin, stop, segment, position in node.extents.stretches(start, end):
        if segment != GAP:
            yield Piece(stop - begin, journals[segment], position)
            continue
        middle = min(stop, node.lower_size)
        if begin < middle:
            lower = node.lower
            if isinstance(lower, FileNode):
                yield from layer_pieces(source, journals, lower, begin, middle)
            elif lower is not None:
                yield Piece(middle - begin, reader_of(source, node, lower), begin)
            begin = middle
        if begin < stop:
            yield Piece(stop - begin, None, 0)


def fetch(pieces: list[Piece]) -> Buffer:
    """Returns the bytes of pieces; without a copy if there is one piece."""
    if len(pieces) == 1:
        return _fetch_piece(pieces[0])
    return b"".join(map(_fetch_piece, pieces))


def fetch_into(pieces: Iterable[Piece], buffer: memoryview) -> int:
    """Reads pieces into a buffer that is large enough; returns the number of bytes."""
    filled = 0
    for piece in pieces:
        place = buffer[filled : filled + piece.size]
        if isinstance(piece.origin, Journal):
            piece.origin.read_into(piece.position, place)
        else:
            place[:] = _fetch_piece(piece)
        filled += piece.size
    return filled


def _fetch_piece(piece: Piece) -> Buffer:
    if piece.origin is None:
        return bytes(piece.size)
    return piece.origin.read(piece.position, piece.size)


def hold_journals(pieces: list[Piece]) -> list[Journal]:
    """Holds the journals of a read plan open and returns them; the caller releases each."""
    held = [piece.origin for piece in pieces if isinstance(piece.origin, Journal)]
    for journal in held:
        journal.hold()
    return held


def runs_of(source: ObjectSource, node: FileNode, start: int) -> Iterator[Run]:
    """Yields the runs of data and holes of a file from an offset to its end, adjacent ones joined."""
    return join_runs(_runs(source, node, start, node.size))


def _runs(source: ObjectSource, node: FileNode, start: int, end: int) -> Iterator[Run]:
    if start >= end:
        return
    for begin, stop, segment, _ in node.extents.stretches(start, end):
        if segment != GAP:
            yield Run(begin, stop, is_hole=False)
            continue
        middle = min(stop, node.lower_size)
        if begin < middle:
            lower = node.lower
            if isinstance(lower, FileNode):
                yield from _runs(source, lower, begin, middle)
            elif lower is not None:
                yield from reader_of(source, node, lower).runs(begin, middle)
            begin = middle
        if begin < stop:
            yield Run(begin, stop, is_hole=True)


def write(state: State, ino: int, offset: int, data: Buffer) -> int:
    """Writes bytes into a file and returns their number. Copy-on-write: the file below stays as it is."""
    inode = state.active.nodes.get(ino)
    if not isinstance(inode, FileNode):
        _check_file(state.resolve(ino))
        inode = materialise(state, ino)
    if offset < 0:
        raise InvalidInput("an offset below 0")
    if not len(data):
        return 0
    if len(data) > WRITE_BYTES_MAX:
        data = memoryview(data)[:WRITE_BYTES_MAX]
    size = len(data)
    if offset + size > FILE_BYTES_MAX:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    if inode.xattrs:
        clear_capabilities(state, inode)
    record = Write(ino, offset, state.now())
    journal = state.journal
    position = journal.append(record, data)
    apply_write(state, record, journal.generation, position, size)
    return size


def _check_file(inode: Inode) -> None:
    kind = inode_kind(inode)
    if kind == Kind.DIR:
        raise IsADirectory("a directory has no bytes to read or write")
    if kind != Kind.FILE:
        raise InvalidInput("only files have bytes to read or write")


def unchanged_file(state: State, ino: int) -> CommittedFile | None:
    """Returns the committed file of an unchanged regular file, None for any other inode."""
    inode = state.resolve(ino)
    return _place_of(state, inode) if isinstance(inode, Clean) and inode.entry.kind == Kind.FILE else None


def _place_of(state: State, clean: Clean) -> CommittedFile:
    parent = state.resolve_directory(clean.parent)
    directory = parent.entry if isinstance(parent, Clean) else parent.committed()
    assert directory is not None
    return CommittedFile(directory, clean.entry)


def _clean_reader(state: State, clean: Clean) -> FileReader:
    if clean.reader is None:
        clean.reader = FileReader(state.source, committed_content(state.source, _place_of(state, clean)))
    return clean.reader


def reader_of(source: ObjectSource, node: FileNode, lower: CommittedFile) -> FileReader:
    """Returns a reader of the committed file below a node."""
    if node.reader is None:
        node.reader = FileReader(source, committed_content(source, lower))
    return node.reader


def committed_content(source: ObjectSource, lower: CommittedFile) -> Content:
    """Returns the content of a committed file."""
    return file_content(source, lower.directory, lower.entry)
