"""The backends that the conformance suite runs over, and writers that race in processes of their own."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path

from support.object_server import object_server
from vfs.backend.local import LocalBackend
from vfs.backend.locations import open_location, parse_location
from vfs.backend.memory import MemoryBackend
from vfs.backend.protocol import KeyExists, ObjectBackend, TokenMismatch
from vfs.backend.wrappers import (
    CONDITIONAL,
    CountingBackend,
    Fault,
    FaultBackend,
    LatencyBackend,
    Request,
    RetryBackend,
)


class Flaky:
    """Fails every request that may be repeated twice before it succeeds: once before it is done, once after.

    Not deletes: after a repeated one no caller can tell whether there was an object (tests/backend/test_wrappers.py).
    """

    def __init__(self) -> None:
        self._failures: Counter[tuple[int, Request, str]] = Counter()

    def __call__(self, name: Request, key: str) -> Fault | None:
        if name in CONDITIONAL or name == "delete":
            return None
        # By thread: one that passes must not use up another one's failures.
        at = (threading.get_ident(), name, key)
        self._failures[at] += 1
        turn = self._failures[at] % 3
        return None if turn == 0 else Fault(ConnectionResetError(f"{name} {key}"), is_done=turn == 2)


def _no_sleep(_seconds: float) -> None:
    return


BACKENDS: dict[str, Callable[[Path], ObjectBackend]] = {
    "local": LocalBackend,
    "memory": lambda _root: MemoryBackend(),
    "counting": lambda _root: CountingBackend(MemoryBackend()),
    "latency": lambda _root: LatencyBackend(MemoryBackend(), 0.05, sleep=_no_sleep),
    "faults": lambda _root: FaultBackend(MemoryBackend(), lambda _name, _key: None),
    "retry": lambda _root: RetryBackend(FaultBackend(MemoryBackend(), Flaky()), sleep=_no_sleep),
    "object storage": lambda _root: object_server().backend(),
    "object storage, retry": lambda _root: RetryBackend(object_server().backend()),
    "directory by its address": lambda root: open_location(parse_location(str(root))),
    "all over local": lambda root: CountingBackend(
        RetryBackend(FaultBackend(LatencyBackend(LocalBackend(root), 0.05, sleep=_no_sleep), Flaky()), sleep=_no_sleep)
    ),
}
"""By name: what makes the backend, given an empty directory."""


@contextmanager
def opened(name: str, root: Path) -> Iterator[ObjectBackend]:
    """Opens one of BACKENDS and closes it."""
    backend = BACKENDS[name](root)
    try:
        yield backend
    finally:
        backend.close()


def state_of(count: int) -> bytes:
    """Returns a state of a counter that no other writer can have written."""
    return json.dumps({"count": count, "nonce": os.urandom(8).hex()}).encode()


def count_in(state: bytes) -> int:
    """Returns the counter of a state."""
    found = json.loads(state)["count"]
    assert isinstance(found, int)
    return found


def add_one(backend: ObjectBackend, key: str) -> None:
    """Adds one to a counter by compare-and-swap, as often tried as it takes."""
    while True:
        before = backend.read_versioned(key)
        try:
            backend.compare_and_swap(key, state_of(count_in(before.data) + 1), before.token)
        except TokenMismatch:
            continue
        return


def create_all(root: Path, writer: int, keys: int, together: Barrier) -> None:
    """A process: races for each key in turn, and reports below `root` those that it has won."""
    backend = LocalBackend(root / "objects")
    for number in range(keys):
        together.wait()
        try:
            backend.put_if_absent(f"race/{number}", str(writer).encode())
        except KeyExists:
            continue
        (root / f"won-{number}-{writer}").touch()


def count_up(root: Path, _writer: int, times: int, together: Barrier) -> None:
    """A process: adds to the counter."""
    backend = LocalBackend(root / "objects")
    together.wait()
    for _ in range(times):
        add_one(backend, "counter")


def race_in_processes(work: Callable[[Path, int, int, Barrier], None], root: Path, writers: int, times: int) -> None:
    """Runs `work(root, writer, times, barrier)` in processes at once; fails where one of them fails."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(writers, timeout=300)
    processes = [context.Process(target=work, args=(root, writer, times, together)) for writer in range(writers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * writers
