"""The working layer: asked of the daemon of a live mount where there is one, else opened here.

One process has a branch's working layer at a time. Who has it answers on a socket in the repository; where nobody
does, its lock is free and the layer is opened by the command itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from vfs.cli.commit_hooks import run_hook
from vfs.cli.locate import MountPoint, live_mounts
from vfs.cli.open_repository import Opened
from vfs.cli.output import warn
from vfs.cli.progress import Progress
from vfs.control.client import (
    Answer,
    ChangedPath,
    CommitArgs,
    CommitResult,
    Daemon,
    DiffArgs,
    Pinged,
    PublishArgs,
    RestoreArgs,
    RestoreResult,
    SwitchArgs,
    SwitchResult,
    release,
    socket_path,
    wait_until_closed,
)
from vfs.control.client import Progress as RemoteProgress
from vfs.control.services import LAYER_SERVICES, Report
from vfs.errors import Busy
from vfs.history.diff import PathChange, diff_trees
from vfs.model.ids import CommitId
from vfs.model.names import is_within
from vfs.model.objects import MAIN, Version
from vfs.overlay.overlay import Overlay
from vfs.repo.branching import set_current_branch
from vfs.repo.commit import commit, publish, uncommitted_changes
from vfs.repo.ignore_rules import Excluded, rules_of
from vfs.repo.import_directory import Imported, import_directory
from vfs.repo.partial_commit import Selection
from vfs.repo.restoring import Restored, restore
from vfs.repo.status import diff_working, status_apart
from vfs.repo.undoing import undo
from vfs.store.refs.operation_limits import BRANCHES, CURRENT
from vfs.store.refs.operation_log import Operation

T = TypeVar("T")

STAYS_BEHIND = 'This shell is still in the directory that it was in: `cd "$PWD"` goes to the same place here.'
"""What to say after the mount that a person is in went to another branch."""

_CLOSING_TIMEOUT_S = 2.0


@contextmanager
def layer(at: Opened) -> Iterator[Overlay]:
    """Opens the working layer that no daemon has; says so where one had it and died."""
    try:
        overlay = at.repository.open_overlay(at.branch)
    except Busy as error:
        # A mount that nobody uses the branch in any more may be closing it.
        if not wait_until_closed(at.repository.path, at.branch, _CLOSING_TIMEOUT_S):
            raise Busy(
                "another process has the working layer and does not answer",
                hint="If it is a mount, see its log in REPO/run; if it is a command, wait for it.",
            ) from error
        overlay = at.repository.open_overlay(at.branch)
    with overlay:
        socket = socket_path(at.repository.path, at.branch)
        if socket.exists():
            # One that has ended took it away before it let the layer's lock go, which is ours now.
            socket.unlink(missing_ok=True)
            warn("the mount's daemon is gone without a good-bye; going on with what it kept (`vfs mount` mounts again)")
        for notice in overlay.recovery.warnings():
            warn(notice)
        yield overlay


def _call(daemon: Daemon, op: str, args: msgspec.Struct, progress: Progress | None = None) -> Answer:
    """Asks a daemon; what it is waiting for and how far it is goes to the bar."""
    values: dict[str, Any] = msgspec.to_builtins(args)
    return daemon.call(op, values, _reporting(progress))


def _reporting(progress: Progress | None) -> Report:
    def report(at: RemoteProgress) -> None:
        if progress is None:
            return
        if at.waiting:
            progress.waiting(at.waiting)
        else:
            if at.total_bytes is not None:
                progress.expect(at.total_bytes)
            progress(at.files, at.bytes, at.total)

    return report


def on_layer(
    at: Opened,
    op: str,
    args: msgspec.Struct,
    kind: type[T],
    *,
    branch: str | None = None,
    progress: Progress | None = None,
) -> T:
    """Does an operation of vfs/control/services.py on a working layer (the one of the branch that is worked on)."""
    at = replace(at, branch=branch) if branch is not None else at
    daemon = Daemon.connect(at.repository.path, at.branch)
    if daemon is not None:
        with daemon:
            return _call(daemon, op, args, progress).as_type(kind)
    with layer(at) as overlay:
        done = LAYER_SERVICES[op].perform(at.repository, overlay, msgspec.to_builtins(args), _reporting(progress))
        return msgspec.convert(msgspec.to_builtins(done.result), kind, builtin_types=())


def commit_working(
    at: Opened,
    message: str,
    author: str,
    *,
    meta: Mapping[str, str],
    allow_empty: bool,
    progress: Progress,
    paths: Sequence[bytes] = (),
    excluded: Excluded | None = None,
    with_hooks: bool = True,
) -> Version:
    """Makes the working layer, or what is at some paths of it, the next version and returns it.

    Raises HookRefused where the repository's hook says no.
    """
    repository = at.repository
    excluded = excluded if excluded is not None else Excluded()
    if with_hooks:
        _ask_hook(at, "commit", _to_be_committed(at, paths, excluded), message, author, _place_of(at))
    daemon = Daemon.connect(repository.path, at.branch)
    if daemon is not None:
        with daemon:
            args = CommitArgs(message, author, allow_empty, dict(meta), at.asked_ns, list(paths), excluded)
            answer = _call(daemon, "commit", args, progress)
        commit_id = CommitId(bytes.fromhex(answer.as_type(CommitResult).id))
        return Version(commit_id, repository.store.get_commit(commit_id))
    with layer(at) as overlay:
        return commit(
            repository,
            overlay,
            message,
            author,
            meta=tuple(meta.items()),
            allow_empty=allow_empty,
            asked_ns=at.asked_ns,
            selection=Selection(rules_of(excluded), paths),
            progress=progress,
            expecting=progress.expect,
            waiting=progress.waiting,
        ).version


def _to_be_committed(at: Opened, paths: Sequence[bytes], excluded: Excluded) -> Iterator[bytes]:
    """Yields the changed paths that a commit takes."""
    for change, is_ignored in uncommitted_apart(at):
        is_wanted = not paths or any(is_within(change.path, path) for path in paths)
        if is_wanted and (not (is_ignored and excluded.reads_files) or change.path in paths):
            yield change.path


def _place_of(at: Opened) -> Path | None:
    """Returns where programs see the working layer, None where no mount shows it."""
    for mount in mounts_of(at):
        if not mount.is_read_only and mount.pid is not None and not mount.root:
            daemon = Daemon.connect(at.repository.path, at.branch)
            if daemon is not None:
                with daemon:
                    is_root = daemon.call("ping", {}).as_type(Pinged).mountpoint == os.fsencode(mount.path)
                return mount.path if is_root else mount.path / "@" / "branches" / at.branch
    return None


def _ask_hook(at: Opened, operation: str, paths: Iterable[bytes], message: str, author: str, data: Path | None) -> None:
    variables = {
        "VFS_OPERATION": operation,
        "VFS_BRANCH": at.branch,
        "VFS_MESSAGE": message,
        "VFS_AUTHOR": author,
        "VFS_DATA": str(data) if data is not None else "",
    }
    run_hook(at.repository.path, paths, variables, data)


def importing(
    at: Opened,
    directory: Path,
    message: str,
    author: str,
    *,
    jobs: int | None,
    into: bytes,
    excluded: Excluded,
    skip_unreadable: bool,
    allow_empty: bool,
    with_hooks: bool,
    progress: Progress,
) -> Imported:
    """Commits a directory; with a live mount all but the last step is done here, beside it.

    Raises HookRefused where the repository's hook says no.
    """
    repository = at.repository

    def by_daemon(commit_id: CommitId, expected: CommitId | None) -> None:
        if with_hooks:
            store = repository.store
            old = store.get_commit(expected).root if expected is not None else None
            changed = (change.path for change in diff_trees(store, old, store.get_commit(commit_id).root))
            _ask_hook(at, "import", changed, message, author, directory.absolute())
        # Connected only now: an import may take hours, and a mount may come or go meanwhile.
        daemon = Daemon.connect(repository.path, at.branch)
        if daemon is None:
            with layer(at) as overlay:
                publish(repository, overlay, commit_id, expected)
            return
        with daemon:
            _call(daemon, "publish", PublishArgs(commit_id.hex(), expected.hex() if expected is not None else ""))

    changes = {is_ignored for _, is_ignored in uncommitted_apart(at)}
    if changes:
        # The last step asks again; said now, it saves reading all of the directory.
        raise uncommitted_changes("import", only_ignored=changes == {True})
    return import_directory(
        repository,
        directory,
        message,
        author,
        publish_with=by_daemon,
        branch=at.branch,
        jobs=jobs,
        into=into,
        rules=rules_of(excluded),
        skip_unreadable=skip_unreadable,
        allow_empty=allow_empty,
        progress=progress,
    )


@dataclass(frozen=True, slots=True)
class LiveMount:
    """A mount of the repository, and its daemon's process where one answers (None: it is gone, or read-only)."""

    path: Path
    pid: int | None
    is_read_only: bool
    root: bytes = b""
    """What of the mount a bind mount shows, empty for all of it."""


