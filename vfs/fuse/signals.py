"""Signals that end a mount: the first lets running operations finish, the second does not."""

from __future__ import annotations

import logging
import signal

import pyfuse3
import trio

from vfs.fuse.layers import Layers
from vfs.fuse.prefetch.worker_pool import WorkerPool
from vfs.fuse.request_handlers import VfsOperations
from vfs.fuse.session.guard_process import STOPPING

log = logging.getLogger(__name__)


async def obey_signals(layers: Layers | None, operations: VfsOperations, pool: WorkerPool) -> None:
    """Ends the mount: at the first signal when running operations are done, at the second at once."""
    # A signal that was ignored from the start stays ignored: scripts start background processes so, and `nohup` does.
    heeded = [number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    with trio.open_signal_receiver(signal.SIGTERM, *heeded) as signals:
        # A daemon that takes over starts with them blocked.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        async with trio.open_nursery() as nursery:
            first = True
            async for number in signals:
                log.info("%s: unmounting, with %d files open", signal.Signals(number).name, operations.open_handles)
                if first and layers is not None and layers.is_busy:
                    first = False
                    nursery.start_soon(_terminate_after, layers, operations, pool)
                    continue
                await _terminate(operations, pool)


async def _terminate_after(layers: Layers, operations: VfsOperations, pool: WorkerPool) -> None:
    await layers.finish()
    await _terminate(operations, pool)


async def _terminate(operations: VfsOperations, pool: WorkerPool) -> None:
    """Ends the worker pool, then the requests: a worker may wait for a page that an unanswered request has locked.

    Requests that wait for a backend get EIO: it may never answer.
    """
    operations.fetching.end()
    await trio.to_thread.run_sync(pool.close)
    pyfuse3.terminate()
