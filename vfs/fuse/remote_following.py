"""Mounts of a remote follow its new versions: once in each interval, one process polls for all mounts of the machine.

The fetch runs in a process of its own, which ends with the mount: a remote that does not respond delays neither the end
of a mount nor a request.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import trio

log = logging.getLogger(__name__)

_FETCH_S = 600.0
_FOLLOW = "import sys, pathlib; from vfs.repo.transfer.mirror import follow; follow(pathlib.Path(sys.argv[1]))"


async def follow_remote(mirror: Path, interval_s: float) -> None:
    """Updates a mirror from its remote, each interval, until it is cancelled; logs failures."""
    command = [sys.executable, "-P", "-c", _FOLLOW, str(mirror)]
    is_away = False
    while True:
        await trio.sleep(interval_s)
        # Not before: a mount would wait for it.
        from vfs.repo.transfer.mirror import is_due

        if not is_due(mirror, interval_s):
            continue
        with trio.move_on_after(_FETCH_S):
            done = await trio.run_process(command, check=False, capture_stderr=True, stdout=subprocess.DEVNULL)
            last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            if done.returncode and not is_away:
                log.warning("the remote was not asked for new versions: %s", last)
            elif is_away and not done.returncode:
                log.info("the remote answers again")
            is_away = bool(done.returncode)
