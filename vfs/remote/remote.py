"""Remote: one remote, opened. Reads and writes its small objects and its packs, each bounded and checked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from vfs.backend.protocol import TRANSIENT, KeyExists, MissingKey, ObjectBackend, Token, TokenMismatch, Versioned
from vfs.errors import Corrupt, NotFound
from vfs.remote.format import (
    CHAIN_MAX,
    CONFIG_BYTES_MAX,
    CONFIG_KEY,
    FORMAT,
    INDEX_BYTES_MAX,
    RECENT_MAX,
    ROOT_BYTES_MAX,
    ROOT_KEY,
    IndexName,
    PushLine,
    RemoteConfig,
    Root,
    decode_config,
    decode_index,
    decode_root,
    encode_config,
    encode_line,
    encode_root,
    hash_of,
    root_format,
)
from vfs.store.packs.pack_file import PACK_BYTES_MAX, PackName

_IN_DOUBT: tuple[type[Exception], ...] = (KeyExists, *TRANSIENT)
_DOUBT_DELAYS_S = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0)
"""How long after a swap of unknown outcome the root is read, each time that reading fails too."""


class State(NamedTuple):
    """A root as it was read: its contents, the token that a swap needs, and the hash of its bytes."""

    root: Root
    token: Token
    hash: str


class Moved(Exception):
    """Another push came first. `state` is the newest one."""

    def __init__(self, state: State) -> None:
        super().__init__("another push came first")
        self.state = state


class Gone(Corrupt):
    """Something that a root names is not there: a newer root does not name it, or the remote is damaged."""


class Remote:
    """One remote in a backend. Usable from several threads."""

    def __init__(self, backend: ObjectBackend, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.backend = backend
        self._sleep = sleep

    def read_config(self) -> RemoteConfig:
        """Returns what the remote is; raises NotFound where there is none, Corrupt, Unsupported."""
        try:
            return decode_config(self._read(CONFIG_KEY, CONFIG_BYTES_MAX).data)
        except MissingKey:
            raise NotFound(
                "there is nothing of vfs at this address", hint="Check the address, or push to it."
            ) from None

    def create(self, config: RemoteConfig) -> None:
        """Makes a remote that has nothing yet; one that another process makes at the same time is as good."""
        try:
            self.backend.put_if_absent(CONFIG_KEY, encode_config(config))
        except _IN_DOUBT:
            # Made meanwhile, or of unknown outcome; the config that is there is compared by the caller.
            self.read_config()
        nonce = new_nonce()
        root = Root(format=FORMAT, id=config.id, seq=0, nonce=nonce, time_ns=time.time_ns(), chain=(nonce,))
        try:
            self.backend.put_if_absent(ROOT_KEY, encode_root(root))
        except _IN_DOUBT:
            self.read_state()

    def read_state(self) -> State:
        """Returns the newest root; raises NotFound where there is none, Corrupt, Unsupported."""
        try:
            found = self._read(ROOT_KEY, ROOT_BYTES_MAX)
        except MissingKey:
            raise NotFound("there is no repository at this address", hint="Check the address.") from None
        return State(decode_root(found.data), found.token, hash_of(found.data))

    def _read(self, key: str, bytes_max: int) -> Versioned:
        if self.backend.is_local and self.backend.size(key) > bytes_max:
            # Object storage refuses by itself what is larger than any object here.
            raise Corrupt(f"the remote's {key} is larger than {bytes_max} bytes")
        return self.backend.read_versioned(key)

    def swap(self, before: State, after: Root) -> State:
        """Makes a root follow another one; returns the new state.

        Raises Moved where another one has followed meanwhile. A swap whose outcome is unknown is decided by reading:
        the new root has happened if its nonce is in the chain.
        """
        data = encode_root(after)
        try:
            return State(after, self.backend.compare_and_swap(ROOT_KEY, data, before.token), hash_of(data))
        except TokenMismatch:
            # Also where the service, or something between, has sent our own request twice.
            newest = self.read_state()
        except TRANSIENT:
            newest = self._read_after_doubt()
        if after.nonce in newest.root.chain:
            return newest
        raise Moved(newest)

    def _read_after_doubt(self) -> State:
        for delay in _DOUBT_DELAYS_S:
            self._sleep(delay)
            try:
                return self.read_state()
            except TRANSIENT:
                continue
        return self.read_state()

    def read_index(self, name: IndexName) -> bytes:
        """Returns the bytes of an index object, checked; raises Gone, Corrupt."""
        try:
            data = self._whole(name.key, min(name.size, INDEX_BYTES_MAX))
        except MissingKey:
            raise Gone(f"the remote's {name.key} is missing", hint="Run the command again.") from None
        decode_index(name, data)
        return data

    def _whole(self, key: str, size: int) -> bytes:
        """Returns an object, or what a directory has of it up to a size."""
        # Object storage bounds what it reads whole, and static servers may know no ranges.
        return self.backend.read_range(key, 0, size) if self.backend.is_local else self.backend.read(key)

    def write_line(self, line: PushLine) -> str:
        """Stores a line of the log and returns its hash."""
        data = encode_line(line)
        self.backend.put(line.key, data)
        return hash_of(data)

    def read_pack(self, name: PackName, size: int) -> bytes:
        """Returns a pack, checked against its name; raises Gone, Corrupt."""
        try:
            data = self._whole(name.key, min(size, PACK_BYTES_MAX))
        except MissingKey:
            raise Gone(f"the remote's {name.key} is missing", hint="Run the command again.") from None
        if len(data) != size or not is_named(name, data):
            raise Corrupt(f"the remote's {name.key} does not match its name", hint="Run the command again.")
        return data


def is_named(name: PackName, data: bytes) -> bool:
    """Returns True if a pack's bytes are those that its name stands for."""
    return hash_of(data).startswith(name.hex)


def new_nonce() -> str:
    """Returns what tells one state from every other."""
    return os.urandom(8).hex()


def following(before: State, nonce: str, line: PushLine, log: str, **changes: object) -> Root:
    """Returns the root that follows another one, with fields changed; `line` is the push that makes it."""
    root = before.root
    after: Root = msgspec.structs.replace(
        root,
        seq=root.seq + 1,
        nonce=nonce,
        previous=before.hash,
        time_ns=line.time_ns,
        chain=(*root.chain, nonce)[-CHAIN_MAX:],
        recent=(*root.recent, line)[-RECENT_MAX:],
        log=log,
        **changes,
    )
    return msgspec.structs.replace(after, format=root_format(after.refs))
