"""The protocols of storage: `ObjectBackend` (named objects) and `LocalFiles` (files that grow), with their errors.

Keys are strings like `packs/data/3f/3f9a.pack`: components of plain ASCII characters, none of them beginning with a
dot; no key is the directory of another. A backend knows nothing about the contents. Every implementation and wrapper
passes the suite in tests/conformance/, races included.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, NewType, Protocol, Self

from vfs.errors import AlreadyExists, Conflict, InvalidInput, NotFound

Buffer = bytes | bytearray | memoryview
"""Types that carry bytes; a backend imports nothing of the model, so it has its own alias."""

Token = NewType("Token", tuple[str, ...])
"""Names the contents that a read or a write saw, for `compare_and_swap`. Opaque: the whole answer of a put, whatever
the service puts there (an ETag, a generation, a version). Only the backend that made a token can use it."""

UNFINISHED = "tmp/"
"""Prefix under which a backend may keep uploads that are not committed; never listed and never a key."""

TRANSIENT: tuple[type[OSError], ...] = (ConnectionError, TimeoutError)
"""Errors after which the same request may succeed. Every other error would come again."""

_KEY = r"[A-Za-z0-9_@=+,-][A-Za-z0-9_@=+,.-]*(?:/[A-Za-z0-9_@=+,-][A-Za-z0-9_@=+,.-]*)*"
KEY_CHARACTERS_MAX = 512


class MissingKey(NotFound):
    """A backend has no object under a key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"there is no {key}")
        self.key = key


class KeyExists(AlreadyExists):
    """A conditional create found an object under the key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"there is a {key} already")
        self.key = key


class TokenMismatch(Conflict):
    """A compare-and-swap found other contents than those that its token names."""

    code = "token-mismatch"

    def __init__(self, key: str) -> None:
        super().__init__(f"another writer has changed {key}", hint="Read it again, then repeat the change.")
        self.key = key


class Versioned(NamedTuple):
    """An object's bytes and the token that names them."""

    data: bytes
    token: Token


class Upload(Protocol):
    """An object that is written in pieces, then made visible whole or not at all.

    Used by one thread. Leaving the context without `commit` aborts. Nothing of it is listed before `commit`.
    """

    @property
    def size(self) -> int:
        """Bytes written so far."""
        ...

    def write(self, *pieces: Buffer) -> None:
        """Appends the pieces; keeps no reference to them. After an OSError nothing of them counts as written."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Returns bytes that were written before; fewer only at the end."""
        ...

    def commit(self, key: str) -> None:
        """Makes the object durable and visible under `key`, replacing what was there; the upload is over.

        After an OSError the upload is still open. Idempotent: a second commit to the same key does nothing, so a
        commit with an unknown outcome may be retried.
        """
        ...

    def abort(self) -> None:
        """Drops the object; does nothing after `commit` or `abort`."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class OpenFile:
    """A descriptor that closes with its last reference, so that evicting it from the table is safe at any time."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class OnDisk(NamedTuple):
    """Where part of an object lies in a file of a local disk: at `offset`, but its last `rest_bytes` at `rest_offset`.

    The bytes of a copy may be others by the time they are read.
    """

    file: OpenFile
    offset: int
    rest_offset: int = 0
    rest_bytes: int = 0


