"""Reading files to import in worker threads: bytes, holes and attributes, cut into chunks that are ready to be stored.

A file is trusted to be what was read only if its size and times were the same before and after; otherwise it is read
again, a few times, and then reported.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from typing import NamedTuple

from vfs.backend.durable import read_at
from vfs.errors import VfsError
from vfs.model.chunking import Chunker, IngestParams
from vfs.model.ids import Buffer
from vfs.model.objects import ChunkRef
from vfs.repo.file_metadata import Xattrs, read_xattrs
from vfs.repo.ingest.writeback import Filesystems, stamps_of, write_back
from vfs.store.object_writer import PreparedBatch

ATTEMPTS = 3
LARGE_BYTES = 8 * 1024 * 1024
"""Larger files are read piece by piece."""
_PIECE_BYTES = 4 * 1024 * 1024
_AHEAD_MAX, _AHEAD_SHARE = 32, 16
"""Small files that a thread has open, of which the disk reads all while one is read and cut: at most, and which part of
the descriptors that the process may have. Eight threads leave half of them to the walk."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_BLOCK = 512
_GONE = frozenset({errno.ENOENT, errno.ELOOP, errno.ESTALE})


class Target(NamedTuple):
    """A regular file to read, by name in an open directory."""

    directory: int
    name: bytes


class FileRead(NamedTuple):
    """What was read of one file, its chunks being elsewhere.

    `runs` are the lengths of its chunks in order, negative ones are holes; a tiny file has none but `tiny`.
    `status` is None where there is no such regular file (any more) or `error` says why it cannot be read. `started_ns`
    is the time before dirty pages were written back; `is_stamped`: what is stored later, through a mapping too, moves
    the file's times.
    """

    status: os.stat_result | None
    xattrs: Xattrs = ()
    tiny: bytes = b""
    runs: Sequence[int] = ()
    started_ns: int = 0
    is_stable: bool = True
    is_stamped: bool = False
    error: OSError | VfsError | None = None


class Piece(NamedTuple):
    """Part of a large file: `buffers` to be stored as chunks, or a hole of `hole_bytes`."""

    buffers: list[Buffer]
    hole_bytes: int = 0


class BatchRead(NamedTuple):
    """Files read together and the chunks of all of them, in order."""

    files: list[FileRead]
    chunks: PreparedBatch | None


class SourceReader:
    """Reads files; `read_batch` is safe to call from several threads."""

    def __init__(self, params: IngestParams, prepare: Callable[[list[Buffer]], PreparedBatch]) -> None:
        self._params = params
        self._prepare = prepare
        self._local = threading.local()
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        share = limit // _AHEAD_SHARE if limit != resource.RLIM_INFINITY else _AHEAD_MAX
        self._ahead = max(1, min(_AHEAD_MAX, share))
        self.filesystems = Filesystems()

    def read_batch(self, targets: Sequence[Target]) -> BatchRead:
        """Reads small files whole; errors are part of the result."""
        buffers: list[Buffer] = []
        opened_ahead = _opened_ahead(targets, self._ahead)
        files = [self._read_small(target, opened, buffers) for target, opened in opened_ahead]
        return BatchRead(files, self._prepare(buffers) if buffers else None)

    def prepare(self, buffers: list[Buffer]) -> PreparedBatch:
        """Makes the chunks of a large file's piece ready; safe to call from several threads."""
        return self._prepare(buffers)

    def _read_small(self, target: Target, opened: int | OSError, buffers: list[Buffer]) -> FileRead:
        kept = len(buffers)
        attempt = 1
        while True:
            if isinstance(opened, OSError):
                return FileRead(None, error=None if opened.errno in _GONE else opened)
            result = self._attempt(opened, buffers)
            if result.status is not None and (result.is_stable or attempt == ATTEMPTS):
                return result
            del buffers[kept:]
            if result.status is None:
                return result
            attempt += 1
            opened = _open(target)

    def _attempt(self, descriptor: int, buffers: list[Buffer]) -> FileRead:
        started_ns = time.time_ns()
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                return FileRead(None)
            is_stamped = write_back(descriptor, self.filesystems.of(descriptor, before))
            before = os.fstat(descriptor)
            xattrs = read_xattrs(descriptor)
            size = before.st_size
            runs: list[int] = []
            tiny = b""
            holes = has_holes(descriptor, before)
            if size <= self._params.tiny_bytes_max and not holes:
                tiny = read_at(descriptor, 0, size)
                length = len(tiny)
            else:
                kept = len(buffers)
                length = self._cut(descriptor, size, holes, runs, buffers)
                if length <= self._params.tiny_bytes_max and not holes:
                    # It has shrunk: what is left is a tiny file, however it was going to be kept.
                    tiny = b"".join(buffers[kept:])
                    del buffers[kept:], runs[:]
            after = os.fstat(descriptor)
        except (OSError, VfsError) as error:
            return FileRead(None, error=error)
        finally:
            os.close(descriptor)
        is_stable = length == size and _state(before) == _state(after)
        return FileRead(before, xattrs, tiny, runs, started_ns, is_stable, is_stamped)

    def _cut(self, descriptor: int, size: int, holes: bool, runs: list[int], buffers: list[Buffer]) -> int:
        """Reads a file whole and cuts its data; returns the bytes found, which are fewer where it has shrunk."""
        chunker = self._chunker()
        length = 0
        for start, end, is_hole in data_runs(descriptor, size) if holes else [(0, size, False)]:
            if is_hole:
                runs.append(start - end)
                length = end
                continue
            data = memoryview(read_at(descriptor, start, end - start))
            at = 0
            for chunk_bytes in chunker.cut(data):
                buffers.append(data[at : at + chunk_bytes])
                runs.append(chunk_bytes)
                at += chunk_bytes
            length = start + len(data)
            if length < end:
                break
        return length

    def _chunker(self) -> Chunker:
        chunker: Chunker | None = getattr(self._local, "chunker", None)
        if chunker is None:
            chunker = self._local.chunker = Chunker(self._params.chunker)
        return chunker


