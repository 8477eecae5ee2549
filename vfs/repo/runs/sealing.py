"""Sealing: the record of a run gets all that was observed, and never changes again.

The supervisor seals when the program has ended; the daemon where that was killed; any later command where the daemon
was killed too. All read the same recording, and the first one counts.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

import msgspec

from vfs.backend.rooted_path import RootedPath
from vfs.errors import Busy, Corrupt, VfsError
from vfs.model.ids import CommitId
from vfs.model.objects import Commit
from vfs.model.run_record import Metric, Output, RunRecord, Status, cut_text
from vfs.repo.repository import Repository
from vfs.repo.runs.observed import changed_by_others, manifest_of, observed, outputs_of, read_places, sources_of
from vfs.repo.runs.records import (
    LOCK_TIMEOUT_S,
    METRICS,
    PACKAGES,
    PATCH,
    STDOUT,
    RunRef,
    find_version,
    list_runs,
    load_record,
    replace_record,
    run_file,
)
from vfs.repo.runs.run_event_file import is_recorded, read_events, recording_path
from vfs.repo.runs.run_tables import RunTables
from vfs.repo.runs.snapshots import is_snapshot

DAEMON_DIED = "the mount's daemon was killed while the run went on: what it recorded up to then is here"
COMMAND_DIED = "the command that ran the program was killed: the exit status and the output are not known"
_QUIET_S = 2.0


class Ending(msgspec.Struct):
    """What the supervisor knows when a program has ended; `files` are those of the record beside what it had."""

    exit_status: int | None = None
    end_ns: int = 0
    files: dict[bytes, bytes] = {}
    params: dict[str, str] = {}
    metrics: dict[str, Metric] = {}
    outputs: list[Output] = []
    output_bytes: int = 0
    notes: list[str] = []


def seal(
    repo: Repository,
    run: RunRef,
    ending: Ending,
    author: str,
    *,
    timeout_s: float = LOCK_TIMEOUT_S,
    waiting: Callable[[str], None] | None = None,
) -> RunRecord:
    """Seals the record of a run and returns it; one that is sealed already stays as it is. Raises Busy, OSError."""
    record = load_record(repo, run)
    path = recording_path(repo.path, run.id)
    if record.status == "running":
        before = _before(repo, run, record)
        found = observed(read_events(path))
        read_places(repo, found)
        notes = [*record.notes, *found.notes, *ending.notes]
        made = None
        # Objects of the layer's snapshot must not go before the record names them.
        with repo.write_lock(timeout_s=timeout_s, waiting=waiting):
            current = next((other for other in list_runs(repo) if other.id == run.id), run)
            sealed = load_record(repo, current)
            if sealed.status == "running":
                if record.is_observed and not found.is_ended:
                    notes.append(DAEMON_DIED)
                sources = sources_of(repo, record, before if _has_snapshot(record) else None, found)
                outputs, placed = outputs_of(repo, found, before, notes)
                sealed = msgspec.structs.replace(
                    record,
                    status=_status(ending.exit_status),
                    exit_status=ending.exit_status,
                    end_ns=ending.end_ns or time.time_ns(),
                    sources=tuple(source for source, _ in sources),
                    outputs=(*outputs, *ending.outputs),
                    others_changed=changed_by_others(repo, before, found),
                    base=_base(repo, record),
                    steps=tuple(found.steps),
                    params={**record.params, **ending.params},
                    metrics=ending.metrics,
                    output_bytes=ending.output_bytes,
                    notes=tuple(dict.fromkeys(map(cut_text, notes))),
                )
                kept = {name: run_file(repo, current, name) for name in (PATCH, PACKAGES, STDOUT, METRICS)}
                files = {name: data for name, data in kept.items() if data is not None} | ending.files
                parents = [CommitId(parent) for parent in repo.store.get_commit(current.commit_id).parents]
                if found.after is not None and placed and found.after not in parents:
                    parents += [found.after] if is_snapshot(repo.store.get_commit(found.after)) else []
                made = replace_record(repo, current, sealed, files, manifest_of(sources), placed, parents, author)
        if made is not None:
            RunTables.add_sealed(repo, made)
        record = sealed
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        supervised = supervised_path(repo, run.id)
        if not is_recorded(supervised):
            # Its command was killed; one that lives removes it itself.
            supervised.unlink(missing_ok=True)
    return record


def seal_abandoned(repo: Repository, author: str, *, timeout_s: float = _QUIET_S) -> list[RunRecord]:
    """Seals the records of runs whose daemon and command were killed; returns them. Does nothing where it cannot."""
    sealed = []
    for run in _unsealed(repo):
        try:
            record = load_record(repo, run)
            if record.status != "running" or is_alive(repo, record):
                continue
            ending = Ending(notes=[COMMAND_DIED])
            sealed.append(seal(repo, run, ending, author, timeout_s=timeout_s))
        except (Busy, Corrupt, OSError, VfsError):
            # A later command tries again; what is damaged `fsck` names.
            continue
    return sealed


def _unsealed(repo: Repository) -> Sequence[RunRef]:
    """Returns the runs that are not known to be sealed."""
    try:
        with RunTables.open(repo, in_memory=False) as tables:
            return tables.unsealed
    except (OSError, VfsError):
        return list_runs(repo)


def is_alive(repo: Repository, record: RunRecord) -> bool:
    """Returns True while a daemon records a run, or the supervisor waits for its program."""
    return is_recorded(recording_path(repo.path, record.id)) or is_recorded(supervised_path(repo, record.id))


def supervised_path(repo: Repository, run_id: str) -> RootedPath:
    """Returns the file that the supervisor keeps locked while its program goes on."""
    path = recording_path(repo.path, run_id)
    return path.with_name(f"{run_id}.command")


def _status(exit_status: int | None) -> Status:
    return "interrupted" if exit_status is None else "ok" if exit_status == 0 else "failed"


def _has_snapshot(record: RunRecord) -> bool:
    return any(source.known == "snapshot" for source in record.sources)


def _before(repo: Repository, run: RunRef, record: RunRecord) -> Commit | None:
    """Returns what the working layer showed when a run began."""
    parents = repo.store.get_commit(run.commit_id).parents
    if _has_snapshot(record):
        return repo.store.get_commit(CommitId(parents[0])) if parents else None
    for source in record.sources:
        if source.known == "working":
            version = find_version(repo, source.commit, source.branch, source.number)
            return version.commit if version is not None else None
    return None


def _base(repo: Repository, record: RunRecord) -> str:
    head = repo.refs.get("branches/" + record.branch) if record.branch else None
    return head.hex() if head is not None else ""
