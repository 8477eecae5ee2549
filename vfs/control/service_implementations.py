"""What performs each service of vfs/control/services.py, in the process that has the working layer open."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from vfs.control.messages import (
    AmendArgs,
    AmendResult,
    AuthorArgs,
    ChangedPath,
    CommitArgs,
    CommitResult,
    DiffArgs,
    Empty,
    MergeArgs,
    MergeResult,
    PingResult,
    ProgressUpdate,
    PublishArgs,
    PullArgs,
    PullResult,
    Report,
    ResolveArgs,
    RestoreArgs,
    RestoreResult,
    RunArgs,
    RunStartArgs,
    RunStartResult,
    SwitchArgs,
    SwitchResult,
    UndoArgs,
)
from vfs.control.run_recorder import RunningRun, RunRecorder
from vfs.control.services import Done, LayerHost
from vfs.errors import Conflict, NotFound

if TYPE_CHECKING:
    from vfs.repo.commit import Committed
    from vfs.repo.merge_state import MergeState

# Each function imports what it performs: `vfs status` would wait 30 ms for merges and undo.


def _ping(host: LayerHost, _args: Empty, _report: Report) -> Done[PingResult]:
    return Done(host.describe())


def _release(host: LayerHost, _args: Empty, _report: Report) -> Done[Empty]:
    host.release()
    return Done(Empty())


def _commit(host: LayerHost, args: CommitArgs, report: Report) -> Done[CommitResult]:
    from vfs.repo.commit import commit
    from vfs.repo.ignore_rules import rules_of
    from vfs.repo.partial_commit import Selection

    expected: list[int | None] = [None]

    def report_files(files: int, size: int, total: int | None) -> None:
        report(ProgressUpdate(files, size, total, total_bytes=expected[0]))

    def expect(size: int) -> None:
        expected[0] = size

    return _committed(
        commit(
            host.repository,
            host.overlay,
            args.message,
            args.author,
            meta=tuple(args.meta.items()),
            allow_empty=args.allow_empty,
            asked_ns=args.asked_ns or None,
            selection=Selection(rules_of(args.excluded), args.paths),
            progress=report_files,
            expecting=expect,
            waiting=lambda reason: report(ProgressUpdate(waiting=reason)),
        )
    )


def _publish(host: LayerHost, args: PublishArgs, _report: Report) -> Done[CommitResult]:
    from vfs.repo.commit import publish

    return _committed(publish(host.repository, host.overlay, args.commit_id, args.expected))


def _committed(done: Committed) -> Done[CommitResult]:
    version, stored = done.version, done.statistics
    result = CommitResult(version.commit.number, version.id, stored.bytes_put, stored.bytes_new, stored.bytes_stored)
    return Done(result, done.stale)


def _changes(host: LayerHost, _args: Empty, _report: Report) -> Done[list[ChangedPath]]:
    from vfs.repo.status import status_apart

    return Done([ChangedPath(*change, is_ignored) for change, is_ignored in status_apart(host.overlay)])


def _diff(host: LayerHost, args: DiffArgs, _report: Report) -> Done[list[ChangedPath]]:
    from vfs.repo.status import diff_working

    changes = diff_working(host.repository, host.overlay, host.version(args.commit_id))
    return Done([ChangedPath(*change) for change in changes])


def _restore(host: LayerHost, args: RestoreArgs, _report: Report) -> Done[RestoreResult]:
    from vfs.repo.restore import restore

    version = host.version(args.commit_id)
    done = restore(host.repository, host.overlay, version, args.paths, discard=args.discard, author=args.author)
    return Done(RestoreResult(done.restored, done.removed, done.counts), done.stale)


def _switch(host: LayerHost, args: SwitchArgs, _report: Report) -> Done[SwitchResult]:
    from vfs.repo.branches import set_current_branch
    from vfs.repo.undo import last_operation, undo

    host.repository.require_branch(args.branch)

    def change() -> bool:
        if args.undoes:
            # With the caller's number, undo refuses where another operation came after it, and names that.
            operation = msgspec.structs.replace(last_operation(host.repository), seq=args.undoes)
            undo(host.repository, None, operation, args.author)
            return True
        return set_current_branch(host.repository, args.branch, author=args.author)

    return Done(SwitchResult(host.switch_root(args.branch, change)))


def _merge(host: LayerHost, args: MergeArgs, report: Report) -> Done[MergeResult]:
    from vfs.repo.merge import Preference, merge

    done = merge(
        host.repository,
        host.overlay,
        args.name,
        host.version(args.commit_id),
        args.author,
        args.message,
        meta=tuple(args.meta.items()),
        preference=Preference(args.prefer, args.paths) if args.prefer is not None else None,
        keys=args.keys,
        progress=lambda names, size, total: report(ProgressUpdate(names, size, total)),
        waiting=lambda reason: report(ProgressUpdate(waiting=reason)),
    )
    result = _merge_result(host, done.state) if done.state is not None else MergeResult()
    if done.version is not None:
        result.id = done.version.id
    result.divergent_renames = list(done.divergent_renames)
    return Done(result, done.stale)


def _merge_resolve(host: LayerHost, args: ResolveArgs, _report: Report) -> Done[MergeResult]:
    from vfs.repo.merge_conflicts import resolve_conflicts

    state, stale = resolve_conflicts(host.repository, host.overlay, args.paths, args.resolution)
    return Done(_merge_result(host, state), stale)


def _merge_status(host: LayerHost, _args: Empty, _report: Report) -> Done[MergeResult]:
    from vfs.repo.merge_conflicts import require_merge

    return Done(_merge_result(host, require_merge(host.repository, host.branch)))


def _merge_abort(host: LayerHost, args: AuthorArgs, _report: Report) -> Done[Empty]:
    from vfs.repo.merge import abort_merge

    return Done(Empty(), abort_merge(host.repository, host.overlay, args.author))


def _merge_result(host: LayerHost, state: MergeState) -> MergeResult:
    from vfs.repo.merge_conflicts import unresolved

    return MergeResult(state=state, left=unresolved(host.overlay, state))


def _undo(host: LayerHost, args: UndoArgs, _report: Report) -> Done[Empty]:
    from vfs.repo.undo import last_operation, undo

    last = last_operation(host.repository)
    if last.seq != args.seq:
        raise Conflict(f"operation {last.seq} ({last.kind}) came meanwhile", hint="Try again.")
    return Done(Empty(), undo(host.repository, host.overlay, last, args.author).stale)


def _pull(host: LayerHost, args: PullArgs, _report: Report) -> Done[PullResult]:
    from vfs.repo.transfer.pull import advance

    theirs = host.version(args.commit_id)
    done = advance(host.repository, host.overlay, theirs, args.author, rebase=args.rebase)
    ids = [version.id if version is not None else None for version in (done.before, done.after, done.own)]
    return Done(PullResult(*ids), done.stale)


def _amend(host: LayerHost, args: AmendArgs, _report: Report) -> Done[AmendResult]:
    from vfs.repo.describe import amend

    done = amend(host.repository, host.overlay, args.author, args.message, args.meta)
    return Done(AmendResult(done.version.id), done.stale)


def _recorder(host: LayerHost) -> RunRecorder:
    if host.recorder is None:
        raise NotFound(f"no mount has the branch {host.branch!r} open")
    return host.recorder


def _run_start(host: LayerHost, args: RunStartArgs, _report: Report) -> Done[RunStartResult]:
    from vfs.repo.runs.snapshots import is_snapshot

    recorder = _recorder(host)
    shown = recorder.snapshots.take(host.repository, host.overlay, args.author) if args.keeps_layer else None
    before = shown.id if shown is not None and is_snapshot(shown.commit) else None
    base = host.overlay.base
    parent = recorder.begin(args.id, args.pid, args.namespace, args.parent, host.overlay, args.named)
    return Done(RunStartResult(base.id if base is not None else None, before, parent))


def _run_join(host: LayerHost, args: RunArgs, _report: Report) -> Done[Empty]:
    _recorder(host).join(args.id, args.pid, args.namespace)
    return Done(Empty())


def _run_finish(host: LayerHost, args: RunArgs, _report: Report) -> Done[Empty]:
    recorder = _recorder(host)
    overlay = recorder.overlay_of(args.id)
    if overlay is None:
        raise NotFound(f"the run {args.id} does not go on in this mount")
    shown = recorder.snapshots.take(host.repository, overlay, args.author) if args.keeps_layer else None
    recorder.finish(args.id, shown.id if shown is not None else None)
    return Done(Empty())


def _run_list(host: LayerHost, _args: Empty, _report: Report) -> Done[list[RunningRun]]:
    return Done(host.recorder.running() if host.recorder is not None else [])


FUNCTIONS: dict[str, Callable[[LayerHost, Any, Report], Done[Any]]] = {
    "ping": _ping,
    "release": _release,
    "commit": _commit,
    "publish": _publish,
    "changes": _changes,
    "diff": _diff,
    "restore": _restore,
    "switch": _switch,
    "merge": _merge,
    "merge-resolve_conflicts": _merge_resolve,
    "merge-status": _merge_status,
    "merge-abort": _merge_abort,
    "undo": _undo,
    "pull": _pull,
    "amend": _amend,
    "run-start": _run_start,
    "run-join": _run_join,
    "run-finish": _run_finish,
    "run-list": _run_list,
}
"""The function of each service, by the service's name."""
