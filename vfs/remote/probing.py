"""Whether a place honours conditional writes: without them one of two simultaneous pushes would be lost silently.

Services take the conditions and ignore them, or honour them only while nothing races; so it is tried with a race.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from vfs.backend.protocol import TRANSIENT, KeyExists, MissingKey, ObjectBackend, TokenMismatch

WRITERS = 16
_ROUNDS = 3
_GONE_OR_UNREACHABLE: tuple[type[Exception], ...] = (MissingKey, *TRANSIENT)


class Probe(NamedTuple):
    """What was found. `fault`: why the place is not safe for several machines; empty where it is."""

    fault: str
    writers: int = WRITERS


def probe(backend: ObjectBackend) -> Probe:
    """Tries conditional writes under keys of its own, which it removes. Raises what the backend does."""
    prefix = f"probe/{os.urandom(8).hex()}"
    keys = [f"{prefix}-{number}" for number in range(_ROUNDS + 2)]
    try:
        return Probe(_alone(backend, keys[0]) or _racing(backend, keys[1:-1]) or _swapping(backend, keys[-1]))
    finally:
        for key in keys:
            try:
                backend.delete(key)
            except _GONE_OR_UNREACHABLE:
                continue


def _alone(backend: ObjectBackend, key: str) -> str:
    first = backend.put_if_absent(key, os.urandom(16))
    try:
        # Not put_if_absent, which asks first; what is tested is the condition itself.
        second = backend.compare_and_swap(key, os.urandom(16), first)
    except TokenMismatch:
        return "a write with the newest ETag was refused"
    try:
        backend.compare_and_swap(key, os.urandom(16), first)
    except TokenMismatch:
        pass
    else:
        return "a write with an old ETag was taken"
    backend.compare_and_swap(key, os.urandom(16), second)
    return ""


def _racing(backend: ObjectBackend, keys: list[str]) -> str:
    for key in keys:
        start = threading.Barrier(WRITERS)

        def create(number: int, key: str = key, start: threading.Barrier = start) -> bool:
            start.wait(60)
            try:
                backend.put_if_absent(key, number.to_bytes(8, "little") + os.urandom(8))
            except KeyExists:
                return False
            return True

        with ThreadPoolExecutor(WRITERS) as writers:
            won = sum(writers.map(create, range(WRITERS)))
        if won != 1:
            return f"of {WRITERS} writers that created one object at the same time {won} were told that they had"
    return ""


def _swapping(backend: ObjectBackend, key: str) -> str:
    token = backend.put_if_absent(key, os.urandom(16))
    start = threading.Barrier(WRITERS)

    def swap(number: int) -> bool:
        start.wait(60)
        try:
            backend.compare_and_swap(key, number.to_bytes(8, "little") + os.urandom(8), token)
        except TokenMismatch:
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as writers:
        won = sum(writers.map(swap, range(WRITERS)))
    if won != 1:
        return f"of {WRITERS} writers that replaced one object at the same time {won} were told that they had"
    return ""
