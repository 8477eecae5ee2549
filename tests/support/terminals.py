"""The program on a terminal of its own: what a person would see there."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def on_terminal(
    words: Sequence[str], directory: Path, *, width: int = 80, environment: Mapping[str, str] | None = None
) -> tuple[str, int]:
    """Runs `vfs WORDS` with all standard streams a terminal; returns what it shows, with `\\n` for line ends, and the
    exit status."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "vfs", *words],
        cwd=directory,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "VFS_AUTHOR": "ann@lab",
            "HOME": str(directory),
            "TERM": "xterm",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        | dict(environment or {}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        # What Linux says when the last process has closed the other end.
        pass
    finally:
        os.close(ours)
    lines = shown.decode().replace("\r\n", "\n").split("\n")
    # What a line of progress was overwritten with.
    return "\n".join(line.rpartition("\r")[2] for line in lines), process.wait()
