"""Syncing files of a mount from within its daemon: by another process, so that the daemon can always be killed.

A thread that waits for its own process's answer cannot be killed, and would keep the kernel's connection open after the
rest of the process is gone: whoever uses the mount would hang for ever instead of being told that it has ended.
"""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Sequence

# A file that is gone, or that its owner may not open, has nothing that a version could hold by name. Opening does not
# block, as the name may be a pipe's by now.
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
    """Makes the kernel write what it has of files, as far as they can be opened. Raises OSError if nobody can do it."""
    if not paths:
        return
    # In a session of its own: a Ctrl-C is for the daemon, which finishes what it does.
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
