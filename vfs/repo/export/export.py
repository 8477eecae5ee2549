"""`export`: a version, or parts of it, as plain files with everything that the version keeps of them.

Every name is made in an open directory and no link is followed, so nothing that lies in the target, or in a hostile
repository, leads out of it. A new target appears under its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from vfs.errors import AlreadyExists, InvalidInput, NotADirectory, NotEmpty, has_path
from vfs.model.names import split_path
from vfs.model.objects import Version
from vfs.repo.export.tree_writer import Exported, TreeWriter, Wanted
from vfs.repo.repository import Repository
from vfs.store.progress_callbacks import FileProgress
from vfs.store.trees.directories import resolve_path


def export(
    repo: Repository,
    version: Version,
    directory: Path,
    paths: Sequence[bytes] = (),
    *,
    into_existing: bool = False,
    progress: FileProgress | None = None,
) -> Exported:
    """Writes a version into a directory: all of it, or what is at `paths` (with the directories that lead there).

    A target that does not exist or is empty is made whole: on any failure nothing is left. With `into_existing`, files
    are added to what is there and replace files of the same name; after a failure those written so far stay.
    Raises NotEmpty without it, InvalidInput for a target in the repository, IsADirectory or NotADirectory where a
    directory and something else meet.
    """
    if directory.exists() and not directory.is_dir():
        raise NotADirectory(f"{directory} is not a directory")
    if directory.resolve().is_relative_to(repo.path.resolve()):
        raise InvalidInput(f"{directory} is inside the repository", hint="Name a directory outside of it.")
    is_new = not directory.exists()
    is_filled = not is_new and any(directory.iterdir())
    if is_filled and not into_existing:
        raise NotEmpty(
            f"{directory} is not empty", hint="Name a new directory, or ask for files to be added and replaced."
        )
    try:
        if is_new or not (is_filled or os.path.ismount(directory)):
            return _export_whole(repo, version, directory, paths, progress)
        return _export_into(repo, version, directory, paths, progress, is_whole=False)
    except OSError as error:
        # What the backend raises names its file; the rest is about descriptors, and names in directories.
        if not (has_path(error) and os.path.isabs(error.filename)):
            error.filename, error.filename2 = str(directory), None
        raise


def _export_whole(
    repo: Repository, version: Version, directory: Path, paths: Sequence[bytes], progress: FileProgress | None
) -> Exported:
    if not directory.absolute().parent.is_dir():
        raise InvalidInput(f"{directory.absolute().parent} is not a directory", hint="Make it first.")
    target = directory.absolute()
    draft = target.parent / f".{target.name[:200]}.vfs-{os.urandom(4).hex()}"
    _of_target(draft.mkdir, 0o700)
    try:
        exported = _export_into(repo, version, draft, paths, progress, is_whole=True)
        try:
            _of_target(os.rename, draft, target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            raise AlreadyExists(f"{directory} appeared meanwhile: {error.strerror}") from error
    except BaseException:
        _remove_draft(draft)
        raise
    return exported


def _of_target(step: Callable[..., object], *args: object) -> None:
    """Does a step with the draft; an error names no path, since the caller knows the target alone."""
    try:
        step(*args)
    except OSError as error:
        error.filename = error.filename2 = None
        raise


def _export_into(
    repo: Repository,
    version: Version,
    directory: Path,
    paths: Sequence[bytes],
    progress: FileProgress | None,
    *,
    is_whole: bool,
) -> Exported:
    root = version.commit.root
    wanted = _wanted(paths)
    for path in paths:
        resolve_path(repo.store, root, path)
    # The target itself may be reached through a link; nothing below it is.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        writer = TreeWriter(repo.store, version, descriptor, root.files if wanted is None else None, progress)
        writer.write(wanted, dress_root=is_whole or wanted is None)
    finally:
        os.close(descriptor)
    return writer.result


def _wanted(paths: Sequence[bytes]) -> Wanted | None:
    """Returns the names to take, by directory; None where all is wanted."""
    if not paths:
        return None
    top = Wanted()
    for path in paths:
        names = split_path(path)
        if not names:
            return None
        level = top
        for name in names[:-1]:
            below = level.names.setdefault(name, Wanted())
            if below is None:
                break
            level = below
        else:
            level.names[names[-1]] = None
    return top


def _remove_draft(draft: Path) -> None:
    """Removes an incomplete export; finished directories may be read-only already."""
    for parent, _, _ in os.walk(draft):
        with contextlib.suppress(OSError):
            os.chmod(parent, 0o700)
    shutil.rmtree(draft, ignore_errors=True)
