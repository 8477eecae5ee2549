"""The event loop of a mount: its tasks, and the orderly end, which waits for worker threads: a commit is whole."""

from __future__ import annotations

import errno
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import get_ident

import pyfuse3
import trio

from vfs.fuse import NATIVE
from vfs.fuse.attributes import HEAD_S
from vfs.fuse.control_server import ControlServer
from vfs.fuse.inodes import WORKING_START
from vfs.fuse.invalidation import drop_directories
from vfs.fuse.layers import Layer, Layers
from vfs.fuse.mounted_layer import MountedLayer
from vfs.fuse.native_reads import answer_returned
from vfs.fuse.prefetch.worker_pool import WorkerPool
from vfs.fuse.remote_following import follow_remote
from vfs.fuse.removed_packs import close_removed
from vfs.fuse.request_handlers import VfsOperations
from vfs.fuse.session.mount_options import MountOptions
from vfs.fuse.signals import obey_signals
from vfs.fuse.working_tree import WorkingTree
from vfs.native.session import Modes
from vfs.repo.paths import control_socket
from vfs.repo.repository import Repository

log = logging.getLogger(__name__)

READ_AHEAD_KIB = 2048
"""Between 1 and 4 MiB is best by measurement. Only root may set it; for others the kernel's 128 KiB hold."""

_TASKS_MAX, _REMOTE_TASKS_MAX = 99, 2000
"""Requests at the same time, at most. Those that wait for a backend must not keep others from being read. Each takes a
task and a buffer, of which a read or a lookup touches one page."""

_NICENESS = -10
"""Of the thread that answers requests: a listing with `stat` beside eight readers takes 4 to 6 ms in place of 10."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """What a mount that is taken over has: `connected` is set once its connection is at its descriptor.

    `supervisor`: a descriptor of the process that a mount in the foreground ends with, readable once it has ended.
    """

    supervisor: int | None
    connected: trio.Event = field(default_factory=trio.Event)


async def serve(
    repo: Repository,
    layers: Layers | None,
    operations: VfsOperations,
    pool: WorkerPool,
    path: Path,
    device: str,
    options: MountOptions,
    ready: Callable[[], None],
    resumption: Resumption | None,
) -> None:
    """Serves a mount until it ends, by `umount` or a signal; calls `ready` once the mount answers.

    `resumption`: of a mount that is taken over.
    """
    remote = repo.store.remote
    _run_before_others()
    async with trio.open_nursery() as nursery:
        if remote is not None:
            remote.serve_from(get_ident())
        if layers is not None:

            def serve_layer(layer: Layer, working: WorkingTree) -> ControlServer:
                host = MountedLayer(repo, working, path, device, operations.writers, layers.switch, operations.recorder)
                return ControlServer(
                    control_socket(repo.path, layer.branch), host, lambda: layers.close_unneeded(layer)
                )

            await layers.serve(nursery, serve_layer)
            if operations.recorder is not None:
                nursery.start_soon(operations.recorder.serve, nursery)
        nursery.start_soon(obey_signals, layers, operations, pool)
        if NATIVE is not None and operations.native_reads is not None:
            event = NATIVE.serve_reads(operations.native_reads)
            if event is not None:
                nursery.start_soon(answer_returned, NATIVE, event, operations)
        if NATIVE is not None and operations.native_names is not None:
            NATIVE.serve_names(operations.native_names)
        nursery.start_soon(close_removed, repo.backend, operations.drop_places)
        nursery.start_soon(_announce, pool, path, device, native_modes(options), ready, resumption)
        if resumption is not None and resumption.supervisor is not None:
            nursery.start_soon(_end_with, resumption.supervisor)
        nursery.start_soon(operations.pruner.run, _connection)
        if options.follow_s:
            nursery.start_soon(follow_remote, repo.path, options.follow_s)
        if Modes.NO_OPENDIR in native_modes(options):
            nursery.start_soon(_follow_refs, repo, operations)
        try:
            await pyfuse3.main(max_tasks=_TASKS_MAX if remote is None else _REMOTE_TASKS_MAX)
        finally:
            operations.fetching.end()
            if remote is not None:
                # The rest reads in this thread: no request is served any more.
                remote.serve_from(None)
        if layers is not None:
            # A running operation finishes, and its client gets the result.
            await layers.finish()
        # The nursery waits for worker threads: a commit finishes before the working layer closes.
        nursery.cancel_scope.cancel()
        if layers is not None:
            layers.cancel_compactions()


def native_modes(options: MountOptions) -> Modes:
    """Returns what the native session layer does for a mount.

    The kernel needs no request to open what only other processes' new versions change. In a writable mount it could not
    ask for a working layer's files alone.
    """
    if NATIVE is None:
        return Modes(0)
    if options.read_only and not options.see_opens:
        return Modes.NO_OPEN | Modes.NO_OPENDIR
    return Modes.OPEN | Modes.OPENDIR | (Modes(0) if options.read_only else Modes.RELIST)


async def _follow_refs(repo: Repository, operations: VfsOperations) -> None:
    """Has the kernel list directories again whose names changed, within a second: it asks for listings no more."""
    seen = repo.refs.follow()
    while True:
        await trio.sleep(HEAD_S)
        now = repo.refs.follow()
        if now != seen:
            seen = now
            await trio.to_thread.run_sync(drop_directories, list(operations.changing_directories()))


async def _announce(
    pool: WorkerPool, path: Path, device: str, modes: Modes, ready: Callable[[], None], resumption: Resumption | None
) -> None:
    """Calls `ready` when a new mount has answered a request through the kernel, made from another thread.

    A mount that is taken over is asked nothing. A daemon that is killed while it waits for its own mount does not end
    before that answers, which its successor does only when it has ended. And the root may have no attributes by now.
    """
    if resumption is not None:
        await resumption.connected.wait()
    else:
        try:
            await trio.to_thread.run_sync(os.stat, path, abandon_on_cancel=True)
        except OSError as error:
            log.error("the mount does not answer: %s", error)
            return
        # Until the handshake is over, the connection's descriptor is a socket.
        if NATIVE is not None:
            NATIVE.attach(_connection(), modes, WORKING_START)
    # Not before the handshake's end, with which the kernel sets its own value.
    _set_read_ahead(device)
    pool.start(_connection())
    ready()


async def _end_with(supervisor: int) -> None:
    """Ends the mount when its supervisor has ended."""
    await trio.lowlevel.wait_readable(supervisor)
    os.kill(os.getpid(), signal.SIGTERM)


def _run_before_others() -> None:
    """Gives this thread the processor before those that decompress or compact, if the process may, as root.

    A niceness or a policy that was chosen for the process stays.
    """
    if os.getpriority(os.PRIO_PROCESS, 0) == 0 and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)


def _set_read_ahead(device: str) -> None:
    try:
        Path(f"/sys/class/bdi/{device}/read_ahead_kb").write_text(f"{READ_AHEAD_KIB}\n")
    except OSError as error:
        log.info("the kernel's readahead is not changed: %s", error.strerror)


def _connection() -> int:
    """Returns the descriptor of the FUSE connection, which the C library may have opened."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse":
                return int(name)
    raise OSError(errno.ENOTCONN, "there is no connection")
