"""A backend that is not local: its reads wait at a gate, fail when told to, and are never the event loop's."""

from __future__ import annotations

import threading
from collections.abc import Callable

from vfs.backend.protocol import ObjectBackend
from vfs.backend.wrappers import Wrapper
from vfs.repo.repository import Repository
from vfs.store.object_store import ObjectStore
from vfs.store.remote_blocks import RemoteBlocks

TIMEOUT_S = 60.0

Failure = Callable[[str, int], BaseException | None]
"""(key, offset) to what a read of it raises, None for nothing."""


class RemoteBackend(Wrapper):
    """Another backend behind a gate, which is open at first. `arrived` counts the reads that came to it."""

    def __init__(self, inner: ObjectBackend) -> None:
        super().__init__(inner)
        self.reads: list[tuple[str, int, int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Semaphore(0)
        self.failure: Failure = lambda _key, _offset: None
        self.event_loop: int | None = None

    @property
    def is_local(self) -> bool:
        """False, whatever the other one says."""
        return False

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """Returns part of an object when the gate is open. Asserts that the event loop does not wait for it."""
        assert threading.get_ident() != self.event_loop
        self.reads.append((key, offset, size))
        self.arrived.release()
        assert self.gate.wait(TIMEOUT_S)
        error = self.failure(key, offset)
        if error is not None:
            raise error
        return super().read_range(key, offset, size)

    def wait_for_reads(self, count: int) -> None:
        """Returns when so many more reads have come to the gate."""
        for _ in range(count):
            assert self.arrived.acquire(timeout=TIMEOUT_S)


def make_remote(repo: Repository, *, cache_bytes_max: int = 1 << 24) -> tuple[RemoteBackend, RemoteBlocks]:
    """Makes an open repository's packs remote, for handlers that run in the calling thread; the caches are empty."""
    backend = RemoteBackend(repo.backend)
    repo.store = ObjectStore(backend, repo.index, cache_bytes_max=cache_bytes_max)
    remote = repo.store.remote
    assert remote is not None
    backend.event_loop = threading.get_ident()
    remote.serve_from(backend.event_loop)
    return backend, remote
