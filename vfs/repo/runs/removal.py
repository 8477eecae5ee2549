"""Removing records of runs: undo restores them, as long as gc keeps what operations need."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from vfs.errors import Busy
from vfs.repo.repository import Repository
from vfs.repo.runs.records import LOCK_TIMEOUT_S, RunRef, last_removed, load_record
from vfs.repo.runs.sealing import is_alive
from vfs.store.refs.operation import LAST_RUN, RUNS, Operation, RefChange, SettingChange

REMOVE_RUN = "remove-run"


def remove_runs(
    repo: Repository, runs: Sequence[RunRef], author: str, *, waiting: Callable[[str], None] | None = None
) -> None:
    """Removes records, in one operation that can be undone; their numbers are not given again.

    Snapshots, outputs and what they wrote to a terminal go with them, at the next gc that drops the operation. Raises
    Busy for a run in progress, OSError.
    """
    with repo.write_lock(timeout_s=LOCK_TIMEOUT_S, waiting=waiting):
        changes = []
        for run in runs:
            current = repo.refs.get(RUNS + run.ref)
            if current is None:
                continue
            record = load_record(repo, run._replace(commit_id=current))
            if record.status == "running" and is_alive(repo, record):
                raise Busy(f"{run.name} goes on", hint="End its program first.")
            changes.append(RefChange(RUNS + run.ref, current.hex(), ""))
        if not changes:
            return
        old = repo.refs.setting(LAST_RUN)
        last = max(last_removed(repo), *(run.number for run in runs))
        settings = (SettingChange(LAST_RUN, old, str(last)),) if str(last) != old else ()
        repo.refs.move(
            Operation(time_ns=time.time_ns(), kind=REMOVE_RUN, author=author, refs=tuple(changes), settings=settings)
        )
