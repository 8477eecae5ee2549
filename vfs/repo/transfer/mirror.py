"""Mirror: the clone, in a cache directory, behind mounts of a remote that have no repository of their own.

All mounts of one remote by one user of a machine share it: its metadata, and its cache of contents. Its branches are
where the remote's are. It can be deleted while nothing is mounted from it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vfs.backend.durable import sync, sync_below, sync_directory, unsynced, write_at
from vfs.backend.locations import Location, open_location
from vfs.backend.protocol import TRANSIENT, MissingKey, Token
from vfs.backend.rooted_path import RootedPath
from vfs.backend.wrappers import RetryBackend
from vfs.errors import Busy, NotFound, VfsError, describe_error
from vfs.model.decoding import UNDECODABLE
from vfs.model.ids import chunk_id
from vfs.remote.format import ROOT_KEY
from vfs.remote.lazy_packs import SEGMENTS
from vfs.repo import paths
from vfs.repo.lock import IndexGuard, file_lock
from vfs.repo.repository import Repository
from vfs.repo.repository_creation import PRIVATE
from vfs.repo.transfer.byte_transfer import ByteProgress, no_progress
from vfs.repo.transfer.clone import clone
from vfs.repo.transfer.fetch import Fetched, fetch
from vfs.repo.transfer.remotes import DEFAULT, remote_settings
from vfs.store.refs.operation import BRANCHES, CURRENT, REMOTE_REFS, Operation, RefChange, SettingChange

AUTHOR = "mount"
_FOLLOWED, _POLLED = "followed", "polled"
_POLLED_BYTES_MAX = 64 * 1024
_UNREADABLE: tuple[type[Exception], ...] = (OSError, VfsError, *UNDECODABLE)
_LOCK_S = 3600.0
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class _Polled(msgspec.Struct, frozen=True):
    """The root that the branches of a mirror follow, by its token."""

    location: Location
    token: tuple[str, ...]


class Mirror(NamedTuple):
    """A mirror's repository. `stale`: why it could not be updated from the remote; empty where it was."""

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
    """Makes the mirror of a remote, or updates it; a second process waits for the first.

    A mirror that is there already serves without the network, too. A writable one is made, and then left alone. Raises
    what `clone` raises, NotFound for a branch that the remote does not have.
    """
    path = mirror_path(location, cache, writable=writable)
    path.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
    with _locked(path, waiting=waiting):
        stale = ""
        _discard_unsettled(path)
        if _is_made(path):
            if not writable:
                try:
                    _follow(path, quickly=True)
                except TRANSIENT as error:
                    stale = describe_error(error)[0]
        elif writable:
            clone(location, path, author=AUTHOR, branch=branch, progress=progress)
        else:
            with _unsettled(path):
                cloned = clone(location, path, author=AUTHOR, branch=branch, progress=progress, thorough=False)
                _take_segments_back(path)
                _follow_fetched(path, cloned.fetched)
        if branch is not None:
            with Repository.open(path) as repo:
                if repo.refs.get(BRANCHES + branch) is None:
                    raise NotFound(f"the remote has no branch {branch!r}", hint="Leave --branch out, or name another.")
    return Mirror(path, stale)


@contextmanager
def _locked(path: Path, **how: Any) -> Iterator[None]:
    with file_lock(path.with_name(path.name + ".lock"), **{"timeout_s": _LOCK_S, **how}):
        yield


# A mount does not wait for the disk, and not for a walk through all versions: its mirror can be fetched again. Until
# `_settle`, a file beside it names the run of the machine that wrote it, and after another start it is thrown away.


@contextmanager
def _unsettled(path: Path) -> Iterator[None]:
    """Marks a mirror as one that a power cut may damage, and makes nothing durable meanwhile."""
    now, mark = _machine_run(), _mark(path)
    if not now:
        yield
        return
    if not mark.exists():
        with mark.open("w") as file:
            file.write(now)
            if path.exists():
                # What is durable by now must not pass for whole once it was written to.
                file.flush()
                sync(file.fileno())
                sync_directory(mark.parent)
    with unsynced():
        yield


def _machine_run() -> str:
    """Returns what names the time since the machine was started; empty where that is not known."""
    try:
        return Path(_BOOT_ID).read_text().strip()
    except OSError:
        return ""


def _mark(path: Path) -> Path:
    return path.with_name(path.name + ".unsettled")


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".segments")


def _discard_unsettled(path: Path) -> None:
    """Removes a mirror that a power cut may have damaged, but for the contents that were read: these have checksums."""
    mark = _mark(path)
    if not mark.exists() or mark.read_bytes() == _machine_run().encode():
        return
    if path.exists():
        guard = IndexGuard(path / paths.INDEX_LOCK)
        try:
            guard.exclude(0)
            with suppress(OSError):
                (path / SEGMENTS).rename(_aside(path))
            shutil.rmtree(path)
        except Busy:
            # Another machine has the directory, too, and a mount from it.
            return
        finally:
            guard.close()
    mark.unlink()


def _take_segments_back(path: Path) -> None:
    if _aside(path).exists():
        with suppress(OSError):
            _aside(path).rename(path / SEGMENTS)
        shutil.rmtree(_aside(path), ignore_errors=True)


def _settle(path: Path) -> None:
    """Makes a mirror durable, whose versions are checked."""
    with _locked(path, timeout_s=0):
        sync_below(path, but=(SEGMENTS, "lock.mdb"))
        _mark(path).unlink(missing_ok=True)


def _is_made(path: Path) -> bool:
    """Returns True for a clone that is whole: one that was interrupted has no branch, and is gone on with."""
    if _polled(path) is not None:
        return True
    if not (path / paths.CONFIG).is_file():
        return False
    with Repository.open(path) as repo:
        return any(repo.refs.list(BRANCHES))


def follow(path: Path) -> bool:
    """Moves a mirror's branches to where the remote's are; returns True if one has moved. Raises what `fetch` does.

    Where the remote is as it was seen last, that is one request, whose answer has no body. A mirror that a mount has
    made is checked and made durable first.
    """
    if not _mark(path).exists():
        return _follow(path)
    has_moved = _fetch(path)
    # A mount that begins just now may write to it; the next time is early enough.
    with suppress(Busy):
        _settle(path)
    return has_moved


def _follow(path: Path, *, quickly: bool = False) -> bool:
    polled = _polled(path)
    if polled is not None and not _has_changed(polled):
        return False
    if not quickly:
        return _fetch(path)
    with _unsettled(path):
        return _fetch(path, thorough=False)


def _fetch(path: Path, *, thorough: bool = True) -> bool:
    with Repository.open(path) as repo:
        fetched = fetch(repo, DEFAULT, author=AUTHOR, contents=False, thorough=thorough)
    return _follow_fetched(path, fetched)


def _follow_fetched(path: Path, fetched: Fetched) -> bool:
    """Moves a mirror's branches to where the remote's were seen; returns True if one has moved."""
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
        # A clock that was put back must not end the polling until it is there again.
        if not 0 <= os.fstat(descriptor).st_mtime_ns - last < interval_s * 0.9 * 1e9:
            return True
        os.utime(descriptor, ns=(last, last))
        return False
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
