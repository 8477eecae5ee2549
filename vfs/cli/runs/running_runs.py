"""The runs that go on in a mount, for commands that would wait for them or end their data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vfs.errors import VfsError
from vfs.repo.paths import control_socket
from vfs.repo.repository import Repository

if TYPE_CHECKING:
    from vfs.control.run_recorder import RunningRun


def running_texts(repository: Repository, branch: str) -> list[str]:
    """Returns `r17 is running: python train.py (process 4711)` for each run in the mount of a branch.

    Returns nothing where no daemon answers.
    """
    if not control_socket(repository.path, branch).exists():
        return []
    from vfs.control.access import LayerAccess
    from vfs.control.messages import Empty
    from vfs.control.services import RUN_LIST

    try:
        running = LayerAccess(repository).perform(branch, RUN_LIST, Empty())
    except (VfsError, OSError):
        return []
    return [_text(repository, run) for run in running]


def _text(repository: Repository, running: RunningRun) -> str:
    from vfs.cli.display.run_output import command_text
    from vfs.repo.runs.records import find_run, load_record

    try:
        record = load_record(repository, find_run(repository, running.id))
    except VfsError:
        return f"a run is running (process {running.pid})"
    return f"{record.name} is running: {command_text(record)} (process {running.pid})"


def running_in(repository: Path, branch: str | None) -> Sequence[str]:
    """Returns the same for a repository that is not open; nothing where it cannot be opened."""
    if branch is None:
        return []
    try:
        with Repository.open(repository) as opened:
            return running_texts(opened, branch)
    except (VfsError, OSError):
        return []
