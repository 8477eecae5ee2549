"""What the arguments of `vfs lineage` name: a run, a version, a path of versions, or a file anywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from vfs.cli.arguments.version_or_path import named, split_arguments
from vfs.cli.opening.locate import path_in
from vfs.cli.opening.open_repository import OpenRepository
from vfs.control.mount_points import enclosing_mount, live_mounts
from vfs.control.mount_table import read_table
from vfs.errors import InvalidInput, NotFound, VfsError
from vfs.history.revision import UnknownVersion
from vfs.model.layout import MARK
from vfs.model.names import show_path
from vfs.model.objects import Kind, Version
from vfs.repo.lineage.targets import FileTarget, RunTarget, Target, VersionTarget
from vfs.repo.runs.outside_outputs import hashed
from vfs.repo.runs.records import find_run
from vfs.store.trees.directories import resolve_path

_MARK = MARK.decode()
_RUN = re.compile(r"(runs/)?r?[1-9][0-9]{0,11}(-[0-9a-f]{0,16})?")


def find_target(opened: OpenRepository, words: Sequence[str]) -> Target:
    """Returns what one or two words name; a path without a version is the working layer's, or the newest version's.

    Raises NotFound, UnknownVersion, InvalidInput.
    """
    return _find(opened, words)[0]


def _find(opened: OpenRepository, words: Sequence[str]) -> tuple[Target, bool]:
    """Returns what words name, and whether it is a path alone."""
    words = [_inside(opened, word) for word in words]
    if len(words) == 1:
        found = _run(opened, words[0]) or _outside(opened, words[0])
        if found is not None:
            return found, False
    try:
        versions, paths = split_arguments(opened, _split(opened, words), paths_max=1)
    except (UnknownVersion, NotFound):
        if len(words) == 1 and os.path.isfile(words[0]):
            return _hashed(opened, os.path.abspath(words[0])), False
        raise
    version = versions[0] if versions else None
    if not paths:
        assert version is not None
        return VersionTarget(version), False
    return _path(opened, paths[0], version), version is None


def find_used(opened: OpenRepository, words: Sequence[str]) -> Target:
    """Returns what words name for a question about uses: without a version, a path counts whatever its content."""
    try:
        found, is_path_alone = _find(opened, words)
    except (UnknownVersion, NotFound):
        if len(words) != 1:
            raise
        # A file that was erased from all versions.
        path = path_in(opened.place, words[0])
        if not path:
            raise
        return FileTarget(path)
    return FileTarget(found.path) if is_path_alone and isinstance(found, FileTarget) else found


def _inside(opened: OpenRepository, word: str) -> str:
    """Returns a path into a mount of the repository, relative to the current directory, as an absolute one."""
    path = os.path.abspath(word) if word else ""
    mount = enclosing_mount(Path(path), read_table()) if path else None
    is_ours = mount is not None and mount.repository == opened.place.repository
    return path if is_ours and "/" in word else word


def _run(opened: OpenRepository, word: str) -> RunTarget | None:
    if _RUN.fullmatch(word) is None or not (word.startswith("r") or "-" in word):
        return None
    try:
        return RunTarget(find_run(opened.repository, word))
    except NotFound:
        return None


def _outside(opened: OpenRepository, word: str) -> FileTarget | None:
    """Returns a file outside of the repository's mounts that is named by `/`, `./`, `../` or `~`."""
    text = os.path.expanduser(word)
    if not text.startswith(("/", "./", "../")):
        return None
    path = os.path.abspath(text)
    mount = enclosing_mount(Path(path), read_table())
    if mount is not None and mount.repository == opened.place.repository:
        return None
    if opened.place.mount is None and text.startswith("/") and not os.path.lexists(path):
        return None
    if os.path.isdir(path):
        raise InvalidInput(f"{word} is a directory outside of the mount", hint="Name a file.")
    return _hashed(opened, path) if os.path.lexists(path) else None


def _hashed(opened: OpenRepository, path: str) -> FileTarget:
    notes: list[str] = []
    found = hashed(opened.repository, [path], notes)
    if not found:
        raise InvalidInput(f"it cannot be told what made it: {notes[0]}", hint="Name a regular file that can be read.")
    output = found[0]
    content = bytes.fromhex(output.content)
    return FileTarget(os.fsencode(path), content, output.sha256, output.size, None, is_outside=True)


def _split(opened: OpenRepository, words: Sequence[str]) -> Sequence[str]:
    """Returns `PATH@v12` as two words where no file has that name."""
    if len(words) == 1 and _MARK in words[0][1:]:
        path, _, version = words[0].rpartition(_MARK)
        if path and version and "/" not in version and not path.endswith("/") and named(opened, version) is not None:
            return [version, path]
    return words


def _path(opened: OpenRepository, path: bytes, version: Version | None) -> Target:
    repository = opened.repository
    shown = version if version is not None else repository.head(opened.branch)
    if version is None:
        written = _uncommitted(opened, path)
        if written is not None:
            return FileTarget(path, written.content, written.sha256, written.size, shown)
    if shown is None:
        raise NotFound(f"nothing is committed yet, so nothing is known of {show_path(path)}")
    if not path:
        return VersionTarget(shown)
    entry = resolve_path(repository.store, shown.commit.root, path).entry
    if entry.kind == Kind.DIR:
        raise InvalidInput(
            f"{show_path(path)} is a directory", hint="Name a file, a version or a run: `vfs lineage v12`."
        )
    return FileTarget(path, entry.content if entry.kind == Kind.FILE else b"", "", entry.size, shown)


def _uncommitted(opened: OpenRepository, path: bytes) -> FileTarget | None:
    """Returns a changed file of the working layer, read through the mount; None where it is as committed."""
    from vfs.cli.opening.working_layer import layer_mount, uncommitted

    try:
        is_changed = any(change.path == path and change.new is not None for change in uncommitted(opened))
    except VfsError:
        return None
    if not is_changed:
        return None
    mount = layer_mount(opened)
    if mount is None or mount.mountpoint not in [os.fsencode(each.path) for each in live_mounts()]:
        return None
    where = os.path.join(mount.mountpoint, mount.top, path) if mount.top else os.path.join(mount.mountpoint, path)
    return _hashed(opened, os.fsdecode(where))
