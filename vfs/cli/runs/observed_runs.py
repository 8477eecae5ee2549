"""What a program reads of a version while it runs in a mount, as the mount's daemon records it; no record is kept.

The daemon sees the processes below this one (vfs/fuse/recorder.py); this process adopts what a program leaves behind,
so that its children count too. Where the daemon cannot tell (there is no writable mount, it is in another process-id
namespace, the program read the working layer as well), nothing is known, and that is what is returned.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from vfs.cli.arguments.author import author
from vfs.cli.opening.open_repository import OpenRepository
from vfs.cli.opening.working_layer import perform
from vfs.control.messages import RunArgs, RunStartArgs
from vfs.control.mount_description import process_namespace
from vfs.control.services import RUN_FINISH, RUN_START
from vfs.errors import VfsError
from vfs.history.read_set import ReadSet
from vfs.repo.runs.run_event_file import Event, read_events, recording_path

_SUBREAPER = 36
_KNOWN = frozenset({"version-read", "version-list", "named", "step", "end"})

Taken = Callable[[], ReadSet | None]
"""Returns what was read, once the program has ended."""


@contextmanager
def observing(opened: OpenRepository, branch: str | None) -> Iterator[Taken]:
    """Observes what the processes below this one read until the end; `branch`: whose daemon does so, None: none does.

    Yields what returns the result, None where it is not known; to be called after the program, within the block.
    """
    if branch is None:
        yield lambda: None
        return
    run_id = os.urandom(8).hex()
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    try:
        args = RunStartArgs(run_id, os.getpid(), process_namespace(), author(), keeps_layer=False)
        perform(opened, RUN_START, args, branch=branch)
    except (VfsError, OSError):
        yield lambda: None
        return
    path = recording_path(opened.repository.path, run_id)
    is_finished = False

    def take() -> ReadSet | None:
        nonlocal is_finished
        is_finished = True
        with suppress(VfsError, OSError):
            perform(opened, RUN_FINISH, RunArgs(run_id, author(), keeps_layer=False), branch=branch)
            return read_set(read_events(path))
        return None

    try:
        yield take
    finally:
        if not is_finished:
            take()
        with suppress(OSError, VfsError):
            path.unlink(missing_ok=True)
        with suppress(ChildProcessError):
            # What the program left behind, and this process has adopted.
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def read_set(events: Iterator[Event]) -> ReadSet | None:
    """Returns what events of a recording say was read; None where it is not complete or not of versions alone."""
    opened: set[bytes] = set()
    listed: set[bytes] = set()
    is_ended = False
    for event in events:
        if event.kind not in _KNOWN:
            return None
        if event.kind == "version-read":
            opened.add(event.path)
        elif event.kind == "version-list":
            listed.add(event.path)
        is_ended = is_ended or event.kind == "end"
    return ReadSet(frozenset(opened), frozenset(listed)) if is_ended else None
