"""The run whose program asks for what is being done: versions that are made name it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

RUN_VARIABLE = "VFS_RUN"
"""The environment variable that names the run to which a process belongs."""

_ACTING: ContextVar[Callable[[], str] | None] = ContextVar("acting", default=None)


@contextmanager
def acting_for(find: Callable[[], str]) -> Iterator[None]:
    """What is done in the block is done for another process; `find` returns its run's id, empty for none."""
    token = _ACTING.set(find)
    try:
        yield
    finally:
        _ACTING.reset(token)


def acting_run() -> str:
    """Returns the id of the run whose program asks, empty for none: of this process where it acts for itself."""
    find = _ACTING.get()
    return find() if find is not None else os.environ.get(RUN_VARIABLE, "")
