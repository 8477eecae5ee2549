"""Processes that a test has not started itself, and whether they have ended."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

_TIMEOUT_S = 300


@contextmanager
def watched(processes: Sequence[int]) -> Iterator[list[int]]:
    """Gives a descriptor for each process, which stands for it whatever becomes of its number."""
    with ExitStack() as stack:
        descriptors = [os.pidfd_open(pid) for pid in processes]
        for descriptor in descriptors:
            stack.callback(os.close, descriptor)
        yield descriptors


def have_ended(descriptors: Sequence[int]) -> bool:
    """Waits for all to end; returns True if they have."""
    # Readable is what the descriptor of a process becomes when it has ended.
    return all(becomes_readable(descriptor, _TIMEOUT_S) for descriptor in descriptors)


def becomes_readable(descriptor: int, timeout_s: float) -> bool:
    """Returns True once a descriptor of any number is readable, False at the end of the time."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