class LargeFile:
    """A large file being read, by one thread. Reading it once is `pieces` to its end; then `is_stable` tells."""

    def __init__(self, target: Target, params: IngestParams) -> None:
        """Opens the file; raises OSError, also where it is no regular file (any more)."""
        self.started_ns = time.time_ns()
        self._chunker = Chunker(params.chunker)
        self._piece_bytes = max(_PIECE_BYTES, 4 * params.chunker.max_bytes)
        self._descriptor = os.open(target.name, _OPEN, dir_fd=target.directory)
        try:
            self.status = os.fstat(self._descriptor)
            if not stat.S_ISREG(self.status.st_mode):
                raise FileNotFoundError(errno.ENOENT, "it is no regular file any more")
            self._stamps = stamps_of(self._descriptor)
            self.is_stamped = write_back(self._descriptor, self._stamps)
            self.status = os.fstat(self._descriptor)
            self.xattrs = read_xattrs(self._descriptor)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._length = 0

    def pieces(self) -> Iterator[Piece]:
        """Yields the file's pieces in order."""
        size = self.status.st_size
        holes = has_holes(self._descriptor, self.status)
        for start, end, is_hole in data_runs(self._descriptor, size) if holes else [(0, size, False)]:
            if is_hole:
                self._length = end
                yield Piece([], end - start)
                continue
            yield from self._data(start, end)
            if self._length < end:
                return

    def _data(self, start: int, end: int) -> Iterator[Piece]:
        at = start
        while True:
            wanted = min(self._piece_bytes, end - at)
            view = memoryview(read_at(self._descriptor, at, wanted))
            self._length = at + len(view)
            is_end = self._length == end or len(view) < wanted
            cuts = self._chunker.cut(view)
            # The last chunk of a piece ends at no content-defined boundary: it is read again, with the next piece.
            if not is_end:
                cuts.pop()
            place = 0
            chunks: list[Buffer] = []
            for chunk_bytes in cuts:
                chunks.append(view[place : place + chunk_bytes])
                place += chunk_bytes
            at += place
            yield Piece(chunks)
            if is_end:
                return

    def is_stable(self) -> bool:
        """Returns True if the file was the same before and after, and as long as it said."""
        return self._length == self.status.st_size and _state(self.status) == _state(os.fstat(self._descriptor))

    def restart(self) -> None:
        """Reads the file's state again, before its content."""
        self.started_ns = time.time_ns()
        self.is_stamped = write_back(self._descriptor, self._stamps)
        self.status = os.fstat(self._descriptor)
        self._length = 0

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)


class LargeRead:
    """One read of a large file: `pieces` to their end, then `read` says what was read.

    `refs`: the caller's, for what it stores of the pieces; empty again when a file that has changed is read again.
    """

    def __init__(self, target: Target, params: IngestParams) -> None:
        self.refs: list[ChunkRef] = []
        self.read = FileRead(None)
        self._target, self._params = target, params

    def pieces(self) -> Iterator[Piece]:
        """Yields the pieces; errors of the file are in `read`, and what the caller raises meanwhile is not."""
        try:
            with closing(LargeFile(self._target, self._params)) as file:
                for _ in range(ATTEMPTS):
                    self.refs = []
                    yield from file.pieces()
                    if file.is_stable():
                        break
                    file.restart()
                self.read = FileRead(
                    file.status, file.xattrs, b"", (), file.started_ns, file.is_stable(), file.is_stamped
                )
        except FileNotFoundError:
            pass
        except (OSError, VfsError) as error:
            self.read = FileRead(None, error=error)


def _open(target: Target) -> int | OSError:
    try:
        return os.open(target.name, _OPEN, dir_fd=target.directory)
    except OSError as error:
        return error


def _opened_ahead(targets: Sequence[Target], ahead_max: int) -> Iterator[tuple[Target, int | OSError]]:
    """Yields the files with descriptors, which the caller closes; the disk reads the next ones meanwhile."""
    ahead: deque[int] = deque()
    try:
        for number, target in enumerate(targets):
            opened: int | OSError
            while len(ahead) < min(ahead_max, len(targets) - number):
                opened = _open(targets[number + len(ahead)])
                if isinstance(opened, OSError):
                    # Tried again when it is the file's turn: by then there may be descriptors.
                    break
                # Not for what turns out to be no regular file.
                with suppress(OSError):
                    os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_WILLNEED)
                ahead.append(opened)
            yield target, ahead.popleft() if ahead else opened
    finally:
        for descriptor in ahead:
            os.close(descriptor)


def has_holes(descriptor: int, status: os.stat_result) -> bool:
    """Returns True if a file has a hole; asks the filesystem only where the blocks in use do not cover the size."""
    if status.st_blocks * _BLOCK >= status.st_size:
        return False
    try:
        return os.lseek(descriptor, 0, os.SEEK_HOLE) < status.st_size
    except OSError:
        return False


def data_runs(descriptor: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """Yields (start, end, is hole) from 0 to `size` as the filesystem reports them."""
    at = 0
    while at < size:
        try:
            data = min(os.lseek(descriptor, at, os.SEEK_DATA), size)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            data = size
        if data > at:
            yield at, data, True
        if data == size:
            return
        at = min(os.lseek(descriptor, data, os.SEEK_HOLE), size)
        if at == data:
            # Truncated meanwhile: the length is 0.
            return
        yield data, at, False


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
