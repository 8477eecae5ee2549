"""One mount's life: checks, the parts put together, the event loop, signals, and everything closed again.

What starts first ends last: repository, working layer, mount, requests, control socket.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, get_ident

import pyfuse3
import trio

from vfs.control.introduction import introduction
from vfs.errors import VfsError
from vfs.fuse.committed import Committed
from vfs.fuse.control_server import ControlServer
from vfs.fuse.inodes import CollisionTable, InodeTable
from vfs.fuse.layers import Layer, Layers, log_recovery
from vfs.fuse.mounted_layer import MountedLayer
from vfs.fuse.operations import ReaddirReply, VfsOperations
from vfs.fuse.prefetch.policy import PageCachePopulator, Push, ReadAhead
from vfs.fuse.prefetch.worker_pool import WorkerPool
from vfs.fuse.session import polling
from vfs.fuse.session.daemon import Ready
from vfs.fuse.session.guard import end_connection, guarded
from vfs.fuse.session.handshake import Handshake
from vfs.fuse.session.mountpoint import MountOptions, claimed, mounted_at
from vfs.fuse.session.rootmount import detach_as_root, is_attached, mount_as_root
from vfs.fuse.shared_inode_numbers import RemappedNumbers
from vfs.fuse.view.branch_directories import BranchDirectories, BranchDirectory
from vfs.fuse.view.root_view import RootView
from vfs.fuse.view.version_inodes import Versions
from vfs.fuse.view.version_names import Names
from vfs.fuse.working_layer import Working
from vfs.overlay.overlay import Overlay
from vfs.repo.paths import control_socket, inode_numbers
from vfs.repo.repository import Repository

log = logging.getLogger(__name__)

READ_AHEAD_KIB = 2048
"""Between 1 and 4 MiB is best by measurement. Only root may set it; for others the kernel's 128 KiB hold."""

_INDEX_BYTES_AHEAD = 64 * 1024 * 1024
"""How much of the index is read when a mount begins: all of it up to some 400,000 objects (30 GB of large files)."""

_SWITCH_INTERVAL_S = 0.0005
"""How long a computing worker thread may keep the interpreter from the event loop; Python's default is ten times that,
and every request would wait for it while a commit runs."""

_GARBAGE_AFTER = 50_000
"""So many objects more than were freed, and Python looks for cycles among them; its default is 700. What a mount keeps
of each file that the kernel knows is looked through in vain, and requests leave no cycles behind (decision 40)."""


class MountFailed(VfsError):
    """The kernel, or fusermount3, refused the mount."""

    code = "mount-failed"


