"""What commands do with working layers, by services that vfs/control/access.py performs wherever a layer is open."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from vfs.cli.opening.open_repository import OpenRepository
from vfs.cli.terminal.output import warn
from vfs.control.mount_points import MountPoint, live_mounts
from vfs.model.ids import CommitId
from vfs.model.layout import branch_path
from vfs.model.names import is_within
from vfs.model.objects import MAIN, Version
from vfs.repo.paths import control_socket
from vfs.store.refs.operation import BRANCHES, CURRENT, Operation

if TYPE_CHECKING:
    from vfs.cli.terminal.progress import FileBar
    from vfs.control.access import LayerAccess
    from vfs.control.messages import PingResult, ProgressUpdate, Report, RestoreResult, SwitchArgs
    from vfs.control.services import Service
    from vfs.history.diff import PathChange
    from vfs.overlay.overlay import Overlay
    from vfs.repo.ignore_rules import Excluded
    from vfs.repo.import_directory import Imported
    from vfs.repo.repository import Repository

# Functions import the services that they request: `vfs status` requests none where nothing has changed.

A = TypeVar("A", bound=msgspec.Struct)
R = TypeVar("R")

STAYS_BEHIND = 'This shell is still in the directory that it was in: `cd "$PWD"` goes to the same place here.'
"""Notice after a switch, where the current directory is in the mount that was switched."""


@contextmanager
def _access(opened: OpenRepository) -> Iterator[LayerAccess]:
    """Yields access to the repository's layers; prints its warnings at the end, also after an error."""
    from vfs.control.access import LayerAccess

    access = LayerAccess(opened.repository)
    try:
        yield access
    finally:
        for warning in access.take_warnings():
            warn(warning)


def _reporting(progress: FileBar) -> Report:
    def report(update: ProgressUpdate) -> None:
        if update.waiting:
            progress.waiting(update.waiting)
        else:
            if update.total_bytes is not None:
                progress.expect(update.total_bytes)
            progress(update.files, update.bytes, update.total)

    return report


def perform(
    opened: OpenRepository,
    service: Service[A, R],
    args: A,
    *,
    branch: str | None = None,
    progress: FileBar | None = None,
) -> R:
    """Performs a service on the working layer of a branch (None: the command's), wherever that is open."""
    with _access(opened) as access:
        reporting = (_reporting(progress),) if progress is not None else ()
        return access.perform(branch if branch is not None else opened.branch, service, args, *reporting)


@contextmanager
def held_layer(opened: OpenRepository) -> Iterator[PingResult | Overlay]:
    """Keeps the working layer open: yields the mount that has it, else the layer, opened here. Raises Busy."""
    with _access(opened) as access, access.hold(opened.branch) as held:
        yield held


def commit_working(
    opened: OpenRepository,
    message: str,
    author: str,
    *,
    meta: Mapping[str, str],
    allow_empty: bool,
    progress: FileBar,
    paths: Sequence[bytes] = (),
    excluded: Excluded | None = None,
    with_hooks: bool = True,
) -> Version:
    """Commits the working layer, or some paths of it, and returns the new version.

    Raises HookRefused where the repository's hook fails.
    """
    from vfs.control.messages import CommitArgs
    from vfs.control.services import COMMIT
    from vfs.repo.ignore_rules import Excluded

    excluded = excluded if excluded is not None else Excluded()
    if with_hooks:
        _run_hook(opened, "commit", _to_be_committed(opened, paths, excluded), message, author, _mounted_path(opened))
    args = CommitArgs(message, author, allow_empty, dict(meta), opened.asked_ns, list(paths), excluded)
    commit_id = perform(opened, COMMIT, args, progress=progress).id
    return Version(commit_id, opened.repository.store.get_commit(commit_id))


