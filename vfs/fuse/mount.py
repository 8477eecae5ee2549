"""The life of a mount: checks, construction of its parts, the mount in the kernel, and what ends them.

Parts end in the reverse order of their start: repository, working layer, mount, requests, control socket.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event

import pyfuse3
import trio

from vfs.backend.open_files import allow_many_files
from vfs.backend.storage import Storage
from vfs.control.mount_description import introduction
from vfs.errors import Busy
from vfs.fuse import NATIVE
from vfs.fuse.event_loop import Resumption, native_modes, serve
from vfs.fuse.inode_pruning import Pruner
from vfs.fuse.inodes import WORKING_START, CollisionTable, InodeTable
from vfs.fuse.layers import Layers, log_recovery
from vfs.fuse.native_parts import NativeParts
from vfs.fuse.prefetch.prefetch_policy import PrefetchPolicy, Push
from vfs.fuse.prefetch.worker_pool import WorkerPool
from vfs.fuse.read_only_tree import ReadOnlyTree
from vfs.fuse.recorder import Recorder
from vfs.fuse.request_handlers import ReaddirReply, VfsOperations
from vfs.fuse.session import polling
from vfs.fuse.session.connection import KeptConnection
from vfs.fuse.session.daemon import Ready
from vfs.fuse.session.guard import ProcessGuard
from vfs.fuse.session.guard_process import READY, end_connection
from vfs.fuse.session.handshake import Handshake
from vfs.fuse.session.mount_options import MountOptions
from vfs.fuse.session.mounting import MountFailed, detach, enforces_access_lists, is_attached, mount, refused
from vfs.fuse.session.mountpoint import claimed, mounted_at
from vfs.fuse.session.takeover_state import Legacy
from vfs.fuse.shared_inode_numbers import RemappedNumbers
from vfs.fuse.surviving_operations import SurvivingOperations
from vfs.fuse.takeover import Takeover, Ticket
from vfs.fuse.view.branch_directories import BranchDirectories, BranchDirectory
from vfs.fuse.view.root_view import RootView
from vfs.fuse.view.run_directories import RunDirectories
from vfs.fuse.view.version_inodes import VersionInodes
from vfs.fuse.view.version_names import Names
from vfs.native.session import Modes
from vfs.overlay.overlay import Overlay
from vfs.repo.paths import inode_numbers
from vfs.repo.repository import Repository

log = logging.getLogger(__name__)

_INDEX_BYTES_AHEAD = 64 * 1024 * 1024
"""How much of the index a mount reads ahead at its start: all of some 400,000 objects (30 GB of large files)."""

_TREE_BYTES_AHEAD = 16 * 1024 * 1024
"""Trees that are read ahead at a mount's start, if all are no larger: those of some 100,000 large files."""

_REMOTE_BACKGROUND_MAX = 128
"""Requests for readahead at the same time, where each may wait for a backend: the kernel sends no further ones."""

_KILLED_ENDS_S, _RETRY_S = 20.0, 0.02
"""How long a killed daemon may take to end: it may wait for a disk."""

_SWITCH_INTERVAL_S = 0.0005
"""How long a computing worker thread may keep the interpreter from the event loop; Python's default is ten times that,
and every request would wait for it while a commit runs."""

_GARBAGE_AFTER = 50_000
"""The threshold of Python's garbage collector, in allocations minus deallocations; its default is 700. Scanning what a
mount keeps of each file that the kernel knows finds nothing, as requests leave no cycles behind (decision 40)."""


