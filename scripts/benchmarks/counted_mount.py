"""A mount that counts what reading takes of its parts; `python -m benchmarks.counted_mount REPOSITORY MOUNTPOINT OUT`.

Writes a JSON object to OUT when the mount ends: how often each part was used, whichever thread did it.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyfuse3

from vfs.backend.local import LocalBackend
from vfs.fuse.mount import run_mount
from vfs.fuse.prefetch.worker_pool import WorkerPool
from vfs.fuse.request_handlers import VfsOperations
from vfs.fuse.session.mount_options import MountOptions
from vfs.store.lmdb_tables import Tables
from vfs.store.packs import blocks
from vfs.store.packs.compression import Codec, Compression

REQUESTS = ("lookup", "getattr", "open", "read", "release", "opendir", "readdir", "releasedir")
PARTS: tuple[tuple[Any, str, str], ...] = (
    (Tables, "get", "index"),
    (Tables, "get_many", "index"),
    (LocalBackend, "read_range", "disk read"),
    (LocalBackend, "read_into", "disk read"),
    (blocks, "object_id_of", "hash"),
    (WorkerPool, "prefetch", "hand-over"),
    (WorkerPool, "push", "hand-over"),
    (pyfuse3, "notify_store", "push"),
)
"""Where each part is found, and what it is counted as."""
# The next number of each is how often it was used: counting on is one step of the interpreter, in any thread.
_counters: dict[str, itertools.count[int]] = {}


def _counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that does the same and is counted; a handler of requests stays one."""
    counter = _counters.setdefault(name, itertools.count())
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def handle(*args: Any, **kwargs: Any) -> Any:
            next(counter)
            return await function(*args, **kwargs)

        return handle

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        next(counter)
        return function(*args, **kwargs)

    return call


def _count_parts() -> None:
    for request in REQUESTS:
        setattr(VfsOperations, request, _counted(request, getattr(VfsOperations, request)))
    for owner, attribute, name in PARTS:
        setattr(owner, attribute, _counted(name, getattr(owner, attribute)))
    decompress = Compression.decompress
    unpack = _counted("decompression", decompress)

    def choose(self: Compression, codec: int, *args: Any) -> Any:
        return (decompress if codec == Codec.RAW else unpack)(self, codec, *args)

    setattr(Compression, "decompress", choose)  # noqa: B010 - a method is replaced on purpose


def main() -> None:
    """Mounts for reading and serves until the mount ends."""
    repository, mountpoint, out = map(Path, sys.argv[1:])
    _count_parts()
    run_mount(repository, mountpoint, MountOptions(read_only=True), lambda _: print("ready", flush=True))
    out.write_text(json.dumps({name: next(counter) for name, counter in _counters.items()}), encoding="ascii")


if __name__ == "__main__":
    main()
