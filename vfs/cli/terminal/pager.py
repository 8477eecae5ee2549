"""A pager for long output, where standard output is a terminal: VFS_PAGER, else PAGER, else `less`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from vfs.cli.terminal.output import in_pager, warn

if TYPE_CHECKING:
    import subprocess

_OPTIONS = {"LESS": "FRX", "LV": "-c"}
"""Defaults of pagers' own variables: to end where everything fits on one screen, and to show colour."""


@contextmanager
def paged() -> Iterator[None]:
    """Sends standard output through a pager; unchanged where there is none, or no terminal.

    Ends when the pager does. A pager that ends before it has read everything is no error.
    """
    pager = _start()
    if pager is None:
        yield
        return
    assert pager.stdin is not None
    sys.stdout.flush()
    terminal = os.dup(1)
    os.dup2(pager.stdin.fileno(), 1)
    pager.stdin.close()
    try:
        with in_pager(), suppress(BrokenPipeError):
            yield
            sys.stdout.flush()
    finally:
        _finish(pager, terminal)


def _start() -> subprocess.Popen[bytes] | None:
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return None
    named = os.environ.get("VFS_PAGER", os.environ.get("PAGER", "less"))
    import shlex
    import subprocess

    try:
        words = shlex.split(named)
        if not words or words == ["cat"]:
            return None
        return subprocess.Popen(words, stdin=subprocess.PIPE, env={**_OPTIONS, **os.environ})
    except (OSError, ValueError) as error:
        if "VFS_PAGER" in os.environ or "PAGER" in os.environ:
            warn(f"the pager {named!r} does not run: {error}")
        return None


def _finish(pager: subprocess.Popen[bytes], terminal: int) -> None:
    """Waits for the pager, which alone handles Ctrl-C meanwhile. Output that it does not read is dropped."""
    import signal

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            # What the stream holds would be tried again, and be written to the terminal.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.close(nowhere)
            sys.stdout.flush()
        os.dup2(terminal, 1)
        os.close(terminal)
        pager.wait()
    finally:
        signal.signal(signal.SIGINT, before)
