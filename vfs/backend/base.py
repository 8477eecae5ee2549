"""The protocol of a place for named bytes, and what can go wrong with it.

Keys are strings like `packs/data/3f/3f9a.pack`: parts of plain ASCII characters, none of them beginning with a dot; no
key is the folder of another. A backend is told nothing about what it keeps. Every implementation passes the suite in
tests/conformance/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from vfs.errors import InvalidInput, NotFound

Buffer = bytes | bytearray | memoryview
"""What carries bytes; a backend imports nothing of the model, so it names its own."""

UNFINISHED = "tmp/"
"""Prefix under which a backend may keep what is not yet committed; never listed and never a key."""

_KEY = re.compile(r"[A-Za-z0-9_@=+,-][A-Za-z0-9_@=+,.-]*(?:/[A-Za-z0-9_@=+,-][A-Za-z0-9_@=+,.-]*)*")
KEY_CHARACTERS_MAX = 512


class MissingKey(NotFound):
    """A backend holds nothing under a key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"there is no {key}")
        self.key = key


class Space(NamedTuple):
    """Room on the medium, in bytes and in files; `available` is what an ordinary user may still fill."""

    total: int
    free: int
    available: int
    files: int
    files_free: int


class Upload(Protocol):
    """An object on its way in: written in pieces, then made visible whole or not at all.

    Owned by one thread. Leaving the context without `commit` aborts.
    """

    @property
    def size(self) -> int:
        """Bytes written so far."""
        ...

    def write(self, *pieces: Buffer) -> None:
        """Appends the pieces; keeps no reference to them."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Returns bytes that were written before; fewer only at the end."""
        ...

    def commit(self, key: str) -> None:
        """Makes the object durable and visible under `key`, replacing what was there; the upload is over."""
        ...

    def abort(self) -> None:
        """Drops the object; does nothing after `commit` or `abort`."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Backend(Protocol):
    """A place for named bytes. Safe to call from several threads; every method may raise OSError of the medium.

    MissingKey: there is nothing under the key. InvalidInput: no key, or a key that would leave the place.
    """

    def read(self, key: str) -> bytes:
        """Returns the whole object."""
        ...

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """Returns part of an object; fewer bytes only at its end. Lets other threads run meanwhile."""
        ...

    def read_into(self, key: str, offset: int, buffer: memoryview) -> int:
        """Fills a buffer from part of an object; returns how much, less only at its end. Lets other threads run."""
        ...

    def will_need(self, key: str, offset: int, size: int) -> None:
        """Says that part of an object will be read soon, so that it may be brought nearer; returns at once."""
        ...

    def size(self, key: str) -> int:
        """Returns an object's bytes."""
        ...

    def put(self, key: str, data: Buffer) -> None:
        """Stores an object, durable on return and whole or absent after any crash; replaces."""
        ...

    def start(self) -> Upload:
        """Begins an object that is written in pieces."""
        ...

    def append(self, key: str, data: Buffer) -> None:
        """Extends an object (or begins it), durable on return; after an OSError it has its old size."""
        ...

    def truncate(self, key: str, size: int) -> None:
        """Cuts an object to `size` bytes, durable on return; never extends."""
        ...

    def delete(self, key: str) -> None:
        """Removes an object, durable on return."""
        ...

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yields (key, bytes) of all objects whose key begins with `prefix`, sorted by key."""
        ...

    def space(self) -> Space:
        """Returns how much room there is."""
        ...


def check_key(key: str) -> str:
    """Returns the key; raises InvalidInput for one that is no plain relative path or names unfinished uploads."""
    if len(key) > KEY_CHARACTERS_MAX or not _KEY.fullmatch(key) or key.startswith(UNFINISHED):
        raise InvalidInput(f"{key!r} is no key of a backend")
    return key
