"""MemoryBackend: objects in a dict, for tests and dry runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from vfs.backend.protocol import Buffer, KeyExists, MissingKey, OnDisk, Token, TokenMismatch, Versioned, check_key
from vfs.errors import InvalidInput


class MemoryBackend:
    """An ObjectBackend, and LocalFiles, that lives as long as the process.

    A token is a generation number, as in some services: no two states of an object have the same one.
    """

    is_local = True

    def __init__(self) -> None:
        self._objects: dict[str, Versioned] = {}
        self._generation = 0
        self._lock = threading.Lock()

    def _store(self, key: str, data: bytes) -> Token:
        """Stores an object; the caller holds the lock."""
        self._generation += 1
        token = Token((str(self._generation),))
        self._objects[key] = Versioned(data, token)
        return token

    def read(self, key: str) -> bytes:
        """Returns the whole object."""
        return self.read_versioned(key).data

    def read_versioned(self, key: str) -> Versioned:
        """Returns the whole object with its token."""
        try:
            return self._objects[check_key(key)]
        except KeyError:
            raise MissingKey(key) from None

    def read_if_changed(self, key: str, token: Token) -> Versioned | None:
        """Returns the whole object with its token, None if `token` names its contents."""
        found = self.read_versioned(key)
        return found if found.token != token else None

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """Returns part of an object; fewer bytes only at its end."""
        return self.read(key)[offset : offset + size]

    def read_into(self, key: str, offset: int, buffer: memoryview) -> int:
        """Fills a buffer from part of an object; returns the number of bytes, fewer than asked only at its end."""
        found = self.read_range(key, offset, len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def read_kept(self, key: str, offset: int, size: int) -> Buffer | None:
        """Returns None: no copies are kept."""
        return None

    def on_disk(self, key: str, offset: int, size: int) -> OnDisk | None:
        """Returns None: everything is in memory."""
        return None

    def hint_readahead(self, key: str, offset: int, size: int) -> None:
        """Does nothing: everything is in memory."""
        self.read(key)

    def drop_copy(self, key: str, offset: int, size: int) -> bool:
        """Returns False: no copies are kept."""
        return False

    def size(self, key: str) -> int:
        """Returns an object's bytes."""
        return len(self.read(key))

    def put(self, key: str, data: Buffer) -> None:
        """Stores an object; replaces."""
        check_key(key)
        with self._lock:
            self._store(key, bytes(data))

    def put_if_absent(self, key: str, data: Buffer) -> Token:
        """Stores an object where the key has none, else raises KeyExists."""
        check_key(key)
        with self._lock:
            if key in self._objects:
                raise KeyExists(key)
            return self._store(key, bytes(data))

    def compare_and_swap(self, key: str, data: Buffer, expected: Token) -> Token:
        """Replaces an object if `expected` still names its contents; returns the new token."""
        with self._lock:
            if self.read_versioned(key).token != expected:
                raise TokenMismatch(key)
            return self._store(key, bytes(data))

    def start(self) -> MemoryUpload:
        """Begins an object that is written in pieces."""
        return MemoryUpload(self)

    def append(self, key: str, data: Buffer) -> None:
        """Extends an object or begins it."""
        check_key(key)
        with self._lock:
            before = self._objects[key].data if key in self._objects else b""
            self._store(key, before + bytes(data))

    def truncate(self, key: str, size: int) -> None:
        """Cuts an object to `size` bytes; never extends."""
        with self._lock:
            self._store(key, self.read(key)[:size])

    def delete(self, key: str) -> None:
        """Removes an object."""
        if self._objects.pop(check_key(key), None) is None:
            raise MissingKey(key)

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yields (key, bytes) sorted by key."""
        with self._lock:
            listed = sorted((key, len(found.data)) for key, found in self._objects.items() if key.startswith(prefix))
        yield from listed

    def sync_name(self, key: str) -> None:
        """Does nothing: nothing is durable."""

    def clear_unfinished(self) -> int:
        """Returns 0: an upload ends with its process."""
        return 0

    def close_removed(self) -> None:
        """Does nothing: no object is kept open."""

    def close(self) -> None:
        """Does nothing: the objects stay for the next user."""


class MemoryUpload:
    """An Upload into a MemoryBackend."""

    def __init__(self, backend: MemoryBackend) -> None:
        self._backend = backend
        self._data: bytearray | None = bytearray()
        self._key = ""
        self._size = 0

    def _open(self) -> bytearray:
        if self._data is None:
            raise InvalidInput("the upload is over")
        return self._data

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, *pieces: Buffer) -> None:
        """Appends the pieces."""
        data = self._open()
        for piece in pieces:
            data += piece
        self._size = len(data)

    def read(self, offset: int, size: int) -> bytes:
        """Returns bytes that were written before; fewer only at the end."""
        return bytes(self._open()[offset : offset + size])

    def commit(self, key: str) -> None:
        """Makes the object visible under `key`; a second time does nothing."""
        if self._data is None and self._key == key:
            return
        self._backend.put(key, self._open())
        self._data, self._key = None, key

    def abort(self) -> None:
        """Drops the object."""
        self._data = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