def run_mount(repository: Path, mountpoint: Path, options: MountOptions, ready: Ready) -> None:
    """Mounts and serves until the mount ends, by `umount` or a signal; calls `ready` once the mount answers.

    `ready` is told what recovery did to the working layer, if its last use did not end cleanly.

    Must be called in a process's main thread. The working layer is closed cleanly however the mount ends. Raises
    VfsError before `ready` where the mount cannot be made: see `claimed`, Busy where another mount has the branch's
    working layer, MountFailed.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.set_threshold(_GARBAGE_AFTER)
    with ExitStack() as stack:
        claim = stack.enter_context(ExitStack())
        path = claim.enter_context(claimed(mountpoint, repository))
        place = Path(os.path.realpath(repository))
        repo = stack.enter_context(Repository.open(place, cache_bytes_max=options.cache_bytes))
        repo.store.index.hint_readahead(_INDEX_BYTES_AHEAD)
        branch = options.branch if options.branch is not None else repo.current_branch
        repo.require_branch(branch)
        overlay = None
        notices: list[str] = []
        if options.read_only:
            # Its names lead to one branch's versions for ever, so it follows no switch.
            options = replace(options, branch=branch)
        else:
            overlay = repo.open_overlay(branch)
            stack.callback(overlay.close)
            notices = overlay.recovery.warnings()
            log_recovery(overlay)
        unpackers = WorkerPool(repo.recipe)
        is_local = repo.store.remote is None
        if is_local:
            repo.store.read_ahead_with(unpackers)
        operations, layers = build_operations(
            repo, overlay, branch, options, push=pyfuse3.notify_store, pushers=unpackers if is_local else None
        )
        if layers is not None:
            stack.callback(layers.close)
            _allow_many_files()
        answered = Event()

        def answer() -> None:
            answered.set()
            ready(notices)

        with _mounted(operations, path, options, repo.path, answered.is_set) as reading:
            claim.close()
            here = mounted_at(path)
            if here is None:
                raise MountFailed("the mount was taken away again at once")
            operations.introduce(introduction(repo.anchor, path))
            log.info("mounted %s at %s", repo.path, path)
            try:
                with guarded(path, here.device) as end_now:
                    reading.call_when_broken(end_now)
                    trio.run(_serve, repo, layers, operations, unpackers, path, here.device, answer)
            finally:
                # They have the connection too, and would keep it open: whoever uses the mount would wait for ever.
                if not unpackers.close():
                    end_connection(path, here.device)
        log.info("unmounted %s", path)


def build_operations(
    repo: Repository,
    overlay: Overlay | None,
    branch: str,
    options: MountOptions,
    *,
    hash_bits: int = 64,
    reply: ReaddirReply = pyfuse3.readdir_reply,
    push: Push | None = None,
    pushers: PageCachePopulator | None = None,
) -> tuple[VfsOperations, Layers | None]:
    """Puts the handlers of a mount together; tests narrow inode numbers and take listings without a kernel."""
    probed = CollisionTable(inode_numbers(repo.path))
    table = InodeTable(probed, hash_bits=hash_bits)
    view = RootView(Names(repo.refs, repo.store, branch), overlay, follows=options.branch is None)
    branches = None
    if overlay is not None:
        numbers: RemappedNumbers[BranchDirectory] = RemappedNumbers(probed, hash_bits=hash_bits)
        branches = BranchDirectories(repo.refs, repo.store, table, numbers, view)
    versions = Versions(repo.store, table)
    read_ahead = ReadAhead(repo.store, versions, table, push, pushers)
    committed = Committed(view, versions, table, read_ahead, branches, list_versions=options.list_versions)
    layers = Layers(repo, committed, overlay, branches, view) if overlay is not None and branches is not None else None
    return VfsOperations(committed, layers, repo.path, reply=reply), layers


def _allow_many_files() -> None:
    """Lets the daemon have as many files open as it may: each branch that is open takes a few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _mounted(
    operations: VfsOperations, path: Path, options: MountOptions, repository: Path, has_answered: Callable[[], bool]
) -> Iterator[polling.PollingLowlevel]:
    """Mounts, and unmounts at the end; yields what reads requests.

    A mount that was in use and ends with an error stays, dead: whoever goes on writing is told so. With the mount gone
    they would write below the mount point, where nobody looks for it.
    """
    own = mount_as_root(path, options, repository)
    operations.enforce_access_lists(own is not None)
    reading = polling.install(Handshake(own) if own is not None else None)
    target = str(path) if own is None else f"/dev/fd/{own}"
    with _libfuse_messages() as words:
        try:
            pyfuse3.init(operations, target, options.for_kernel(repository))
        except RuntimeError as error:
            text = words() or str(error)
            if own is not None:
                detach_as_root(path)
            raise MountFailed(f"the mount was refused: {text}", hint=_mount_hint(text)) from error
    goes = True
    try:
        yield reading
    except BaseException:
        goes = not has_answered()
        raise
    finally:
        is_ours_to_end = goes and own is not None and is_attached(own)
        pyfuse3.close(unmount=goes)
        if is_ours_to_end:
            detach_as_root(path)


@contextmanager
def _libfuse_messages() -> Iterator[Callable[[], str]]:
    """Catches what the C library and fusermount3 print: the only place where they give their reasons."""
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


def _mount_hint(text: str) -> str:
    if "user_allow_other" in text:
        return "Ask root to put `user_allow_other` into /etc/fuse.conf, or leave --allow-other out."
    if "/dev/fuse" in text or "device not found" in text:
        return "Load the kernel's FUSE module; in a container, give it /dev/fuse and the right to mount."
    return "Check that the mount point is yours and that fusermount3 is installed."


