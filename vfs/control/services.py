"""The services of a working layer: one typed table, for a mount's daemon and for a process without a mount.

Arguments and results are in vfs/control/messages.py. A daemon performs a service when a command requests it
(vfs/fuse/control_server.py); vfs/control/access.py decides whether a daemon or the calling process performs it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import msgspec

from vfs.control.messages import (
    AmendArgs,
    AmendResult,
    AuthorArgs,
    Caller,
    ChangedPath,
    CommitArgs,
    CommitResult,
    DiffArgs,
    Empty,
    MergeArgs,
    MergeResult,
    PingResult,
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
from vfs.control.run_recorder import RunningRun
from vfs.model.ids import CommitId
from vfs.model.layout import marked, number_text
from vfs.model.objects import Version
from vfs.repo.repository import Repository

if TYPE_CHECKING:  # The table is loaded by every command that asks for a service, and those load what performs it.
    from vfs.control.run_recorder import RunRecorder
    from vfs.overlay.overlay import Overlay
    from vfs.overlay.state import Invalidation

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

    def run_of(self, caller: Caller) -> str:
        """Returns the id of the run that a caller belongs to, or says that it does; empty for none."""
        recorder = self.recorder
        return (recorder.run_of(caller.pid, caller.namespace) if recorder is not None else "") or caller.run

    def version(self, commit_id: CommitId) -> Version:
        """Returns a version of the repository. Raises NotFound."""
        return Version(commit_id, self.repository.store.get_commit(commit_id))


class Done(NamedTuple, Generic[R]):
    """A service's result, and what the kernel must look up again."""

    result: R
    stale: Sequence[Invalidation] = ()


class Service(msgspec.Struct, Generic[A, R], frozen=True):
    """One service: its name in requests, its types; service_implementations.py has its function.

    `is_exclusive`: no two such services run at a time in one layer. `reads_files`: changes that programs made through
    mappings are written back first. `renumbers`: it may change which versions of the branch there are.
    """

    name: str
    args: type[A]
    result: type[R]
    is_exclusive: bool = True
    reads_files: bool = True
    renumbers: bool = False

    def perform(self, host: LayerHost, args: A, report: Report) -> R:
        """Performs the service in the process that has the layer open. Raises what its function raises."""
        from vfs.control.service_implementations import FUNCTIONS

        function: Callable[[LayerHost, A, Report], Done[R]] = FUNCTIONS[self.name]
        if self.reads_files:
            host.write_back_mapped_pages()
        before = _version_count(host) if self.renumbers else 0
        done = function(host, args, report)
        stale = list(done.stale)
        if self.renumbers:
            from vfs.overlay.layer_nodes import ROOT_INO
            from vfs.overlay.state import Invalidation

            # The newest version's number may name another version now, or none.
            counts = sorted((before, _version_count(host)))
            stale += [
                Invalidation(ROOT_INO, marked(number_text(number)), 0) for number in range(counts[0], counts[1] + 1)
            ]
        host.invalidate(stale)
        return done.result


def _version_count(host: LayerHost) -> int:
    return host.repository.refs.version_count(host.branch)


PING = Service("ping", Empty, PingResult, is_exclusive=False, reads_files=False)
RELEASE = Service("release", Empty, Empty, reads_files=False)
COMMIT = Service("commit", CommitArgs, CommitResult)
PUBLISH = Service("publish", PublishArgs, CommitResult, reads_files=False)
CHANGES = Service("changes", Empty, list[ChangedPath], is_exclusive=False)
# It changes nothing, but no commit may begin meanwhile.
DIFF = Service("diff", DiffArgs, list[ChangedPath])
RESTORE = Service("restore", RestoreArgs, RestoreResult)
SWITCH = Service("switch", SwitchArgs, SwitchResult, reads_files=False)
MERGE = Service("merge", MergeArgs, MergeResult, renumbers=True)
MERGE_RESOLVE = Service("merge-resolve_conflicts", ResolveArgs, MergeResult)
MERGE_STATUS = Service("merge-status", Empty, MergeResult, is_exclusive=False, reads_files=False)
MERGE_ABORT = Service("merge-abort", AuthorArgs, Empty)
UNDO = Service("undo", UndoArgs, Empty, renumbers=True)
PULL = Service("pull", PullArgs, PullResult, renumbers=True)
AMEND = Service("amend", AmendArgs, AmendResult, renumbers=True)
RUN_START = Service("run-start", RunStartArgs, RunStartResult)
RUN_JOIN = Service("run-join", RunArgs, Empty, is_exclusive=False, reads_files=False)
RUN_FINISH = Service("run-finish", RunArgs, Empty)
RUN_LIST = Service("run-list", Empty, list[RunningRun], is_exclusive=False, reads_files=False)

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
