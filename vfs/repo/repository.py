"""An open repository: the one place where its parts are constructed and closed."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator
from datetime import UTC, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from vfs.backend.durable import OnStep, step
from vfs.backend.rooted_path import RootedPath
from vfs.backend.storage import Storage, local_storage
from vfs.errors import (
    Advice,
    Busy,
    Corrupt,
    Hint,
    NotFound,
    Notice,
    ReadOnly,
    is_unwritable,
)
from vfs.history.revision import head, resolve
from vfs.history.walk import first_parents
from vfs.model.ids import SHORT_HEX, CommitId
from vfs.model.objects import MAIN, Commit, Version
from vfs.repo import paths
from vfs.repo.config import LAZY, Config, decode_config, encode_config, read_config
from vfs.repo.lock import IndexGuard, file_lock
from vfs.repo.opening_notices import index_in_memory, index_rebuilt, log_damage
from vfs.repo.repository_anchor import Anchor
from vfs.repo.repository_creation import PRIVATE, create_repository
from vfs.store.lmdb_environment import DamagedTables
from vfs.store.lmdb_tables import Tables, discard
from vfs.store.object_store import CACHE_BYTES, ObjectStore
from vfs.store.packs.blocks import MissingObject
from vfs.store.packs.index import INDEX_TABLES, Index, Rebuilt
from vfs.store.packs.pack_file import PackInfo
from vfs.store.packs.repacking import finish_retiring
from vfs.store.progress_callbacks import StageProgress
from vfs.store.refs.operation import BRANCHES, CURRENT
from vfs.store.refs.operation_log import OperationLog
from vfs.store.refs.refs import REFS_TABLES, Refs

if TYPE_CHECKING:  # Most commands only read versions: the working layer would cost each of them 40 ms.
    from vfs.overlay.overlay import Overlay

LOCK_TIMEOUT_S = 30.0
"""How long an operation waits for another one that changes the repository, by default."""

_GUARD_TIMEOUT_S = 5.0
_RETRY_S = 0.1


class Repository:
    """An open repository; a context manager. Safe to use from several threads, not across fork.

    A process opens a repository once (Busy otherwise); several processes may have it open. `store`, `refs` and `index`
    are replaced when the index is rebuilt: ask for them again, do not keep them. `notices` says what opening had to
    mend, in words for a person. `seen_from` is the branch that questions are asked from which name none; None: the
    repository's current branch.
    """

    store: ObjectStore
    refs: Refs
    index: Index

    def __init__(self, path: Path, storage: Storage, *, on_step: OnStep | None, cache_bytes_max: int) -> None:
        """For `init` and `open`, which are the ways to get one."""
        self.path = path
        self.notices: list[Notice] = []
        self.seen_from: str | None = None
        self._on_step = on_step
        self._cache_bytes_max = cache_bytes_max
        self.backend = storage.objects
        self.recipe = storage.recipe
        self.config: Config = read_config(self.backend, path, paths.CONFIG)
        self.files = storage.files
        self.log = OperationLog(storage.files)
        self._guard: IndexGuard | None = None
        self._unwritable: int | None = None
        self.anchor = Anchor(path)
        self._tables: Tables | None = None

    @classmethod
    def init(
        cls,
        path: Path,
        config: Config | None = None,
        *,
        mode: int = PRIVATE,
        storage: Storage | None = None,
        on_step: OnStep | None = None,
        cache_bytes_max: int = CACHE_BYTES,
    ) -> Self:
        """Makes a repository in a new or empty directory, durable on return, and opens it.

        The directory gets the permissions `mode`: packs hold the bytes of every file, whatever its own mode.
        Raises AlreadyExists where there is one, NotEmpty for a directory with anything else in it, InvalidInput inside
        another repository. `storage`: where its objects and its log are, when not in the directory itself.
        """
        storage = create_repository(path, config or Config(), mode, storage, on_step)
        return cls.open(path, storage=storage, on_step=on_step, cache_bytes_max=cache_bytes_max)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        storage: Storage | None = None,
        on_step: OnStep | None = None,
        cache_bytes_max: int = CACHE_BYTES,
        progress: StageProgress | None = None,
    ) -> Self:
        """Opens a repository; scans nothing, unless the index is missing or damaged and has to be made again.

        Where nothing can be written, the index is made in memory, and what was there then can be read. Raises NotFound,
        Unsupported, Corrupt, Busy. `storage` as for `init`. `progress` counts packs read while the index is made.
        """
        storage = storage or local_storage(path, on_step)
        repo = cls(path, storage, on_step=on_step, cache_bytes_max=cache_bytes_max)
        try:
            try:
                repo._open_index(progress)
            except OSError as error:
                if not is_unwritable(error):
                    raise
                repo._open_in_memory(error, progress)
            repo.notices.extend(log_damage(repo.refs))
            # On a medium that cannot be written, what a crash left does no harm.
            with contextlib.suppress(OSError):
                repo.backend.clear_unfinished()
        except BaseException:
            repo.close()
            raise
        return repo

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the index; does nothing the second time."""
        self._disconnect()
        if self._guard is not None:
            self._guard.close()
        self.anchor.close()
        self.backend.close()

    def require_feature(self, name: str) -> None:
        """Writes a feature into the configuration, durable on return; the caller holds the write lock.

        From then on a program that does not know it refuses the repository.
        """
        if name not in self.config.features:
            # Another process may have added one since.
            found = decode_config(self.backend.read(paths.CONFIG))
            self.config = msgspec.structs.replace(found, features=tuple(sorted({*found.features, name})))
            self.backend.put(paths.CONFIG, encode_config(self.config))

    # Locks and the working layer.

    @contextlib.contextmanager
    def write_lock(
        self, *, timeout_s: float = LOCK_TIMEOUT_S, waiting: Callable[[str], None] | None = None
    ) -> Iterator[None]:
        """Excludes other processes that move refs; one thread must not take it twice. Raises Busy with the holder.

        No sweep removes objects that are added under it and referred to before it ends.
        """
        self.require_guard()
        with file_lock(self.path / paths.WRITE_LOCK, timeout_s=timeout_s, waiting=waiting):
            finish_retiring(self.backend, self.index)
            yield

    @contextlib.contextmanager
    def keeping_objects(self) -> Iterator[None]:
        """Keeps sweeps from removing objects, old and new ones, until the end: for a caller that adds objects without
        the write lock. Any number of processes can hold it."""
        with contextlib.ExitStack() as stack:
            # A process excludes others from the objects only with the write lock: there is nothing to wait for then.
            with self.write_lock():
                stack.enter_context(file_lock(self.path / paths.OBJECTS_LOCK, timeout_s=0, shared=True))
            yield

    @contextlib.contextmanager
    def excluding_writers(self, *, timeout_s: float, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
        """Excludes all processes that move refs or add objects. Raises Busy with the holder."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.ExitStack() as stack:
                stack.enter_context(self.write_lock(timeout_s=timeout_s, waiting=waiting))
                try:
                    stack.enter_context(file_lock(self.path / paths.OBJECTS_LOCK, timeout_s=0))
                except Busy as busy:
                    if time.monotonic() >= deadline:
                        raise
                    if waiting is not None:
                        waiting(busy.message)
                        waiting = None
                else:
                    yield
                    return
            # Commits go on meanwhile.
            time.sleep(_RETRY_S)

    def open_overlay(self, branch: str | None = None, *, passes_damage: bool = False) -> Overlay:
        """Opens a branch's working layer; one process at a time has it (Busy). Raises NotFound where there is none.

        Raises Corrupt where its files are damaged; `passes_damage`: takes what is whole then (see Overlay.open).
        """
        from vfs.overlay.overlay import Overlay
        from vfs.repo.consumed_layer import consumed_layer

        branch = branch if branch is not None else self.branch
        self.require_branch(branch)
        directory = self.work_path(branch)
        return Overlay.open(
            directory,
            self.store,
            self.head(branch),
            branch=branch,
            consumed_generation=self.refs.consumed_generation(branch),
            consumed=lambda: consumed_layer(self.refs, self.store, branch),
            on_step=self._on_step,
            passes_damage=passes_damage,
            remote=self.store.remote,
        )

    def step(self, name: str) -> None:
        """Announces a durable step outside of the backend; tests stop there."""
        step(self._on_step, name)

    @property
    def work(self) -> RootedPath:
        """The directory that holds the working layers."""
        return paths.working_layers(self.path)

    def work_path(self, branch: str) -> RootedPath:
        """Returns where a branch's working layer is, or will be."""
        return paths.working_layer(self.path, branch)

    # Branches. What names none means `branch`.

    @property
    def current_branch(self) -> str:
        """The branch that the last switch chose."""
        return self.refs.setting(CURRENT) or MAIN

    @property
    def branch(self) -> str:
        """The branch that this repository is seen from."""
        return self.seen_from if self.seen_from is not None else self.current_branch

    def require_branch(self, name: str) -> None:
        """Raises NotFound for a branch that is not there. The current one is, also before its first version."""
        if self.refs.get(BRANCHES + name) is None and name != self.current_branch:
            raise NotFound(f"there is no branch {name!r}", hint=Hint(Advice.LIST_OR_MAKE_BRANCH))

    # Versions by name.

    def head(self, branch: str | None = None) -> Version | None:
        """Returns a branch's newest version, or None while it has none."""
        return head(self.refs, self.store, branch if branch is not None else self.branch)

    def history(self, branch: str | None = None) -> Iterator[Version]:
        """Yields a branch's versions, newest first, also those of which a record is all that is left."""
        newest = self.refs.get(BRANCHES + (branch if branch is not None else self.branch))
        return first_parents(self.store, newest) if newest is not None else iter(())

    def versions(self, branch: str | None = None) -> Iterator[Version]:
        """Yields a branch's versions that are not forgotten, newest first."""
        newest = self.refs.get(BRANCHES + (branch if branch is not None else self.branch))
        if newest is None:
            return iter(())
        return first_parents(self.store, newest, leave_out=self.refs.is_forgotten)

    def resolve(self, text: str, branch: str | None = None, *, zone: tzinfo | None = UTC) -> Version:
        """Returns the version that a name stands for (vfs/history/revision.py); raises UnknownVersion.

        Dates are meant in `zone`; None is the local one.
        """
        return resolve(self.refs, self.store, text, branch if branch is not None else self.branch, zone)

    def describe(self, commit_id: CommitId, branch: str | None = None) -> str:
        """Returns a commit's name for display: `v12 (3f9a02c1)`, or its digits where it is no version of the branch."""
        digits = commit_id.hex()[:SHORT_HEX]
        number = self.refs.number_on(branch if branch is not None else self.branch, commit_id)
        return digits if number is None else f"v{number} ({digits})"

    # The index, which is made from the packs and the log.

    def rebuild_index(self, progress: StageProgress | None = None, *, deep: bool = False) -> Rebuilt:
        """Builds the index again from the packs and the log; `deep` reads every byte and leaves damaged objects out.

        While another process has the repository open, the index is made again inside its files, which fails with
        Corrupt where these are damaged themselves.
        """
        guard = self.require_guard()
        try:
            guard.exclude(_GUARD_TIMEOUT_S)
        except Busy:
            guard.share(_GUARD_TIMEOUT_S)
        else:
            self._discard_index()
            self._connect()
            guard.share(_GUARD_TIMEOUT_S)
        return self._fill_index(progress, deep=deep)

    def index_bytes(self) -> int:
        """Returns the size of the index's file."""
        return 0 if self._tables is None else self._tables.bytes_used()

    def _open_index(self, progress: StageProgress | None) -> None:
        guard = self._guard = IndexGuard(self.path / paths.INDEX_LOCK)
        guard.share(_GUARD_TIMEOUT_S)
        try:
            self._connect()
            if not self.index.is_complete:
                self._rebuild_and_warn("the index was missing", progress)
            elif not self._has_newest_versions():
                self._rebuild_and_warn("the index was older than the repository", progress)
        except DamagedTables as error:
            self._replace_index(guard, error, progress)

    def require_guard(self) -> IndexGuard:
        """Raises ReadOnly where the index is in memory: what is changed would not be in the one on disk."""
        if self._guard is None:
            is_refused = self._unwritable in (errno.EACCES, errno.EPERM)
            hint = "Run this as its owner." if is_refused else "Make its disk writable, or free space on it."
            raise ReadOnly("the repository can only be read now", hint=hint)
        return self._guard

    def _open_in_memory(self, error: OSError, progress: StageProgress | None) -> None:
        """Builds the index in memory, as the repository takes no writes; it has the state of this moment."""
        self._disconnect()
        self._unwritable = error.errno
        if self._guard is not None:
            self._guard.close()
            self._guard = None
        self._connect(Tables.in_memory([*INDEX_TABLES, *REFS_TABLES]))
        rebuilt = self.index.rebuild(self.backend, self.store.compression, progress, elsewhere=self._elsewhere())
        self.refs.rebuild()
        self.refs.freeze()
        self.notices.append(index_in_memory(error, rebuilt))

    def _replace_index(self, guard: IndexGuard, error: DamagedTables, progress: StageProgress | None) -> None:
        """Builds the index again, while no other process has the old one open."""
        self._disconnect()
        guard.exclude(_GUARD_TIMEOUT_S)
        try:
            # Another process may have rebuilt it while this one waited.
            self._connect()
            damaged = not (self.index.is_complete and self._has_newest_versions())
        except DamagedTables:
            damaged = True
        if damaged:
            self._discard_index()
            self._connect()
            self._rebuild_and_warn(error.message, progress)
        guard.share(_GUARD_TIMEOUT_S)

    def _has_newest_versions(self) -> bool:
        """Returns True if the index has the newest versions; an old copy has not. Other damage is left to fsck."""
        try:
            return all(self.index.has(commit_id) for _, commit_id in self.refs.list(BRANCHES))
        except DamagedTables:
            raise
        except Corrupt as error:
            self.notices.append(Notice(error.message, error.hint))
            return True

    def _rebuild_and_warn(self, reason: str, progress: StageProgress | None) -> None:
        rebuilt = self._fill_index(progress)
        self.notices.extend(index_rebuilt(reason, rebuilt, self.log, self.refs, self.store))

    def _fill_index(self, progress: StageProgress | None, *, deep: bool = False) -> Rebuilt:
        # A sweep of another process must not remove packs that are just being indexed.
        with self.write_lock():
            rebuilt = self.index.rebuild(
                self.backend, self.store.compression, progress, deep=deep, elsewhere=self._elsewhere()
            )
            self.refs.rebuild()
        return rebuilt

    def _elsewhere(self) -> Iterator[PackInfo]:
        """Yields the packs that only remotes have."""
        from vfs.remote.known_objects import kept_packs

        return kept_packs(self.backend) if LAZY in self.config.features else iter(())

    def _connect(self, tables: Tables | None = None) -> None:
        if tables is None:
            tables = Tables(self.path / paths.INDEX, [*INDEX_TABLES, *REFS_TABLES], on_step=self._on_step)
        self._tables = tables
        self.index = Index(self._tables)
        backend = self.backend
        if LAZY in self.config.features:  # Few are, and this takes a command 10 ms.
            from vfs.repo.lazy_backend import lazy_backend

            backend = lazy_backend(self)
        self.store = ObjectStore(
            backend, self.index, compression=self.config.compression, cache_bytes_max=self._cache_bytes_max
        )
        self.refs = Refs(self._tables, self.log, self._indexed_commit)

    def _indexed_commit(self, commit_id: CommitId) -> Commit:
        """Returns a commit, not one that a cache alone has left since a sweep took it."""
        if not self.index.has(commit_id):
            raise MissingObject(commit_id)
        return self.store.get_commit(commit_id)

    def _disconnect(self) -> None:
        if self._tables is not None:
            self._tables.close()
            self._tables = None

    def _discard_index(self) -> None:
        self._disconnect()
        discard(self.path / paths.INDEX)
