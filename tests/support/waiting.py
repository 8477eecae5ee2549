"""Waiting for what sends no notice: file times that grow old, and states of other processes and of the kernel."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from vfs.fuse.attributes import HEAD_S
from vfs.repo.ingest.stat_cache import is_settled, settled_from_ns

_POLL_S = 0.005
_KERNEL_TICK_S = 0.01


def let_settle(statuses: Iterable[os.stat_result]) -> None:
    """Returns when the times of files are so old that a later change would show in them.

    The clock of their filesystem must move on for that, so there is no substitute for waiting until it has.
    """
    for status in statuses:
        while not is_settled(status, now_ns := time.time_ns()):
            time.sleep((settled_from_ns(status) - now_ns + 1) / 1e9)


def let_names_expire() -> None:
    """Returns when the kernel must look up again each name that it may keep for a limited time."""
    time.sleep(HEAD_S + _KERNEL_TICK_S)


def wait_until(holds: Callable[[], object]) -> None:
    """Returns when a state of another process or of the kernel holds; never, if it does not come about."""
    while not holds():
        time.sleep(_POLL_S)