def run_mount(
    repository: Path,
    mountpoint: Path,
    options: MountOptions,
    ready: Ready,
    *,
    storage: Storage | None = None,
    takeover: Takeover | None = None,
) -> None:
    """Mounts and serves until the mount ends, by `umount` or a signal; calls `ready` once the mount answers.

    `ready` gets the warnings of recovery, if the working layer was not closed cleanly before. `storage`: where the
    repository's objects and its log are, if not in its directory. `takeover`: the mount is there, and was served by a
    daemon that was killed.

    Must be called in a process's main thread. The working layer is closed cleanly however the mount ends. Raises
    VfsError before `ready` if the mount cannot be made: see `claimed`, Busy if another mount has the branch's working
    layer, MountFailed.
    """
    _tune_interpreter()
    # Another process could not open the storage that this one was given.
    options = replace(options, survives=options.survives and storage is None)
    with ExitStack() as stack:
        claim = stack.enter_context(ExitStack())
        warnings: list[str] = []
        path = mountpoint
        if takeover is None and options.connection is None:
            path = claim.enter_context(claimed(mountpoint, repository, waiting=warnings.append))
        place, cache = Path(os.path.realpath(repository)), options.cache_bytes
        session = stack.enter_context(_session(place, path, options, takeover))
        repo = stack.enter_context(Repository.open(place, storage=storage, cache_bytes_max=cache))
        is_local = repo.store.remote is None
        pool = _forked_workers(repo)
        stack.callback(pool.close)
        _read_ahead(repo)
        branch, overlay = options.branch if options.branch is not None else repo.current_branch, None
        repo.require_branch(branch)
        if options.read_only:
            options = _pinned_to_branch(options, repo, branch, is_new=takeover is None)
        else:
            overlay = _open_overlay(repo, branch, _KILLED_ENDS_S if takeover is not None else 0.0)
            stack.callback(overlay.close)
            warnings += overlay.recovery.warnings()
            log_recovery(overlay)
        push = pyfuse3.notify_store if NATIVE is None and takeover is None else None  # docs/native-session.md
        populator = pool if is_local else None
        operations, layers = build_operations(repo, overlay, branch, options, push=push, populator=populator)
        # Of packs, and of open branches.
        allow_many_files()
        if layers is not None:
            stack.callback(layers.close)

        def answer() -> None:
            session.answered.set()
            session.guard.tell(READY)
            ready(warnings)

        with _mounted(operations, path, options, repo, session) as reading:
            claim.close()
            device = _device_at(path)
            session.guard.tell(device)
            operations.introduce(introduction(repo.anchor, path))
            log.info("mounted %s at %s", repo.path, path)
            with _guarded(path, device, session.guard, pool):
                reading.call_when_broken(session.guard.end_connection)
                if not is_local:
                    reading.call_when_ended(operations.fetching.end)
                trio.run(serve, repo, layers, operations, pool, path, device, options, answer, session.resumption)
        log.info("unmounted %s", path)


def _pinned_to_branch(options: MountOptions, repo: Repository, branch: str, *, is_new: bool) -> MountOptions:
    """Returns the options of a read-only mount, whose names lead to one branch's versions: it follows no switch.

    Raises Corrupt where the newest one is damaged: a new mount's root would have no attributes, and never answer.
    """
    if is_new:
        repo.head(branch)
    return replace(options, branch=branch)


def _read_ahead(repo: Repository) -> None:
    """Has the disk read what look-ups will need, in the background."""
    repo.store.index.hint_readahead(_INDEX_BYTES_AHEAD)
    repo.store.hint_trees(_TREE_BYTES_AHEAD)


def _device_at(path: Path) -> str:
    """Returns the device of the mount at a path, `MAJOR:MINOR`. Raises MountFailed."""
    here = mounted_at(path)
    if here is None:
        raise MountFailed("the mount was taken away again at once, or is in another mount namespace")
    return here.device


@contextmanager
def _guarded(path: Path, device: str, guard: ProcessGuard, pool: WorkerPool) -> Iterator[None]:
    """Guards a mount while it is served, and ends what else keeps its connection open."""
    try:
        with guard.serving():
            yield
    finally:
        if NATIVE is not None:
            NATIVE.detach()
        # A worker that has not ended keeps the connection open: programs that use the mount would hang.
        if not pool.close():
            end_connection(path, device)


def _tune_interpreter() -> None:
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.set_threshold(_GARBAGE_AFTER)


def build_operations(
    repo: Repository,
    overlay: Overlay | None,
    branch: str,
    options: MountOptions,
    *,
    hash_bits: int = 64,
    reply: ReaddirReply = pyfuse3.readdir_reply,
    push: Push | None = None,
    populator: WorkerPool | None = None,
) -> tuple[VfsOperations, Layers | None]:
    """Builds the handlers of a mount; tests narrow inode numbers and read listings without a kernel."""
    probed = CollisionTable(inode_numbers(repo.path))
    parts = NativeParts(NATIVE, repo.store, probed, hash_bits=hash_bits) if NATIVE is not None else None
    table = parts.table if parts is not None else InodeTable(probed, hash_bits=hash_bits)
    view = RootView(Names(repo.refs, repo.store, branch), overlay, follows=options.branch is None)
    branches = None
    if overlay is not None:
        numbers: RemappedNumbers[BranchDirectory] = RemappedNumbers(probed, hash_bits=hash_bits)
        branches = BranchDirectories(repo.refs, repo.store, table, numbers, view)
    versions = parts.versions if parts is not None else VersionInodes(repo.store, table)
    places, contents = (parts.places, parts.contents) if parts is not None else (None, None)
    prefetch_policy = PrefetchPolicy(repo.store, versions, table, push, populator, places, contents, NATIVE)
    runs = RunDirectories(repo, versions, table)
    read_only = ReadOnlyTree(
        view, versions, table, prefetch_policy, branches, list_versions=options.list_versions, runs=runs
    )
    layers = Layers(repo, read_only, overlay, branches, view) if overlay is not None and branches is not None else None
    recorder = Recorder(repo, read_only.find, versions.place, NATIVE) if layers is not None else None
    made = SurvivingOperations if options.survives else VfsOperations
    operations = made(
        read_only, layers, repo.path, reply=reply, remote=repo.store.remote, recorder=recorder, repository=repo
    )
    if parts is not None:
        parts.serve(operations, prefetch_policy)
    operations.files, operations.pruner = table.files, Pruner(table.files, layers, options.names_max)
    return operations, layers


