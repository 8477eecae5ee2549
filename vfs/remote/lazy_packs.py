"""LazyPacks: a repository's backend whose packs may be at a remote; what is read of them is kept on disk.

Parts of packs are kept in aligned segments, each a file with its checksum, so that a damaged or torn one is fetched
again. They are not made durable: after a crash they are fetched again, too.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from vfs.backend.protocol import TRANSIENT, MissingKey, ObjectBackend
from vfs.backend.rooted_path import RootedPath
from vfs.backend.wrappers import Wrapper
from vfs.model.ids import RunningHash
from vfs.store.packs.pack_file import PACK_BYTES_MAX, parse_key

SEGMENT_BYTES = 1024 * 1024
SEGMENTS = "segments"
"""Where a repository keeps them."""
_CHECK_BYTES = 16
R = TypeVar("R")
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class LazyPacks(Wrapper):
    """The local backend, and for packs that are not there the remotes; everything else is local alone."""

    def __init__(self, local: ObjectBackend, root: Path, remotes: Callable[[], Sequence[ObjectBackend]]) -> None:
        """`remotes`: opens the backends of the remotes, called when a pack is missing for the first time."""
        super().__init__(local)
        self._segments = RootedPath(root, SEGMENTS)
        self._open_remotes = remotes
        self._remotes: Sequence[ObjectBackend] | None = None
        self._lock = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}

    @property
    def is_local(self) -> bool:
        """False: a read may wait for a remote."""
        return False

    def read(self, key: str) -> bytes:
        """Returns the whole object; one of a remote is not kept."""
        try:
            return self.inner.read(key)
        except MissingKey:
            return self._ask(key, lambda remote: remote.read_range(key, 0, PACK_BYTES_MAX))

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """Returns part of an object; fewer bytes only at its end."""
        try:
            return self.inner.read_range(key, offset, size)
        except MissingKey:
            return self._read_far(key, offset, size)

    def read_into(self, key: str, offset: int, buffer: memoryview) -> int:
        """Fills a buffer from part of an object; returns the number of bytes."""
        try:
            return self.inner.read_into(key, offset, buffer)
        except MissingKey:
            found = self._read_far(key, offset, len(buffer))
            buffer[: len(found)] = found
            return len(found)

    def hint_readahead(self, key: str, offset: int, size: int) -> None:
        """Passes a hint on for what is here."""
        with contextlib.suppress(MissingKey):
            self.inner.hint_readahead(key, offset, size)

    def drop_copy(self, key: str, offset: int, size: int) -> bool:
        """Drops the segments with part of a pack; returns True if there were any."""
        if parse_key(key) is None:
            return False
        name, dropped = key.rpartition("/")[2].removesuffix(".pack"), False
        for number in range(offset // SEGMENT_BYTES, (offset + max(1, size) - 1) // SEGMENT_BYTES + 1):
            with contextlib.suppress(OSError), (self._segments / name[:2]).opened(create=False) as directory:
                os.unlink(_file_name(name, number), dir_fd=directory)
                dropped = True
        return dropped

    def size(self, key: str) -> int:
        """Returns an object's bytes."""
        try:
            return self.inner.size(key)
        except MissingKey:
            return self._ask(key, lambda remote: remote.size(key))

    def close(self) -> None:
        """Closes the backends of the remotes; the local one is its owner's."""
        for remote in self._remotes or ():
            remote.close()

    def _ask(self, key: str, ask: Callable[[ObjectBackend], R]) -> R:
        """Returns what the first remote that has a pack answers. Raises MissingKey, or why one could not be asked."""
        if parse_key(key) is None:
            raise MissingKey(key)
        with self._lock:
            if self._remotes is None:
                self._remotes = self._open_remotes()
        failure: OSError | None = None
        for remote in self._remotes:
            try:
                return ask(remote)
            except MissingKey:
                continue
            except TRANSIENT as error:
                failure = error
        if failure is not None:
            raise failure
        raise MissingKey(key)

    def _ask_range(self, key: str, offset: int, size: int) -> bytes:
        return self._ask(key, lambda remote: remote.read_range(key, offset, size))

    def _read_far(self, key: str, offset: int, size: int) -> bytes:
        if size <= 0 or not 0 <= offset < PACK_BYTES_MAX:
            return b""
        if parse_key(key) is None:
            raise MissingKey(key)
        first, last = offset // SEGMENT_BYTES, (min(offset + size, PACK_BYTES_MAX) - 1) // SEGMENT_BYTES
        name = key.rpartition("/")[2].removesuffix(".pack")
        with self._lock:
            lock = self._fetching.setdefault(name, threading.Lock())
        parts = [self._kept(name, number) for number in range(first, last + 1)]
        if None in parts:
            with lock:
                self._fill(key, name, first, parts)
        data = b"".join(part for part in parts if part is not None)
        start = offset - first * SEGMENT_BYTES
        return data[start : start + size]

    def _fill(self, key: str, name: str, first: int, parts: list[bytes | None]) -> None:
        """Fetches the segments that are missing, those side by side with one request."""
        at = 0
        while at < len(parts):
            if parts[at] is None:
                # Another thread may have brought it while this one waited.
                parts[at] = self._kept(name, first + at)
            end = at
            while end < len(parts) and parts[end] is None:
                end += 1
            if end > at:
                start, size = (first + at) * SEGMENT_BYTES, (end - at) * SEGMENT_BYTES
                found = self._ask_range(key, start, size)
                for number in range(at, end):
                    part = found[(number - at) * SEGMENT_BYTES : (number - at + 1) * SEGMENT_BYTES]
                    parts[number] = part
                    self._keep(name, first + number, part)
            at = max(end, at + 1)

    # Segments on disk.

    def _kept(self, name: str, number: int) -> bytes | None:
        try:
            with (self._segments / name[:2]).opened(create=False) as directory:
                descriptor = os.open(_file_name(name, number), os.O_RDONLY | _FILE, dir_fd=directory)
        except OSError:
            return None
        try:
            data = os.pread(descriptor, SEGMENT_BYTES + _CHECK_BYTES, 0)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        part = data[:-_CHECK_BYTES]
        return part if data[-_CHECK_BYTES:] == _check(name, number, part) else None

    def _keep(self, name: str, number: int, part: bytes) -> None:
        """Keeps a segment if the disk takes it; a full one costs speed alone."""
        final = _file_name(name, number)
        unfinished = f"{final}.{os.getpid()}-{threading.get_ident()}"
        with contextlib.suppress(OSError), (self._segments / name[:2]).opened(create=True) as directory:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FILE
            descriptor = os.open(unfinished, flags, 0o600, dir_fd=directory)
            try:
                with open(descriptor, "wb", closefd=True) as file:
                    file.write(part)
                    file.write(_check(name, number, part))
                os.rename(unfinished, final, src_dir_fd=directory, dst_dir_fd=directory)
            except OSError:
                os.unlink(unfinished, dir_fd=directory)
                raise


def _file_name(name: str, number: int) -> str:
    return f"{name}-{number}"


def _check(name: str, number: int, part: bytes) -> bytes:
    running = RunningHash()
    running.update(_file_name(name, number).encode())
    running.update(part)
    return running.hex()[:_CHECK_BYTES].encode()
