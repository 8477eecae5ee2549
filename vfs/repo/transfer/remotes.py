"""The remotes that a repository knows: each one setting in the operation log, never with credentials."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager

import msgspec

from vfs.backend.locations import Location, open_location
from vfs.backend.protocol import ObjectBackend
from vfs.backend.wrappers import RetryBackend
from vfs.errors import Advice, AlreadyExists, Conflict, Hint, InvalidInput, NotFound
from vfs.remote.format import (
    FEATURES,
    FORMAT,
    INDEX_BYTES_MAX,
    IndexName,
    RemoteConfig,
    Root,
    StoredPack,
    encode_index,
    index_bytes_max,
)
from vfs.remote.index_merging import merged_from
from vfs.remote.known_objects import KEPT, Known
from vfs.remote.probing import probe
from vfs.remote.remote import Remote, State
from vfs.remote.rollback_check import SEEN, Seen, require_descends, seen_of
from vfs.remote.settings import SETTING, RemoteSettings, decode_settings, encode_settings
from vfs.repo.config import REMOTES
from vfs.repo.lock import file_lock
from vfs.repo.repository import Repository
from vfs.store.packs.compression import Compression
from vfs.store.packs.pack_file import PackInfo
from vfs.store.packs.repacking import salted
from vfs.store.refs.operation import REMOTE_REFS, Operation, RefChange, SettingChange

DEFAULT = "origin"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}")

Wrap = Callable[[ObjectBackend], ObjectBackend]
"""Puts something around a remote's backend: limits of rate, in tests faults."""


class SingleWriter(Conflict):
    """A place takes conditional writes and ignores their conditions."""

    code = "single-writer"
    exit_status = 3


def list_remotes(repo: Repository) -> list[tuple[str, RemoteSettings]]:
    """Returns the remotes by name."""
    return [(name.removeprefix(SETTING), decode_settings(text)) for name, text in repo.refs.settings(SETTING)]


def remote_settings(repo: Repository, name: str) -> RemoteSettings:
    """Returns a remote's settings; raises NotFound."""
    text = repo.refs.setting(SETTING + name)
    if not text:
        raise NotFound(f"there is no remote {name!r}", hint=Hint(Advice.LIST_OR_ADD_REMOTE))
    return decode_settings(text)


def only_remote(repo: Repository) -> str:
    """Returns the remote that is meant where none is named: `origin`, else the only one; raises NotFound."""
    names = [name for name, _ in list_remotes(repo)]
    if DEFAULT in names:
        return DEFAULT
    if len(names) == 1:
        return names[0]
    if names:
        raise InvalidInput(f"there are several remotes: {', '.join(names)}", hint=Hint(Advice.NAME_REMOTE))
    raise NotFound("this repository has no remote", hint=Hint(Advice.LIST_OR_ADD_REMOTE))


def add_remote(
    repo: Repository,
    name: str,
    location: Location,
    *,
    author: str,
    single_writer: bool = False,
    wrap: Wrap | None = None,
) -> State:
    """Makes a remote known, and the place one if nothing is there; returns its state.

    Raises SingleWriter where the place ignores conditional writes, unless `single_writer`; Conflict where another
    repository is there; AlreadyExists, InvalidInput, and what the backend raises.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} cannot name a remote", hint="Use letters, digits, `-` and `_`.")
    if repo.refs.setting(SETTING + name):
        raise AlreadyExists(f"there is a remote {name!r} already", hint=Hint(Advice.LIST_OR_ADD_REMOTE))
    settings = RemoteSettings(location.url, location.endpoint, location.region, single_writer)
    backend = RetryBackend(open_location(location, create=True))
    if wrap is not None:
        backend = RetryBackend(wrap(backend.inner))
    with closing(backend):
        state = _made_or_found(repo, Remote(backend), single_writer=single_writer)
    with repo.write_lock():
        repo.require_feature(REMOTES)
        change = SettingChange(SETTING + name, "", encode_settings(settings))
        repo.refs.move(Operation(time_ns=time.time_ns(), kind="remote", author=author, settings=(change,)))
    return state


def _made_or_found(repo: Repository, remote: Remote, *, single_writer: bool) -> State:
    try:
        found = remote.read_config()
    except NotFound:
        if not single_writer:
            require_conditions(remote.backend)
        remote.create(config_of(repo))
        found = remote.read_config()
    require_same(repo, found)
    return remote.read_state()


def require_conditions(backend: ObjectBackend) -> None:
    """Raises SingleWriter where a place does not honour conditional writes."""
    fault = probe(backend).fault
    if fault:
        raise SingleWriter(
            f"this place is not safe for several machines: {fault}",
            hint="Choose another service. Where one machine alone ever pushes, --single-writer takes this one.",
        )


def remove_remote(repo: Repository, name: str, *, author: str) -> None:
    """Forgets a remote and its branches as they were seen; the remote itself stays as it is. Raises NotFound.

    Raises Conflict while contents of this repository are there alone.
    """
    text = repo.refs.setting(SETTING + name)
    remote_settings(repo, name)
    if any(not row.is_here for row in repo.index.packs()) and len(list_remotes(repo)) == 1:
        raise Conflict(
            f"contents of this repository are on {name} alone", hint=Hint(Advice.FETCH_CONTENTS, {"remote": name})
        )
    refs = tuple(RefChange(ref, at.hex(), "") for ref, at in repo.refs.list(f"{REMOTE_REFS}{name}/"))
    with repo.write_lock():
        settings = [SettingChange(SETTING + name, text, "")]
        seen = repo.refs.setting(SEEN + name)
        if seen:
            settings.append(SettingChange(SEEN + name, seen, ""))
        repo.refs.move(
            Operation(time_ns=time.time_ns(), kind="remote", author=author, settings=tuple(settings), refs=refs)
        )


def adopted(name: str, ref: str) -> str:
    """Returns the setting that says that a ref's protection on a remote was seen here: ending it here ends it there."""
    return f"adopted/{name}/{ref}"