def _set_read_ahead(device: str) -> None:
    try:
        Path(f"/sys/class/bdi/{device}/read_ahead_kb").write_text(f"{READ_AHEAD_KIB}\n")
    except OSError as error:
        log.info("read-ahead stays as it is: %s", error.strerror)


async def _serve(
    repo: Repository,
    layers: Layers | None,
    operations: VfsOperations,
    unpackers: WorkerPool,
    path: Path,
    device: str,
    ready: Callable[[], None],
) -> None:
    remote = repo.store.remote
    async with trio.open_nursery() as nursery:
        if remote is not None:
            remote.serve_from(get_ident())
        if layers is not None:

            def serve(layer: Layer, working: Working) -> ControlServer:
                host = MountedLayer(repo, working, path, device, operations.writers, layers.switch)
                return ControlServer(
                    control_socket(repo.path, layer.branch), host, lambda: layers.close_unneeded(layer)
                )

            await layers.serve(nursery, serve)
        nursery.start_soon(_obey_signals, layers, operations, unpackers)
        # Worker processes read local packs; of others the store's threads prefetch.
        nursery.start_soon(_announce, unpackers if remote is None else None, path, device, ready)
        try:
            await pyfuse3.main()
        finally:
            operations.fetching.end()
            if remote is not None:
                # What is left reads in this thread, and nothing is served that would wait for it.
                remote.serve_from(None)
        if layers is not None:
            # An operation under way is finished, and whoever asked for it hears how it ended.
            await layers.finish()
        # Whatever runs in a worker thread is waited for: a commit is finished before the working layer closes.
        nursery.cancel_scope.cancel()
        if layers is not None:
            layers.cancel_compactions()


async def _announce(unpackers: WorkerPool | None, path: Path, device: str, ready: Callable[[], None]) -> None:
    """Says that the mount answers once it has answered: through the kernel, so from another thread."""
    try:
        await trio.to_thread.run_sync(os.stat, path, abandon_on_cancel=True)
        # Not before: the kernel's first request would put its own value in this one's place.
        _set_read_ahead(device)
    except OSError as error:
        log.error("the mount does not answer: %s", error)
        return
    # Not before either: what stands at the connection's descriptor until the handshake is over is no connection.
    try:
        if unpackers is not None:
            await trio.to_thread.run_sync(_start, unpackers)
    except (OSError, MemoryError) as error:
        log.warning("reading ahead has fewer processes than it should: %s", error)
    ready()


def _start(unpackers: WorkerPool) -> None:
    unpackers.start(_connection())


def _connection() -> int:
    """Returns the descriptor that the kernel's requests come from, whoever has opened it."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse":
                return int(name)
    raise OSError(errno.ENOTCONN, "there is no connection")


async def _obey_signals(layers: Layers | None, operations: VfsOperations, unpackers: WorkerPool) -> None:
    """Ends the mount: at the first signal when running operations are done, at the second at once."""
    # What was ignored from the start stays so: a Ctrl-C is not for what a script runs in the background, and `nohup`
    # means it.
    heeded = [number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    with trio.open_signal_receiver(signal.SIGTERM, *heeded) as signals:
        async with trio.open_nursery() as nursery:
            first = True
            async for number in signals:
                log.info("%s: unmounting", signal.Signals(number).name)
                if first and layers is not None and layers.is_busy:
                    first = False
                    nursery.start_soon(_terminate_after, layers, operations, unpackers)
                    continue
                await _terminate(operations, unpackers)


async def _terminate_after(layers: Layers, operations: VfsOperations, unpackers: WorkerPool) -> None:
    await layers.finish()
    await _terminate(operations, unpackers)


async def _terminate(operations: VfsOperations, unpackers: WorkerPool) -> None:
    """Ends the requests, and the unpackers before: one may wait for a page that an unanswered request holds.

    Requests that wait for a backend get EIO: it may never answer.
    """
    operations.fetching.end()
    await trio.to_thread.run_sync(unpackers.close)
    pyfuse3.terminate()
