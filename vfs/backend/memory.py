"""MemoryBackend: named bytes in a dict, for tests and dry runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from vfs.backend.base import Buffer, MissingKey, Space, check_key


class MemoryBackend:
    """A Backend that lives as long as the process."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def read(self, key: str) -> bytes:
        """Returns the whole object."""
        try:
            return self._objects[check_key(key)]
        except KeyError:
            raise MissingKey(key) from None

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """Returns part of an object; fewer bytes only at its end."""
        return self.read(key)[offset : offset + size]

    def read_into(self, key: str, offset: int, buffer: memoryview) -> int:
        """Fills a buffer from part of an object; returns how much, less only at its end."""
        found = self.read_range(key, offset, len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def will_need(self, key: str, offset: int, size: int) -> None:
        """Does nothing: everything is in memory."""
        self.read(key)

    def size(self, key: str) -> int:
        """Returns an object's bytes."""
        return len(self.read(key))

    def put(self, key: str, data: Buffer) -> None:
        """Stores an object; replaces."""
        self._objects[check_key(key)] = bytes(data)

    def start(self) -> MemoryUpload:
        """Begins an object that is written in pieces."""
        return MemoryUpload(self)

    def append(self, key: str, data: Buffer) -> None:
        """Extends an object or begins it."""
        with self._lock:
            self._objects[check_key(key)] = self._objects.get(key, b"") + bytes(data)

    def truncate(self, key: str, size: int) -> None:
        """Cuts an object to `size` bytes; never extends."""
        with self._lock:
            self._objects[key] = self.read(key)[:size]

    def delete(self, key: str) -> None:
        """Removes an object."""
        if self._objects.pop(check_key(key), None) is None:
            raise MissingKey(key)

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yields (key, bytes) sorted by key."""
        with self._lock:
            found = sorted((key, len(data)) for key, data in self._objects.items() if key.startswith(prefix))
        yield from found

    def space(self) -> Space:
        """Returns numbers that never run out."""
        return Space(sys.maxsize, sys.maxsize, sys.maxsize, sys.maxsize, sys.maxsize)


class MemoryUpload:
    """An Upload into a MemoryBackend."""

    def __init__(self, backend: MemoryBackend) -> None:
        self._backend = backend
        self._data: bytearray | None = bytearray()

    def _open(self) -> bytearray:
        if self._data is None:
            raise ValueError("the upload is over")
        return self._data

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return len(self._open())

    def write(self, *pieces: Buffer) -> None:
        """Appends the pieces."""
        data = self._open()
        for piece in pieces:
            data += piece

    def read(self, offset: int, size: int) -> bytes:
        """Returns bytes that were written before; fewer only at the end."""
        return bytes(self._open()[offset : offset + size])

    def commit(self, key: str) -> None:
        """Makes the object visible under `key`."""
        self._backend.put(key, self._open())
        self._data = None

    def abort(self) -> None:
        """Drops the object."""
        self._data = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