class ObjectBackend(Protocol):
    """A store of named objects: a directory, memory, an object store over a network, or a wrapper around one.

    Threads: every method may be called from several threads at once, and lets other threads run while it waits.

    Durability: a write that has returned survives a crash of the program and of the machine, its name included.

    Read after write: `read`, `read_versioned` and `list` that begin after a write or delete has returned see it, from
    any process and machine. Ranges and sizes are for objects that are written once: of a replaced or deleted object
    another process may still get those of the old one.

    Atomicity: a read sees an object whole, old or new, never a mix; after a crash in the middle of a write, too.

    Conditional writes: `put_if_absent` and `compare_and_swap` are atomic among all processes and machines. A key is
    written with conditions or without them, not both: an unconditional write beside a conditional one may be lost.
    Tokens may be hashes of the contents (the ETags of most services are), so after A -> B -> A the first token may fit
    again. Each state of an object that is swapped must be unique: put a sequence number and a random nonce into it.

    Retry: reads, `size`, `list`, `put`, `delete` and `Upload.commit` are idempotent and may be repeated after a
    TRANSIENT error; a repeated `delete` may find nothing. A conditional write must not be repeated blindly, by the
    client library either: after a TRANSIENT error its outcome is unknown. Read the object: a nonce of one's own in
    it tells whether the write was done.

    Errors: MissingKey where there is no object; InvalidInput for a malformed key; OSError of the medium or network,
    TRANSIENT where a retry may help.
    """

    @property
    def is_local(self) -> bool:
        """True if a read takes no longer than one of a local disk, so that a mount may answer requests with it.

        Otherwise a mount reads in threads, off its event loop.
        """
        ...

    def read(self, key: str) -> bytes:
        """Returns the whole object."""
        ...

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """Returns part of an object; fewer bytes only at its end."""
        ...

    def read_into(self, key: str, offset: int, buffer: memoryview) -> int:
        """Fills a buffer from part of an object; returns the number of bytes, fewer than asked only at its end."""
        ...

    def read_versioned(self, key: str) -> Versioned:
        """Returns the whole object with the token that names these contents."""
        ...

    def read_if_changed(self, key: str, token: Token) -> Versioned | None:
        """Returns the whole object with its token; None if `token` names its contents, which then are not sent."""
        ...

    def read_kept(self, key: str, offset: int, size: int) -> Buffer | None:
        """Returns part of an object as `read_range` does, if a copy is on a local disk; None if a request is needed."""
        ...

    def on_disk(self, key: str, offset: int, size: int) -> OnDisk | None:
        """Returns where part of an object lies on a local disk, for a caller that reads and checks it itself.

        None if `read_range` has to be asked. Raises MissingKey where there is no object, as far as that is known.
        """
        ...

    def hint_readahead(self, key: str, offset: int, size: int) -> None:
        """Announces a read of part of an object, so that the medium may begin with it; returns at once."""
        ...

    def drop_copy(self, key: str, offset: int, size: int) -> bool:
        """Drops copies, kept for later reads, of part of an object that is damaged; returns True if there were any.

        Then a read that asks the medium itself may give other bytes.
        """
        ...

    def size(self, key: str) -> int:
        """Returns an object's bytes."""
        ...

    def put(self, key: str, data: Buffer) -> None:
        """Stores an object; replaces. The last of several writers wins."""
        ...

    def put_if_absent(self, key: str, data: Buffer) -> Token:
        """Stores an object where the key has none, else raises KeyExists; of several writers exactly one succeeds.

        An implementation over a network asks for the key before it sends the body, since a service may take the whole
        body before it refuses it.
        """
        ...

    def compare_and_swap(self, key: str, data: Buffer, expected: Token) -> Token:
        """Replaces an object if `expected` still names its contents; returns the new token.

        Raises TokenMismatch where the contents are others, MissingKey where the object is gone.
        """
        ...

    def start(self) -> Upload:
        """Begins an object that is written in pieces."""
        ...

    def delete(self, key: str) -> None:
        """Removes an object."""
        ...

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yields (key, bytes) of all objects whose key begins with `prefix`, sorted by key.

        An object that is written or deleted meanwhile may be missing or present.
        """
        ...

    def sync_name(self, key: str) -> None:
        """Makes the name of an object durable, which a process that was killed may have stored and not made so."""
        ...

    def clear_unfinished(self) -> int:
        """Removes the unfinished uploads of dead processes and returns how many; those of living ones stay."""
        ...

    def close_removed(self) -> None:
        """Releases what is kept open of objects that were removed, by any process: the disk has their room again."""
        ...

    def close(self) -> None:
        """Releases descriptors and connections; does nothing the second time."""
        ...


class LocalFiles(Protocol):
    """Files on a local disk that grow at their end: what the operation log needs and no object store offers.

    Threads, durability, errors and keys as in ObjectBackend. Appends of several processes to one file are serialised
    by the caller (the repository's write lock). Nothing here may be retried blindly: a repeated append adds twice.
    """

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """Returns part of a file; fewer bytes only at its end."""
        ...

    def size(self, key: str) -> int:
        """Returns a file's bytes."""
        ...

    def append(self, key: str, data: Buffer) -> None:
        """Extends a file (or begins it), durable on return; after an OSError or MemoryError it has its old size.

        After a crash any prefix of `data` may be there: the reader checks what it reads.
        """
        ...

    def truncate(self, key: str, size: int) -> None:
        """Cuts a file to `size` bytes, durable on return; never extends."""
        ...


def check_key(key: str) -> str:
    """Returns the key; raises InvalidInput for one that is no plain relative path or names unfinished uploads."""
    if len(key) > KEY_CHARACTERS_MAX or not re.fullmatch(_KEY, key) or key.startswith(UNFINISHED):
        raise InvalidInput(f"{key!r} is no key of a backend")
    return key
