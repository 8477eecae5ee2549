"""What the daemon does for commands: one short method an operation, run in worker threads against the live mount.

Arguments and results are the structures of vfs/control/client.py. After an operation that changed the working layer
without the kernel, the kernel is told what to look up again: from here, in the worker thread, with no lock held.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vfs.control.client import (
    Answer,
    ChangedPath,
    CommitArgs,
    CommitResult,
    DiffArgs,
    Pinged,
    Progress,
    PublishArgs,
    Request,
    RestoreArgs,
    RestoreResult,
    SwitchArgs,
    SwitchResult,
)
from vfs.control.mounts import Shown, mounted_as, places_of
from vfs.control.services import LAYER_SERVICES, LayerService, Report
from vfs.errors import Busy, InvalidInput, NotFound, has_path
from vfs.fuse.inodes import BRANCHES_DIRECTORY, ROOT
from vfs.fuse.invalidation import drop_caches
from vfs.fuse.mapped_pages import sync_files
from vfs.fuse.working_layer import Working
from vfs.history.diff import PathChange
from vfs.model.ids import CommitId
from vfs.model.names import join_path
from vfs.model.objects import Version
from vfs.overlay.nodes import ROOT_INO
from vfs.overlay.overlay import Overlay
from vfs.overlay.state import Invalidation
from vfs.repo.branching import set_current_branch
from vfs.repo.commit import Committed, commit, publish
from vfs.repo.ignore_rules import rules_of
from vfs.repo.partial_commit import Selection
from vfs.repo.repository import Repository
from vfs.repo.restoring import restore
from vfs.repo.status import diff_working, status_apart
from vfs.repo.undoing import last_operation, undo

log = logging.getLogger(__name__)


class _Service(NamedTuple):
    perform: Callable[[dict[str, Any], Report], Answer]
    changes: bool


class Services:
    """The operations on one working layer of a mount, by name.

    `device` is the mount's `MAJOR:MINOR`. `writers` gives the inodes of an overlay that are open for writing. `switch`
    is Layers.switch.
    """

    def __init__(
        self,
        repo: Repository,
        working: Working,
        mountpoint: Path,
        device: str,
        writers: Callable[[Overlay], set[int]],
        switch: Callable[[str, Callable[[], bool]], bool],
    ) -> None:
        self._writers = writers
        self._switch_root = switch
        self._repo = repo
        self._working = working
        self._overlay = working.overlay
        self._mountpoint = mountpoint
        self._device = device
        self._services = {
            "ping": _Service(self._ping, changes=False),
            "commit": _Service(self._commit, changes=True),
            "publish": _Service(self._publish, changes=True),
            "restore": _Service(self._restore, changes=True),
            "changes": _Service(self._changes, changes=False),
            # It changes nothing, but no commit can begin meanwhile.
            "diff": _Service(self._diff, changes=True),
            "switch": _Service(self._switch, changes=True),
            "release": _Service(self._release, changes=True),
        }
        for name, service in LAYER_SERVICES.items():
            self._services[name] = _Service(partial(self._on_layer, service), service.changes)

    def changes(self, op: str) -> bool:
        """Whether an operation changes something, so that it must not run beside another one that does."""
        service = self._services.get(op)
        return service is not None and service.changes

    def perform(self, request: Request, report: Report) -> Answer:
        """Runs an operation. Raises InvalidInput for an unknown one, and what the operation raises.

        An OSError that names no path is said to be the repository's.
        """
        service = self._services.get(request.op)
        if service is None:
            raise InvalidInput(f"the mount's daemon knows no operation {request.op!r}", hint="Mount again.")
        self._repo.anchor.require_in_place()
        try:
            return service.perform(request.args, report)
        except OSError as error:
            if not has_path(error):
                error.filename = str(self._repo.path)
            raise

    def _ping(self, _args: dict[str, Any], _report: Report) -> Answer:
        mountpoint = os.fsencode(self._mountpoint)
        return _answer(Pinged(os.getpid(), self._overlay.branch, mountpoint, self._device, self._top()))

    def _top(self) -> bytes:
        """Returns where the layer's root is in the mount."""
        return b"" if self._working.root == ROOT else b"@/branches/" + self._overlay.branch.encode()

    def _commit(self, args: dict[str, Any], report: Report) -> Answer:
        wanted = msgspec.convert(args, CommitArgs)
        at = Progress()

        def heard(files: int, size: int, total: int | None) -> None:
            report(Progress(files, size, total, total_bytes=at.total_bytes))

        self._collect_mapped_pages()
        return self._committed(
            commit(
                self._repo,
                self._overlay,
                wanted.message,
                wanted.author,
                meta=tuple(wanted.meta.items()),
                allow_empty=wanted.allow_empty,
                asked_ns=wanted.asked_ns or None,
                selection=Selection(rules_of(wanted.excluded), wanted.paths),
                progress=heard,
                expecting=lambda size: setattr(at, "total_bytes", size),
                waiting=lambda words: report(Progress(waiting=words)),
            )
        )

    def _publish(self, args: dict[str, Any], _report: Report) -> Answer:
        wanted = msgspec.convert(args, PublishArgs)
        expected = CommitId(bytes.fromhex(wanted.expected)) if wanted.expected else None
        commit_id = CommitId(bytes.fromhex(wanted.commit_id))
        return self._committed(publish(self._repo, self._overlay, commit_id, expected))

    def _restore(self, args: dict[str, Any], _report: Report) -> Answer:
        wanted = msgspec.convert(args, RestoreArgs)
        self._collect_mapped_pages()
        done = restore(
            self._repo,
            self._overlay,
            self._version(wanted.commit_id),
            wanted.paths,
            discard=wanted.discard,
            author=wanted.author,
        )
        self._drop_caches(done.stale)
        return _answer(RestoreResult(done.restored, done.removed, done.counts))

    def _changes(self, _args: dict[str, Any], _report: Report) -> Answer:
        self._collect_mapped_pages()
        return _answer_of_parts(ChangedPath(*change, is_ignored) for change, is_ignored in status_apart(self._overlay))

    def _diff(self, args: dict[str, Any], _report: Report) -> Answer:
        version = self._version(msgspec.convert(args, DiffArgs).commit_id)
        self._collect_mapped_pages()
        return _changed_paths(diff_working(self._repo, self._overlay, version))

    def _on_layer(self, service: LayerService, args: dict[str, Any], report: Report) -> Answer:
        if service.changes:
            self._collect_mapped_pages()
        before = self._newest()
        done = service.perform(self._repo, self._overlay, args, report)
        numbers = range(min(before, self._newest()), max(before, self._newest()) + 1) if service.changes else ()
        # The newest version's number may stand for another one now, or for none.
        self._drop_caches([*done.stale, *(Invalidation(ROOT_INO, b"@v%d" % number, 0) for number in numbers)])
        return _answer(done.result)

    def _newest(self) -> int:
        return self._repo.refs.version_count(self._overlay.branch)

    def _switch(self, args: dict[str, Any], _report: Report) -> Answer:
        wanted = msgspec.convert(args, SwitchArgs)
        self._repo.require_branch(wanted.branch)

        def choose() -> bool:
            if wanted.undoes:
                # It is the last one, or undo says which came after it.
                operation = msgspec.structs.replace(last_operation(self._repo), seq=wanted.undoes)
                undo(self._repo, None, operation, wanted.author)
                return True
            return set_current_branch(self._repo, wanted.branch, author=wanted.author)

        return _answer(SwitchResult(self._switch_root(wanted.branch, choose)))

    def _release(self, _args: dict[str, Any], _report: Report) -> Answer:
        if self._working.root == ROOT:
            if mounted_as(self._mountpoint, self._device):
                raise Busy(
                    f"the branch {self._overlay.branch!r} is mounted at {self._mountpoint}", hint="Unmount it first."
                )
            raise Busy(
                f"the branch {self._overlay.branch!r} was mounted at {self._mountpoint}, and its mount has not ended",
                hint="\n  ".join(("End what still shows it:", *map(str, places_of(self._device)))),
            )
        drop_caches([Invalidation(BRANCHES_DIRECTORY, self._overlay.branch.encode(), self._working.root)])
        return Answer({}, [])

    def _version(self, digits: str) -> Version:
        commit_id = CommitId(bytes.fromhex(digits))
        return Version(commit_id, self._repo.store.get_commit(commit_id))

    def _committed(self, committed: Committed) -> Answer:
        self._drop_caches(committed.stale)
        version, statistics = committed.version, committed.statistics
        return _answer(
            CommitResult(
                version.commit.number,
                version.id.hex(),
                statistics.bytes_put,
                statistics.bytes_new,
                statistics.bytes_stored,
            )
        )

    def _collect_mapped_pages(self) -> None:
        """Makes the kernel write what programs changed through shared mappings, and waits until it is here.

        A mapping keeps its file open, so files that are open for writing are all that matter. `syncfs` would not do: on
        this kind of filesystem it starts the writes and does not wait for them.
        """
        writers = self._writers(self._overlay)
        if not writers:
            return
        places = [Shown(self._mountpoint, b"")]
        if not mounted_as(self._mountpoint, self._device):
            # A container, or a bind mount, has what has been unmounted here.
            places = places_of(self._device)
        paths = []
        for ino in writers:
            with contextlib.suppress(NotFound):
                path = join_path(self._top(), self._overlay.path_of(ino))
                paths += [found for place in places if (found := place.way_to(path)) is not None][:1]
        sync_files(paths)

    def _drop_caches(self, stale: Iterable[Invalidation]) -> None:
        number = self._working.number
        drop_caches(Invalidation(number(parent), name, number(ino) if ino else 0) for parent, name, ino in stale)


def _changed_paths(changes: Iterable[PathChange]) -> Answer:
    return _answer_of_parts(ChangedPath(*change) for change in changes)


def _answer_of_parts(parts: Iterable[ChangedPath]) -> Answer:
    return Answer({}, list(map(msgspec.to_builtins, parts)))


def _answer(result: msgspec.Struct) -> Answer:
    return Answer(msgspec.to_builtins(result), [])
