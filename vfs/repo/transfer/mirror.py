"""Mirror: the clone, in a cache directory, behind mounts of a remote that have no repository of their own.

All mounts of one remote by one user of a machine share it: its metadata, and its cache of contents. Its branches are
where the remote's are. It can be deleted while nothing is mounted from it.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from vfs.backend.durable import write_at
from vfs.backend.locations import Location, open_location
from vfs.backend.protocol import TRANSIENT, MissingKey, Token
from vfs.backend.rooted_path import RootedPath
from vfs.backend.wrappers import RetryBackend
from vfs.errors import NotFound, VfsError, describe_error
from vfs.model.decoding import UNDECODABLE
from vfs.model.ids import chunk_id
from vfs.remote.format import ROOT_KEY
from vfs.repo import paths
from vfs.repo.lock import file_lock
from vfs.repo.repository import PRIVATE, Repository
from vfs.repo.transfer.clone import clone
from vfs.repo.transfer.fetch import Fetched, fetch
from vfs.repo.transfer.movement import ByteProgress, no_progress
from vfs.repo.transfer.remotes import DEFAULT, remote_settings
from vfs.store.refs.operation import BRANCHES, CURRENT, REMOTE_REFS, Operation, RefChange, SettingChange

AUTHOR = "mount"
_FOLLOWED, _POLLED = "followed", "polled"
_POLLED_BYTES_MAX = 64 * 1024
_UNREADABLE: tuple[type[Exception], ...] = (OSError, VfsError, *UNDECODABLE)
_LOCK_S = 3600.0


class _Polled(msgspec.Struct, frozen=True):
    """The root that the branches of a mirror follow, by its token."""

    location: Location
    token: tuple[str, ...]


class Mirror(NamedTuple):
    """A mirror's repository. `stale`: why it could not be brought to where the remote is; empty: it is there."""

    path: Path
    stale: str


def mirror_path(location: Location, cache: Path, *, writable: bool = False) -> Path:
    """Returns where the mirror of a remote is, or will be. A writable one is a user's own, and follows nothing."""
    name = location.url.rstrip("/").rpartition("/")[2][:40] or "remote"
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
    key = chunk_id("\n".join((location.url, location.endpoint, location.region)).encode()).hex()[:16]
    return cache / "mirrors" / f"{plain}-{key}{'-writable' if writable else ''}"


def open_mirror(
    location: Location,
    cache: Path,
    *,
    branch: str | None = None,
    writable: bool = False,
    progress: ByteProgress = no_progress,
    waiting: Callable[[str], None] | None = None,
) -> Mirror:
    """Makes the mirror of a remote, or brings it to where the remote is; a second process waits for the first.

    A mirror that is there already serves without the network, too. A writable one is made, and then left alone. Raises
    what `clone` raises, NotFound for a branch that the remote does not have.
    """
    path = mirror_path(location, cache, writable=writable)
    path.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
    with file_lock(path.with_name(path.name + ".lock"), timeout_s=_LOCK_S, waiting=waiting):
        stale = ""
        if not _is_made(path):
            cloned = clone(location, path, author=AUTHOR, branch=branch, progress=progress)
            if not writable:
                _follow_fetched(path, cloned.fetched)
        elif not writable:
            try:
                follow(path)
            except TRANSIENT as error:
                stale = describe_error(error)[0]
        if branch is not None:
            with Repository.open(path) as repo:
                if repo.refs.get(BRANCHES + branch) is None:
                    raise NotFound(f"the remote has no branch {branch!r}", hint="Leave --branch out, or name another.")
    return Mirror(path, stale)


def _is_made(path: Path) -> bool:
    """Returns True for a clone that is whole: one that was interrupted has no branch, and is gone on with."""
    if _polled(path) is not None:
        return True
    if not (path / paths.CONFIG).is_file():
        return False
    with Repository.open(path) as repo:
        return any(repo.refs.list(BRANCHES))


def follow(path: Path) -> bool:
    """Brings a mirror's branches to where the remote's are; returns True if one has moved. Raises what `fetch` does.

    Where the remote is as it was seen last, that is one request, whose answer has no body.
    """
    polled = _polled(path)
    if polled is not None and not _has_changed(polled):
        return False
    with Repository.open(path) as repo:
        fetched = fetch(repo, DEFAULT, author=AUTHOR, contents=False)
    return _follow_fetched(path, fetched)


def _follow_fetched(path: Path, fetched: Fetched) -> bool:
    """Brings a mirror's branches to where the remote's were seen; returns True if one has moved."""
    with Repository.open(path) as repo:
        has_moved = _move_branches(repo)
        location = remote_settings(repo, DEFAULT).location
    _remember(path, _Polled(location, fetched.token))
    return has_moved


def _move_branches(repo: Repository) -> bool:
    start = f"{REMOTE_REFS}{DEFAULT}/"
    with repo.write_lock():
        theirs = {BRANCHES + ref.removeprefix(start): at for ref, at in repo.refs.list(start)}
        mine = dict(repo.refs.list(BRANCHES))
        changes = tuple(
            RefChange(ref, mine[ref].hex() if ref in mine else "", theirs[ref].hex() if ref in theirs else "")
            for ref in sorted({*theirs, *mine})
            if mine.get(ref) != theirs.get(ref)
        )
        if not changes:
            return False
        settings: tuple[SettingChange, ...] = ()
        if BRANCHES + repo.current_branch not in theirs and theirs:
            shown = min(theirs).removeprefix(BRANCHES)
            settings = (SettingChange(CURRENT, repo.refs.setting(CURRENT), shown),)
        repo.refs.move(Operation(time_ns=time.time_ns(), kind="follow", author=AUTHOR, refs=changes, settings=settings))
    return True


def _polled(path: Path) -> _Polled | None:
    """Returns which root the branches of a mirror follow, None where that is not known."""
    try:
        return msgspec.json.decode(RootedPath(path, _POLLED).read_bytes(_POLLED_BYTES_MAX), type=_Polled)
    except _UNREADABLE:
        return None


def _remember(path: Path, polled: _Polled) -> None:
    draft = RootedPath(path, _POLLED + ".new")
    descriptor = draft.create()
    try:
        write_at(descriptor, 0, [msgspec.json.encode(polled)])
    finally:
        os.close(descriptor)
    # Another process may have done the same meanwhile.
    with suppress(FileNotFoundError):
        draft.rename(RootedPath(path, _POLLED))


def _has_changed(polled: _Polled) -> bool:
    backend = RetryBackend(open_location(polled.location))
    try:
        return backend.read_if_changed(ROOT_KEY, Token(polled.token)) is not None
    except MissingKey:
        return True
    finally:
        backend.close()


def is_due(path: Path, interval_s: float) -> bool:
    """Returns True to one process in each interval: it is to ask the remote for all that have the mirror open."""
    descriptor = RootedPath(path, _FOLLOWED).open(os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # By the file's own clock: that of the disk that all these processes share.
        size = os.fstat(descriptor).st_size
        last = os.fstat(descriptor).st_mtime_ns if size else 0
        os.pwrite(descriptor, b"1", 0)
        if os.fstat(descriptor).st_mtime_ns - last >= interval_s * 0.9 * 1e9:
            return True
        os.utime(descriptor, ns=(last, last))
        return False
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
