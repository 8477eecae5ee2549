"""The handlers of a mount over a repository whose packs are remote."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from support.kernel import Kernel, take
from support.remote import RemoteBackend, make_remote
from vfs.fuse.mount import build_operations
from vfs.fuse.request_handlers import VfsOperations
from vfs.fuse.session.mount_options import MountOptions
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.repo.tags import create_tag
from vfs.store.remote_blocks import RemoteBlocks

READERS = 8
LIMIT_S = 300.0


def content(number: int, size: int = 200_000) -> bytes:
    return random.Random(number).randbytes(size)


def fill(repo: Repository, overlay: Overlay) -> None:
    """Two versions with large and small files, hard links, symbolic links, attributes, and a directory of many."""
    directory = overlay.mkdir(1, b"d", 0o755, 0, 0).ino
    many = overlay.mkdir(directory, b"many", 0o755, 0, 0).ino
    overlay.mkdir(directory, b"empty", 0o755, 0, 0)
    for number in range(READERS):
        put(overlay, directory, b"f%d" % number, content(number))
    for number in range(600):
        put(overlay, many, b"a rather long name that fills nodes %04d" % number, b"%d" % number * 20)
    first = put(overlay, 1, b"first", b"tiny")
    overlay.link(first, directory, b"second")
    overlay.symlink(1, b"link", b"d/f0", 0, 0)
    overlay.setxattr(first, b"user.a", b"1")
    commit(repo, overlay, "one", "tester")
    overlay.write(overlay.lookup(directory, b"f0").ino, 5, b"changed")
    put(overlay, directory, b"g", content(99))
    commit(repo, overlay, "two", "tester")
    create_tag(repo, "tag", repo.resolve("v1"), author="tester")


def put(overlay: Overlay, parent: int, name: bytes, data: bytes) -> int:
    ino = overlay.mknod(parent, name, 0o644, 0, 0, 0).ino
    overlay.write(ino, 0, data)
    return ino


@dataclass
class Served:
    """The handlers of a mount, and the backend that they read from."""

    repo: Repository
    overlay: Overlay | None
    kernel: Kernel
    backend: RemoteBackend
    remote: RemoteBlocks

    @property
    def operations(self) -> VfsOperations:
        return self.kernel.operations


@contextmanager
def serve(repo: Repository, *, read_only: bool = False, cache_bytes_max: int = 1 << 24) -> Iterator[Served]:
    backend, remote = make_remote(repo, cache_bytes_max=cache_bytes_max)
    remote.serve_from(None)
    backend.event_loop, event_loop = None, backend.event_loop
    overlay = None if read_only else repo.open_overlay()
    backend.event_loop = event_loop
    remote.serve_from(event_loop)
    options = MountOptions(read_only=read_only)
    operations, layers = build_operations(repo, overlay, "main", options, reply=take)
    try:
        yield Served(repo, overlay, Kernel(operations), backend, remote)
    finally:
        backend.gate.set()
        remote.serve_from(None)
        backend.event_loop = None
        if layers is not None:
            layers.close()
        remote.wait_idle()


@contextmanager
def serve_locally(repo: Repository, *, read_only: bool) -> Iterator[Served]:
    overlay = None if read_only else repo.open_overlay()
    operations, layers = build_operations(repo, overlay, "main", MountOptions(read_only=read_only), reply=take)
    backend = RemoteBackend(repo.backend)
    try:
        yield Served(repo, overlay, Kernel(operations), backend, RemoteBlocks(backend))
    finally:
        if layers is not None:
            layers.close()
