"""A backend that is not local: its reads wait at a gate, fail when told to, and are never the event loop's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vfs.backend.protocol import ObjectBackend
from vfs.backend.wrappers import LatencyBackend, Wrapper
from vfs.repo import repository
from vfs.repo.repository import Repository
from vfs.store.object_store import ObjectStore
from vfs.store.remote_blocks import RemoteBlocks

TIMEOUT_S = 300.0

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


ROUND_TRIP_S = 0.05


class Gate:
    """Keeps reads of another process waiting: two FIFOs, of which one counts reads and the other lets them go on."""

    def __init__(self, path: Path) -> None:
        self._gate = path
        self._arrived = path.with_name(path.name + ".arrived")

    @contextmanager
    def closed(self) -> Iterator[Callable[[int], None]]:
        """Closes the gate; it is open again at the end. Yields what waits until so many reads have arrived."""
        os.mkfifo(self._arrived)
        arrived = os.open(self._arrived, os.O_RDWR)
        os.mkfifo(self._gate)

        def wait_for(count: int) -> None:
            for _ in range(count):
                os.read(arrived, 1)

        try:
            yield wait_for
        finally:
            # Those that wait come through as long as this end is open.
            opened = os.open(self._gate, os.O_RDWR)
            self._gate.unlink()
            os.write(opened, bytes(1000))
            os.close(arrived)
            self._arrived.unlink()

    def wait(self) -> None:
        """Waits where the gate is closed."""
        try:
            arrived = os.open(self._arrived, os.O_WRONLY)
        except FileNotFoundError:
            return
        os.write(arrived, b"1")
        os.close(arrived)
        try:
            os.close(os.open(self._gate, os.O_RDONLY))
        except FileNotFoundError:
            return


class _GatedBackend(Wrapper):
    """Another backend of which a gate can keep the contents of files waiting."""

    def __init__(self, inner: ObjectBackend, gate: Gate) -> None:
        super().__init__(inner)
        self._gate = gate

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        if key.startswith("packs/data/"):
            self._gate.wait()
        return super().read_range(key, offset, size)


def serve_from_network(gate: Path) -> None:
    """Puts the packs of the repositories that this process opens 50 ms away, and behind a gate."""

    def make_store(backend: ObjectBackend, *args: Any, **named: Any) -> ObjectStore:
        return ObjectStore(_GatedBackend(LatencyBackend(backend, ROUND_TRIP_S), Gate(gate)), *args, **named)

    setattr(repository, "ObjectStore", make_store)  # noqa: B010 - another type than what is annotated
