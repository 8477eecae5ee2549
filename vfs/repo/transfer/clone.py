"""Clone: a new repository of a remote's. It has all versions at once; contents come when they are read, or now."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from vfs.backend.locations import Location, open_location
from vfs.backend.wrappers import RetryBackend
from vfs.errors import AlreadyExists
from vfs.history.walk import first_parents
from vfs.model.ids import CommitId
from vfs.model.objects import MAIN, Version
from vfs.remote.format import RemoteConfig
from vfs.remote.remote import Remote
from vfs.remote.settings import RemoteSettings
from vfs.repo import paths
from vfs.repo.config import LAZY, REMOTES, Config
from vfs.repo.repository import Repository
from vfs.repo.repository_creation import PRIVATE
from vfs.repo.transfer.byte_transfer import ByteProgress, Movement, Pace, no_progress
from vfs.repo.transfer.fetch import Fetched, bring_contents, fetch
from vfs.repo.transfer.missing_objects import Missing
from vfs.repo.transfer.remotes import (
    DEFAULT,
    Wrap,
    adopted,
    list_remotes,
    setting_of,
)
from vfs.store.refs.operation import BRANCHES, CURRENT, REMOTE_REFS, Operation, RefChange, SettingChange
from vfs.store.refs.refs import PROTECTED


class Cloned(NamedTuple):
    """What a clone has: the branch that it begins with, its newest version (None: the remote has none), the fetch."""

    branch: str
    head: Version | None
    fetched: Fetched
    bytes: int


def clone(
    location: Location,
    path: Path,
    *,
    author: str,
    contents: bool = False,
    depth: int = 0,
    branch: str | None = None,
    mode: int = PRIVATE,
    wrap: Wrap | None = None,
    progress: ByteProgress = no_progress,
    pace: Pace | None = None,
    thorough: bool = True,
) -> Cloned:
    """Makes a repository at `path` from a remote; durable on return. One that was cut off goes on where it stopped.

    `contents`: of all versions, now; `depth`: of the newest versions, so many; else each when it is read. `thorough` as
    for `fetch`. Raises NotFound where nothing is at the address, AlreadyExists, NotEmpty, and what `fetch` raises.
    """
    # Open to the end: so are its connections.
    with closing(open_location(location)) as inner, ThreadPoolExecutor(2, thread_name_prefix="clone") as threads:
        remote = Remote(RetryBackend(wrap(inner) if wrap is not None else inner))
        reading = threads.submit(remote.read_state)
        config = remote.read_config()
        state = reading.result()
        settings = RemoteSettings(location.url, location.endpoint, location.region)
        with _made(path, config, settings, contents, mode) as repo:
            if not list_remotes(repo):
                _add(repo, settings, author)
            fetched = fetch(
                repo, DEFAULT, author=author, contents=contents, wrap=wrap, progress=progress, pace=pace,
                state=state, thorough=thorough,
            )  # fmt: skip
            name, head = _begin(repo, branch, fetched.protected, author)
            size = fetched.bytes
            if depth and head is not None:
                movement = Movement(progress, pace)
                size += bring_contents(repo, DEFAULT, _contents_of(repo, head, depth), movement=movement, wrap=wrap)
            return Cloned(name, head, fetched, size)


def _add(repo: Repository, settings: RemoteSettings, author: str) -> None:
    setting = setting_of(DEFAULT, settings)
    with repo.write_lock():
        repo.refs.move(Operation(time_ns=time.time_ns(), kind="remote", author=author, settings=(setting,)))


def _made(path: Path, config: RemoteConfig, settings: RemoteSettings, contents: bool, mode: int) -> Repository:
    """Makes the repository, or opens the one that a clone of the same place has left unfinished."""
    if (path / paths.CONFIG).is_file():
        repo = Repository.open(path)
        if repo.config.id == config.id and not any(repo.refs.list(BRANCHES)):
            known = list_remotes(repo)
            if not known or known == [(DEFAULT, settings)]:
                return repo
        repo.close()
        raise AlreadyExists(f"{path} is a repository already", hint="Name a new directory.")
    features = {REMOTES, *config.features} if contents else {LAZY, REMOTES, *config.features}
    made = Config(
        id=config.id, chunker=config.chunker, tiny_bytes_max=config.tiny_bytes_max, features=tuple(sorted(features))
    )
    return Repository.init(path, made, mode=mode)


def _begin(repo: Repository, branch: str | None, protected: Sequence[str], author: str) -> tuple[str, Version | None]:
    """Makes the first branch: the one asked for, else `main`, else the first that the remote has."""
    start = f"{REMOTE_REFS}{DEFAULT}/"
    heads = {name.removeprefix(start): at for name, at in repo.refs.list(start)}
    name = branch or (MAIN if MAIN in heads or not heads else min(heads))
    at = heads.get(name)
    if at is None:
        if branch is not None and heads:
            repo.require_branch(branch)
        return name, None
    ref = BRANCHES + name
    settings = [SettingChange(CURRENT, repo.refs.setting(CURRENT), name)] if name != repo.current_branch else []
    if ref in protected:
        settings += [SettingChange(PROTECTED + ref, "", "yes"), SettingChange(adopted(DEFAULT, ref), "", "yes")]
    with repo.write_lock():
        repo.refs.move(
            Operation(
                time_ns=time.time_ns(),
                kind="clone",
                author=author,
                refs=(RefChange(ref, "", at.hex()),),
                settings=tuple(settings),
            )
        )
    return name, Version(at, repo.store.get_commit(at))


def _contents_of(repo: Repository, head: Version, depth: int) -> Iterator[bytes]:
    """Yields the chunks of the newest versions of a branch that are not here; their trees are."""
    walk = Missing(repo.store, lambda _object_id: False, repo.refs.is_forgotten, repo.path)
    for version in islice(first_parents(repo.store, CommitId(head.id)), depth):
        walk.add_tree(version.commit)
    yield from (object_id for object_id in walk.objects if not repo.index.has_here(object_id))
    walk.objects.close()