def _open_overlay(repo: Repository, branch: str, patience_s: float) -> Overlay:
    """Opens a working layer; while another process has it, tries again for some seconds: a killed one takes a while."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return repo.open_overlay(branch)
        except Busy:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_S)


@dataclass(frozen=True, slots=True)
class _Session:
    """What a mount has beside its connection. `legacy`: where one that survives records what the kernel knows.

    `resumption`: of one that is taken over.
    """

    kept: KeptConnection
    guard: ProcessGuard
    legacy: Legacy | None
    resumption: Resumption | None = None
    answered: Event = field(default_factory=Event)


@contextmanager
def _session(repository: Path, path: Path, options: MountOptions, takeover: Takeover | None) -> Iterator[_Session]:
    """Starts the guard; of a mount that survives, it becomes the next daemon if this process is killed."""
    if takeover is not None:
        session = _Session(takeover.kept, takeover.guard, takeover.legacy, Resumption(takeover.supervisor))
    elif options.survives:
        kept, legacy = KeptConnection(), Legacy()
        ticket = Ticket(str(repository), str(path), options, kept.descriptor, legacy.descriptor)
        guard = ProcessGuard.start(path, ticket.command(), (kept.descriptor, legacy.descriptor))
        session = _Session(kept, guard, legacy)
    else:
        session = _Session(KeptConnection(), ProcessGuard.start(path), None)
    try:
        yield session
    finally:
        session.guard.close()
        session.kept.close()


@contextmanager
def _mounted(
    operations: VfsOperations,
    path: Path,
    options: MountOptions,
    repo: Repository,
    session: _Session,
) -> Iterator[polling.PollingLowlevel]:
    """Mounts, and unmounts at the end; yields the reader of requests.

    A mount that was in use and ends with an error stays, dead, so that programs get an error. Without the mount they
    would write into the directory below the mount point, and the user would not find their files.
    """
    if isinstance(operations, SurvivingOperations) and session.legacy is not None:
        operations.survive(session.legacy)
    if session.resumption is None:
        if options.connection is not None:
            session.kept.put(options.connection)
            os.close(options.connection)
        else:
            mount(path, options, repo.path, session.kept)
    own = session.kept.connection()
    if own is None:
        raise refused("it has no connection")
    background_max = None if repo.store.remote is None else _REMOTE_BACKGROUND_MAX
    operations.enforce_access_lists(enforces_access_lists(options))
    handshake = Handshake(
        own, background_max=background_max, legacy=session.legacy, resumes=session.resumption is not None
    )
    if session.resumption is not None:
        handshake.call_when_finished = partial(_resume, own, native_modes(options), session.resumption.connected)
    reading = polling.install(handshake, NATIVE.has_requests) if NATIVE is not None else polling.install(handshake)
    with _libfuse_messages() as words:
        try:
            pyfuse3.init(operations, f"/dev/fd/{own}", options.for_kernel(repo.path))
        except RuntimeError as error:
            if session.resumption is None:
                detach(path)
            raise refused(words() or str(error)) from error
    goes = True
    try:
        yield reading
    except BaseException:
        # One that is taken over was in use before.
        goes = session.resumption is None and not session.answered.is_set()
        raise
    finally:
        is_ours_to_end = goes and is_attached(own)
        pyfuse3.close(unmount=goes)
        session.kept.close()
        if is_ours_to_end:
            detach(path)


def _resume(connection: int, modes: Modes, connected: trio.Event) -> None:
    # The kernel sends what only the native layer understands from the first request on.
    if NATIVE is not None:
        NATIVE.attach(connection, modes, WORKING_START)
    connected.set()


@contextmanager
def _libfuse_messages() -> Iterator[Callable[[], str]]:
    """Captures what the C library and fusermount3 print: they report their reasons nowhere else."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)

        def words() -> str:
            caught.seek(0)
            return caught.read().decode(errors="replace").strip().replace("\n", "; ")

        try:
            yield words
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _forked_workers(repo: Repository) -> WorkerPool:
    """Returns a pool with forked processes, none where packs are not local: the store's threads prefetch those."""
    is_local = repo.store.remote is None
    pool = WorkerPool(repo.recipe if is_local else None)
    try:
        pool.fork()
    except (OSError, MemoryError) as error:
        log.warning("prefetch has fewer workers than it should: %s", error)
    if is_local:
        repo.store.set_prefetcher(pool)
    return pool