def uncommitted(at: Opened) -> Iterator[PathChange]:
    """Yields what differs from the newest version, in the order of names; reads no file's bytes."""
    return (change for change, _ in uncommitted_apart(at))


def uncommitted_apart(at: Opened) -> Iterator[tuple[PathChange, bool]]:
    """Yields what `uncommitted` does, each with whether a commit leaves it out, as ignore rules name it."""
    daemon = Daemon.connect(at.repository.path, at.branch)
    if daemon is not None:
        with daemon:
            for item in daemon.call("changes", {}).parts_as(ChangedPath):
                yield PathChange(item.path, item.kind, item.old, item.new), item.is_ignored
        return
    if not at.repository.work_path(at.branch).is_dir():
        # Nobody ever had it open, so there is nothing in it; looking does not make one.
        return
    with layer(at) as overlay:
        yield from status_apart(overlay)


def differences(at: Opened, version: Version) -> Iterator[PathChange]:
    """Yields what differs from a version to the working layer, in the order of names; reads what was changed."""
    daemon = Daemon.connect(at.repository.path, at.branch)
    if daemon is not None:
        with daemon:
            yield from _path_changes(_call(daemon, "diff", DiffArgs(version.id.hex())))
        return
    with layer(at) as overlay:
        yield from diff_working(at.repository, overlay, version)


