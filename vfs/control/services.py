"""The services of a working layer: one typed table, for a mount's daemon and for a process without a mount.

Arguments and results are in vfs/control/messages.py. A daemon performs a service when a command requests it
(vfs/fuse/control_server.py); vfs/control/access.py decides whether a daemon or the calling process performs it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

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
from vfs.errors import Conflict, NotFound
from vfs.model.ids import CommitId
from vfs.model.layout import marked, number_text
from vfs.model.objects import Version
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.overlay.overlay import Overlay
from vfs.overlay.state import Invalidation
from vfs.repo.branches import set_current_branch
from vfs.repo.commit import Committed, commit, publish
from vfs.repo.describe import amend
from vfs.repo.ignore_rules import rules_of
from vfs.repo.merge import Preference, abort_merge, merge
from vfs.repo.merge_conflicts import require_merge, resolve_conflicts, unresolved
from vfs.repo.merge_state import MergeState
from vfs.repo.partial_commit import Selection
from vfs.repo.repository import Repository
from vfs.repo.restore import restore
from vfs.repo.runs.made_by import made_by
from vfs.repo.runs.snapshots import is_snapshot
from vfs.repo.status import diff_working, status_apart
from vfs.repo.transfer.pull import advance
from vfs.repo.undo import last_operation, undo

A = TypeVar("A", bound=msgspec.Struct)
R = TypeVar("R")


class LayerHost(ABC):
    """A process that has a branch's working layer open, as services use it: the layer, and what a mount does for it.

    A mount's daemon implements it (vfs/fuse/mounted_layer.py), and a process without a mount (access.py).
    """

    def __init__(self, repository: Repository, branch: str) -> None:
        self.repository = repository
        self.branch = branch

    @property
    @abstractmethod
    def overlay(self) -> Overlay:
        """The working layer. Raises what opening it raises."""

    @abstractmethod
    def describe(self) -> PingResult:
        """Returns which mount has the layer. Raises NotFound without one."""

    @abstractmethod
    def write_back_mapped_pages(self) -> None:
        """Makes the kernel write what programs changed through shared mappings, and waits for the writes."""

    @abstractmethod
    def invalidate(self, stale: Sequence[Invalidation]) -> None:
        """Makes the kernel look up again what a service changed."""

    @abstractmethod
    def switch_root(self, branch: str, change: Callable[[], bool]) -> bool:
        """Shows a branch in the mount's root where the mount follows the current branch, which `change` sets.

        Returns what `change` returns: False where the branch was the current one already. Raises Busy, before the
        change, where another process has the branch's working layer.
        """

    @abstractmethod
    def release(self) -> None:
        """Closes the layer as soon as the kernel forgets its inodes. Raises Busy where it is in the mount's root."""

    @property
    def recorder(self) -> RunRecorder | None:
        """What records runs; None without a mount."""
        return None

    def version(self, commit_id: CommitId) -> Version:
        """Returns a version of the repository. Raises NotFound."""
        return Version(commit_id, self.repository.store.get_commit(commit_id))


class Done(NamedTuple, Generic[R]):
    """A service's result, and what the kernel must look up again."""

    result: R
    stale: Sequence[Invalidation] = ()


@dataclass(frozen=True, slots=True)
class Service(Generic[A, R]):
    """One service: its name in requests, the types of its arguments and result, and the function that performs it.

    `is_exclusive`: no two such services run at a time in one layer. `reads_files`: changes that programs made through
    mappings are written back first. `renumbers`: it may change which versions of the branch there are.
    """

    name: str
    args: type[A]
    result: type[R]
    function: Callable[[LayerHost, A, Report], Done[R]]
    is_exclusive: bool = True
    reads_files: bool = True
    renumbers: bool = False

    def perform(self, host: LayerHost, args: A, report: Report) -> R:
        """Performs the service in the process that has the layer open. Raises what its function raises."""
        if self.reads_files:
            host.write_back_mapped_pages()
        before = _version_count(host) if self.renumbers else 0
        done = self.function(host, args, report)
        stale = list(done.stale)
        if self.renumbers:
            # The newest version's number may name another version now, or none.
            counts = sorted((before, _version_count(host)))
            stale += [
                Invalidation(ROOT_INO, marked(number_text(number)), 0) for number in range(counts[0], counts[1] + 1)
            ]
        host.invalidate(stale)
        return done.result


def _version_count(host: LayerHost) -> int:
    return host.repository.refs.version_count(host.branch)


def _ping(host: LayerHost, _args: Empty, _report: Report) -> Done[PingResult]:
    return Done(host.describe())


def _release(host: LayerHost, _args: Empty, _report: Report) -> Done[Empty]:
    host.release()
    return Done(Empty())


def _commit(host: LayerHost, args: CommitArgs, report: Report) -> Done[CommitResult]:
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
            meta=(*args.meta.items(), *made_by(host.repository, host.branch, args.paths)),
            allow_empty=args.allow_empty,
            asked_ns=args.asked_ns or None,
            selection=Selection(rules_of(args.excluded), args.paths),
            progress=report_files,
            expecting=expect,
            waiting=lambda reason: report(ProgressUpdate(waiting=reason)),
        )
    )


def _publish(host: LayerHost, args: PublishArgs, _report: Report) -> Done[CommitResult]:
    return _committed(publish(host.repository, host.overlay, args.commit_id, args.expected))