def _to_be_committed(opened: OpenRepository, paths: Sequence[bytes], excluded: Excluded) -> Iterator[bytes]:
    """Yields the changed paths that a commit includes."""
    for change, is_ignored in uncommitted_apart(opened):
        is_wanted = not paths or any(is_within(change.path, path) for path in paths)
        if is_wanted and (not (is_ignored and excluded.reads_files) or change.path in paths):
            yield change.path


def _mounted_path(opened: OpenRepository) -> Path | None:
    """Returns the working layer's path in a mount, None where no mount shows it."""
    for mount in mounts_of(opened):
        if not mount.is_read_only and mount.pid is not None and not mount.root:
            pinged = ping_of(opened, opened.branch)
            if pinged is not None:
                is_root = pinged.mountpoint == os.fsencode(mount.path)
                return mount.path if is_root else mount.path / os.fsdecode(branch_path(opened.branch))
    return None


def _run_hook(
    opened: OpenRepository, operation: str, paths: Iterable[bytes], message: str, author: str, data: Path | None
) -> None:
    from vfs.cli.opening.commit_hooks import run_hook

    variables = {
        "VFS_OPERATION": operation,
        "VFS_BRANCH": opened.branch,
        "VFS_MESSAGE": message,
        "VFS_AUTHOR": author,
        "VFS_DATA": str(data) if data is not None else "",
    }
    run_hook(opened.repository.path, paths, variables, data)


def import_as_version(
    opened: OpenRepository,
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
    progress: FileBar,
    meta: Mapping[str, str] | None = None,
    made_ns: int | None = None,
) -> Imported:
    """Commits a directory; beside a mount, its daemon does the last step alone.

    Raises HookRefused where the repository's hook fails.
    """
    from vfs.control.messages import PublishArgs
    from vfs.control.services import PUBLISH
    from vfs.history.diff import diff_trees
    from vfs.repo.commit import uncommitted_changes
    from vfs.repo.ignore_rules import rules_of
    from vfs.repo.import_directory import import_directory

    repository = opened.repository

    def publish(commit_id: CommitId, expected: CommitId | None) -> CommitId:
        if with_hooks:
            store = repository.store
            old = store.get_commit(expected).root if expected is not None else None
            changed = (change.path for change in diff_trees(store, old, store.get_commit(commit_id).root))
            _run_hook(opened, "import", changed, message, author, directory.absolute())
        # An import may take hours; a mount that came meanwhile performs this.
        return perform(opened, PUBLISH, PublishArgs(commit_id, expected)).id

    changes = {is_ignored for _, is_ignored in uncommitted_apart(opened)}
    if changes:
        # The last step checks again; checked first, it saves reading the directory.
        raise uncommitted_changes("import", only_ignored=changes == {True})
    return import_directory(
        repository,
        directory,
        message,
        author,
        publish_with=publish,
        branch=opened.branch,
        jobs=jobs,
        into=into,
        rules=rules_of(excluded),
        skip_unreadable=skip_unreadable,
        allow_empty=allow_empty,
        meta=tuple((meta or {}).items()),
        made_ns=made_ns,
        progress=progress,
    )


def uncommitted(opened: OpenRepository, branch: str | None = None) -> Iterator[PathChange]:
    """Yields what differs from the newest version, in the order of names; reads no file's bytes."""
    return (change for change, _ in uncommitted_apart(opened, branch))


def uncommitted_apart(opened: OpenRepository, branch: str | None = None) -> Iterator[tuple[PathChange, bool]]:
    """Yields uncommitted changes, each with True if ignore rules exclude it from a commit."""
    branch = branch if branch is not None else opened.branch
    if _is_unchanged(opened.repository, branch):
        return
    from vfs.control.messages import Empty
    from vfs.control.services import CHANGES

    for change in perform(opened, CHANGES, Empty(), branch=branch):
        yield change.as_change(), change.is_ignored