class OpenRemote:
    """A remote that a transfer works with: its backend, its settings, and what is known of it."""

    def __init__(self, repo: Repository, name: str, remote: Remote, settings: RemoteSettings, known: Known) -> None:
        self.repo = repo
        self.name = name
        self.remote = remote
        self.settings = settings
        self.known = known

    def seen(self) -> Seen | None:
        """Returns the newest state that was seen here, None for none."""
        return seen_of(self.repo.refs, self.name)

    def seen_change(self, state: State) -> SettingChange:
        """Returns the change that remembers a state as the newest one seen."""
        now = msgspec.json.encode(Seen(state.root.seq, state.root.nonce, state.hash)).decode()
        return SettingChange(SEEN + self.name, self.repo.refs.setting(SEEN + self.name), now)

    def ref(self, branch: str) -> str:
        """Returns the name of the ref that says where a branch of the remote was seen."""
        return f"{REMOTE_REFS}{self.name}/{branch}"

    def write_indexes(self, indexes: Sequence[IndexName], fresh: Iterable[StoredPack]) -> tuple[IndexName, ...]:
        """Stores index objects with more packs, merged with the last ones; returns those that the root is to name."""
        found = list(indexes)
        for part in _parts(fresh):
            kept = merged_from(found, index_bytes_max(part))
            older = [stored for index in found[kept:] for stored in self.known.stored(self.remote, index)]
            name, data = encode_index([*older, *part])
            self.remote.backend.put(name.key, data)
            self.known.keep(name, data)
            found[kept:] = [name]
        return tuple(found)

    def read_state(self) -> State:
        """Returns the remote's state; raises Corrupt for one that is older than what was seen, or another history."""
        state = self.remote.read_state()
        self.require_successor(state)
        return state

    def require_successor(self, state: State) -> None:
        """Raises Corrupt for a state that is older than what was seen, or another history."""
        if state.root.id != self.repo.config.id:
            raise _other(state.root.id)
        require_descends(self.name, self.seen(), state)


def _parts(fresh: Iterable[StoredPack]) -> Iterator[list[StoredPack]]:
    """Splits packs so that an index object has room for each part."""
    part: list[StoredPack] = []
    size = 0
    for stored in fresh:
        if part and size + len(stored.table) > INDEX_BYTES_MAX // 2:
            yield part
            part, size = [], 0
        part.append(stored)
        size += len(stored.table)
    if part:
        yield part


def renamed(infos: Sequence[PackInfo], space: ObjectBackend, compression: Compression, root: Root) -> list[PackInfo]:
    """Returns packs that are to be sent, under other names where a sweep may remove what has theirs at any moment."""
    made: list[PackInfo] = []
    for info in infos:
        if info.name.key not in root.tombstones:
            made.append(info)
            continue
        made += salted(space, info, compression)
        space.delete(info.name.key)
    return made


@contextmanager
def open_remote(
    repo: Repository,
    name: str,
    *,
    wrap: Wrap | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Iterator[OpenRemote]:
    """Opens a remote for one transfer; a second one at the same time, of the same repository, waits or gets Busy."""
    settings = remote_settings(repo, name)
    inner = open_location(settings.location)
    backend = RetryBackend(wrap(inner) if wrap is not None else inner)
    directory = repo.path / KEPT / name
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with (
            file_lock(directory / "lock", timeout_s=600, waiting=waiting),
            Known(directory / "known", repo.backend, f"{KEPT}/{name}") as known,
        ):
            yield OpenRemote(repo, name, Remote(backend), settings, known)
    finally:
        backend.close()


def config_of(repo: Repository) -> RemoteConfig:
    """Returns what a remote of a repository is."""
    config = repo.config
    return RemoteConfig(
        format=FORMAT,
        features=tuple(name for name in config.features if name in FEATURES),
        id=config.id,
        chunker=config.chunker,
        tiny_bytes_max=config.tiny_bytes_max,
    )


def require_same(repo: Repository, found: RemoteConfig) -> None:
    """Raises Conflict where a remote is that of another repository."""
    if found.id != repo.config.id:
        raise _other(found.id)


def _other(found: str) -> Conflict:
    return Conflict(
        f"another repository is at this address ({found[:8]})",
        hint="Clone it to work with it, or choose an address with nothing there.",
    )


def setting_of(name: str, settings: RemoteSettings) -> SettingChange:
    """Returns the change that makes a remote known."""
    return SettingChange(SETTING + name, "", encode_settings(settings))
