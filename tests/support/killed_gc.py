"""A gc that kills itself, as kill -9 would, before its n-th durable step; it comes to its end where there are fewer."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from vfs.repo.repository import Repository
from vfs.repo.retention.gc import gc
from vfs.repo.retention.policy import Rules


def main() -> None:
    """Collects in the repository of the command line; the number of steps follows it."""
    left = int(sys.argv[2])

    def step(_name: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with Repository.open(Path(sys.argv[1]), on_step=step) as repo:
        gc(repo, Rules(last=3), grace_s=0, undo_s=0, thorough=True)