def _path_changes(answer: Answer) -> Iterator[PathChange]:
    for item in answer.parts_as(ChangedPath):
        yield PathChange(item.path, item.kind, item.old, item.new)


def restore_working(at: Opened, version: Version, paths: list[bytes], author: str, *, discard: bool) -> Restored:
    """Makes paths of the working layer what they are in a version."""
    daemon = Daemon.connect(at.repository.path, at.branch)
    if daemon is not None:
        with daemon:
            answer = _call(daemon, "restore", RestoreArgs(version.id.hex(), paths, discard, author))
        result = answer.as_type(RestoreResult)
        return Restored(result.restored, result.removed, (), result.counts)
    with layer(at) as overlay:
        return restore(at.repository, overlay, version, paths, discard=discard, author=author)


def switch_working(at: Opened, name: str, author: str) -> bool:
    """Makes a branch the current one, also in the root of a mount that follows it; returns False where it is already.

    Raises NotFound; Busy where that mount cannot have the branch, with nothing changed.
    """
    at.repository.require_branch(name)
    return _switch(at, SwitchArgs(name, author), lambda: set_current_branch(at.repository, name, author=author))


def undo_names(at: Opened, operation: Operation, author: str) -> None:
    """Undoes an operation that no working layer follows; a mount follows where it changed the current branch."""

    def unmounted() -> bool:
        undo(at.repository, None, operation, author)
        return True

    before = next((change.old for change in operation.settings if change.name == CURRENT), None)
    if before is None or operation.refs:
        # A mount that has only looked into a branch that goes lets go of it; one that has it in its root is in use.
        for change in operation.refs:
            if change.name.startswith(BRANCHES) and not change.old:
                release_layer(at, change.name.removeprefix(BRANCHES))
        unmounted()
    else:
        _switch(at, SwitchArgs(before or MAIN, author, undoes=operation.seq), unmounted)


def _switch(at: Opened, args: SwitchArgs, unmounted: Callable[[], bool]) -> bool:
    daemon = Daemon.connect(at.repository.path, at.repository.current_branch)
    if daemon is None:
        return unmounted()
    with daemon:
        return _call(daemon, "switch", args).as_type(SwitchResult).switched


def release_layer(at: Opened, branch: str) -> None:
    """Makes a mount let go of a branch that nobody uses there, for a command that has to have its working layer."""
    release(at.repository.path, branch, _CLOSING_TIMEOUT_S)


def mounts_of(at: Opened) -> list[LiveMount]:
    """Returns the mounts of the repository that this process sees."""
    repository = at.repository.path
    found = [mount for mount in live_mounts() if mount.repository == repository]
    return [LiveMount(mount.path, _pid_of(at, mount), mount.is_read_only, mount.root) for mount in found]


def _pid_of(at: Opened, mount: MountPoint) -> int | None:
    """Returns the process of a writable mount, None where it does not answer."""
    branch = mount.branch if mount.branch is not None else at.repository.current_branch
    daemon = None if mount.is_read_only else Daemon.connect(at.repository.path, branch)
    if daemon is None:
        return None
    with daemon:
        pinged = daemon.call("ping", {}).as_type(Pinged)
    return pinged.pid if pinged.device == mount.device else None
