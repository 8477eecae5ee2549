"""Processes that a test has not started itself, and whether they have ended."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

_TIMEOUT_S = 60


@contextmanager
def watched(processes: Sequence[int]) -> Iterator[list[int]]:
    """Gives a descriptor for each process, which stands for it whatever becomes of its number."""
    with ExitStack() as stack:
        descriptors = [os.pidfd_open(pid) for pid in processes]
        for descriptor in descriptors:
            stack.callback(os.close, descriptor)
        yield descriptors


def have_ended(descriptors: Sequence[int]) -> bool:
    """Says whether all have ended, and waits for that."""
    # Readable is what the descriptor of a process becomes when it has ended.
    return all(select.select([descriptor], [], [], _TIMEOUT_S)[0] for descriptor in descriptors)
