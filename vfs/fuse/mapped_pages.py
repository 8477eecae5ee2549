"""Sync files of a mount from within its daemon: in another process, so that the daemon can always be killed.

A thread that waits for a request to its own process cannot be killed, and would keep the connection open after the rest
of the process has ended: programs that use the mount would hang instead of getting an error.
"""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Sequence

# A file that was removed, or that its owner may not open, has no content that a commit could read by its name.
# O_NONBLOCK, as the name may be a pipe's by now.
_SYNC = """
import os, sys
for path in sys.stdin.buffer.read().split(b"\\0"):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        continue
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)
"""


def sync_files(paths: Sequence[bytes]) -> None:
    """Makes the kernel write back dirty pages of files that can be opened. Raises OSError if the process fails."""
    if not paths:
        return
    # In a session of its own: a Ctrl-C is meant for the daemon, which finishes the operation first.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _SYNC],
        input=b"\0".join(paths),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
        check=False,
    )
    if done.returncode:
        raise OSError(errno.EIO, "files that are open for writing could not be synced")