def _committed(done: Committed) -> Done[CommitResult]:
    version, stored = done.version, done.statistics
    result = CommitResult(version.commit.number, version.id, stored.bytes_put, stored.bytes_new, stored.bytes_stored)
    return Done(result, done.stale)


def _changes(host: LayerHost, _args: Empty, _report: Report) -> Done[list[ChangedPath]]:
    return Done([ChangedPath(*change, is_ignored) for change, is_ignored in status_apart(host.overlay)])


def _diff(host: LayerHost, args: DiffArgs, _report: Report) -> Done[list[ChangedPath]]:
    changes = diff_working(host.repository, host.overlay, host.version(args.commit_id))
    return Done([ChangedPath(*change) for change in changes])


def _restore(host: LayerHost, args: RestoreArgs, _report: Report) -> Done[RestoreResult]:
    version = host.version(args.commit_id)
    done = restore(host.repository, host.overlay, version, args.paths, discard=args.discard, author=args.author)
    return Done(RestoreResult(done.restored, done.removed, done.counts), done.stale)


def _switch(host: LayerHost, args: SwitchArgs, _report: Report) -> Done[SwitchResult]:
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
    state, stale = resolve_conflicts(host.repository, host.overlay, args.paths, args.resolution)
    return Done(_merge_result(host, state), stale)


def _merge_status(host: LayerHost, _args: Empty, _report: Report) -> Done[MergeResult]:
    return Done(_merge_result(host, require_merge(host.repository, host.branch)))


def _merge_abort(host: LayerHost, args: AuthorArgs, _report: Report) -> Done[Empty]:
    return Done(Empty(), abort_merge(host.repository, host.overlay, args.author))


def _merge_result(host: LayerHost, state: MergeState) -> MergeResult:
    return MergeResult(state=state, left=unresolved(host.overlay, state))


def _undo(host: LayerHost, args: UndoArgs, _report: Report) -> Done[Empty]:
    last = last_operation(host.repository)
    if last.seq != args.seq:
        raise Conflict(f"operation {last.seq} ({last.kind}) came meanwhile", hint="Try again.")
    return Done(Empty(), undo(host.repository, host.overlay, last, args.author).stale)


def _pull(host: LayerHost, args: PullArgs, _report: Report) -> Done[PullResult]:
    theirs = host.version(args.commit_id)
    done = advance(host.repository, host.overlay, theirs, args.author, rebase=args.rebase)
    ids = [version.id if version is not None else None for version in (done.before, done.after, done.own)]
    return Done(PullResult(*ids), done.stale)


def _amend(host: LayerHost, args: AmendArgs, _report: Report) -> Done[AmendResult]:
    done = amend(host.repository, host.overlay, args.author, args.message, args.meta)
    return Done(AmendResult(done.version.id), done.stale)


def _recorder(host: LayerHost) -> RunRecorder:
    if host.recorder is None:
        raise NotFound(f"no mount has the branch {host.branch!r} open")
    return host.recorder


def _run_start(host: LayerHost, args: RunStartArgs, _report: Report) -> Done[RunStartResult]:
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


PING = Service("ping", Empty, PingResult, _ping, is_exclusive=False, reads_files=False)
RELEASE = Service("release", Empty, Empty, _release, reads_files=False)
COMMIT = Service("commit", CommitArgs, CommitResult, _commit)
PUBLISH = Service("publish", PublishArgs, CommitResult, _publish, reads_files=False)
CHANGES = Service("changes", Empty, list[ChangedPath], _changes, is_exclusive=False)
# It changes nothing, but no commit may begin meanwhile.
DIFF = Service("diff", DiffArgs, list[ChangedPath], _diff)
RESTORE = Service("restore", RestoreArgs, RestoreResult, _restore)
SWITCH = Service("switch", SwitchArgs, SwitchResult, _switch, reads_files=False)
MERGE = Service("merge", MergeArgs, MergeResult, _merge, renumbers=True)
MERGE_RESOLVE = Service("merge-resolve_conflicts", ResolveArgs, MergeResult, _merge_resolve)
MERGE_STATUS = Service("merge-status", Empty, MergeResult, _merge_status, is_exclusive=False, reads_files=False)
MERGE_ABORT = Service("merge-abort", AuthorArgs, Empty, _merge_abort)
UNDO = Service("undo", UndoArgs, Empty, _undo, renumbers=True)
PULL = Service("pull", PullArgs, PullResult, _pull, renumbers=True)
AMEND = Service("amend", AmendArgs, AmendResult, _amend, renumbers=True)
RUN_START = Service("run-start", RunStartArgs, RunStartResult, _run_start)
RUN_JOIN = Service("run-join", RunArgs, Empty, _run_join, is_exclusive=False, reads_files=False)
RUN_FINISH = Service("run-finish", RunArgs, Empty, _run_finish)
RUN_LIST = Service("run-list", Empty, list[RunningRun], _run_list, is_exclusive=False, reads_files=False)

SERVICES: dict[str, Service[Any, Any]] = {
    service.name: service
    for service in (
        PING,
        RELEASE,
        COMMIT,
        PUBLISH,
        CHANGES,
        DIFF,
        RESTORE,
        SWITCH,
        MERGE,
        MERGE_RESOLVE,
        MERGE_STATUS,
        MERGE_ABORT,
        UNDO,
        PULL,
        AMEND,
        RUN_START,
        RUN_JOIN,
        RUN_FINISH,
        RUN_LIST,
    )
}
"""All services, by name."""