def _is_unchanged(repository: Repository, branch: str) -> bool:
    """Returns True if it is known without opening the layer that it has no changes."""
    directory = repository.work_path(branch)
    if not directory.is_dir():
        # The layer was never opened; a command that reads does not create it.
        return True
    head = repository.refs.get(BRANCHES + branch)
    if head is None or control_socket(repository.path, branch).exists():
        return False
    from vfs.overlay.layer_files import holds_no_change

    return holds_no_change(directory, branch, head, repository.refs.consumed_generation(branch))


def differences(opened: OpenRepository, version: Version) -> Iterator[PathChange]:
    """Yields what differs from a version to the working layer, in the order of names; reads changed files."""
    from vfs.control.messages import DiffArgs
    from vfs.control.services import DIFF

    return (change.as_change() for change in perform(opened, DIFF, DiffArgs(version.id)))


def restore_working(
    opened: OpenRepository, version: Version, paths: list[bytes], author: str, *, discard: bool
) -> RestoreResult:
    """Restores paths of the working layer from a version."""
    from vfs.control.messages import RestoreArgs
    from vfs.control.services import RESTORE

    return perform(opened, RESTORE, RestoreArgs(version.id, paths, discard, author))


def switch_working(opened: OpenRepository, name: str, author: str) -> bool:
    """Makes a branch the current one, also in a mount that follows it; returns False where it is already.

    Raises NotFound; Busy where that mount cannot open the branch, with nothing changed.
    """
    from vfs.control.messages import SwitchArgs

    return _switch(opened, SwitchArgs(name, author))


def undo_refs(opened: OpenRepository, operation: Operation, author: str) -> None:
    """Undoes an operation that changed no working layer; a mount follows where it changed the current branch."""
    from vfs.control.access import release
    from vfs.control.messages import SwitchArgs

    before = next((change.old for change in operation.settings if change.name == CURRENT), None)
    if before is not None and not operation.refs:
        _switch(opened, SwitchArgs(before or MAIN, author, undoes=operation.seq))
        return
    # A mount closes a branch that the undo deletes, unless the branch is in its root.
    for change in operation.refs:
        if change.name.startswith(BRANCHES) and not change.old:
            release(opened.repository.path, change.name.removeprefix(BRANCHES))
    from vfs.repo.undo import undo

    undo(opened.repository, None, operation, author)


def _switch(opened: OpenRepository, args: SwitchArgs) -> bool:
    from vfs.control.services import SWITCH

    # The daemon that has the current branch is the one whose root may follow it.
    return perform(opened, SWITCH, args, branch=opened.repository.current_branch).switched


class LiveMount(msgspec.Struct, frozen=True):
    """A mount of the repository, and its daemon's process where one answers (None: it is dead, or read-only)."""

    path: Path
    pid: int | None
    is_read_only: bool
    root: bytes = b""
    """The part of the mount that a bind mount shows, empty for all of it."""


def mounts_of(opened: OpenRepository) -> list[LiveMount]:
    """Returns the mounts of the repository that this process sees."""
    repository = opened.repository.path
    found = [mount for mount in live_mounts() if mount.repository == repository]
    return [LiveMount(mount.path, _pid_of(opened, mount), mount.is_read_only, mount.root) for mount in found]


def _pid_of(opened: OpenRepository, mount: MountPoint) -> int | None:
    """Returns the daemon's process of a writable mount, None where it does not answer."""
    branch = mount.branch if mount.branch is not None else opened.repository.current_branch
    pinged = None if mount.is_read_only else ping_of(opened, branch)
    return pinged.pid if pinged is not None and pinged.device == mount.device else None


def layer_mount(opened: OpenRepository) -> PingResult | None:
    """Returns the mount that has the working layer of the command's branch, None where none has."""
    return ping_of(opened, opened.branch)


def ping_of(opened: OpenRepository, branch: str) -> PingResult | None:
    """Returns the mount that has a branch's working layer, None where none has."""
    with _access(opened) as access:
        return access.ping(branch)
