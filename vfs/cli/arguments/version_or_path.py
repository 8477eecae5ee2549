"""Splitting a command's arguments into versions and paths."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
import msgspec

from vfs.cli.opening.locate import Place, path_in
from vfs.cli.opening.open_repository import OpenRepository
from vfs.cli.terminal.output import echo_err
from vfs.control.mount_points import live_mounts
from vfs.errors import InvalidInput, NotADirectory, NotFound, VfsError
from vfs.history.revision import ForgottenVersion, UnknownVersion
from vfs.history.time_expressions import parse_span
from vfs.model.layout import TAGS, VERSIONS, Listed, is_marked, is_surely_a_version, parse_mount_path, unmarked
from vfs.model.names import show_path
from vfs.model.objects import Version

if TYPE_CHECKING:
    from vfs.history.diff import PathChange

# Functions import how trees are read: a list of versions reads none.
_NAMES_COMPARED_MAX = 5000


class VersionsAndPaths(NamedTuple):
    """The versions and the paths among a command's arguments, each in their order."""

    versions: list[Version]
    paths: list[bytes]


def version_of(opened: OpenRepository, text: str) -> Version:
    """Returns the version that an argument names; dates are local.

    Raises what `Repository.resolve` does; the error says where the argument is a path instead.
    """
    try:
        return opened.repository.resolve(text, zone=None)
    except ForgottenVersion:
        raise
    except UnknownVersion as error:
        if _path_of(opened, text, ()) is None:
            raise
        hint = f"{text!r} is a path here; a version is written v3, latest, a tag, a commit id or a date."
        raise UnknownVersion(error.message, hint=hint) from None


def split_arguments(
    opened: OpenRepository,
    words: Sequence[str],
    *,
    versions_max: int = 1,
    paths_max: int | None = None,
    paths_first: bool = False,
) -> VersionsAndPaths:
    """Splits arguments into versions and paths.

    Versions come first; an argument that could be either is one there, or a path with `paths_first`. An argument that
    is no version is a path if the newest version, the working layer or a version among the arguments has it, and
    VERSION/PATH in one argument is both; a version may follow it, too. After `versions_max` versions every argument is
    a path. Raises UnknownVersion for an argument that is neither (with `paths_first` that is a path), a usage error
    for too many paths.
    """
    found = VersionsAndPaths([], [])
    for word in words:
        if len(found.versions) == versions_max:
            found.paths.append(path_argument(opened, word, found.versions))
        else:
            _sort(opened, word, found, paths_first=paths_first)
    if len(words) == 1 and found.versions and not found.paths:
        _warn_if_also_a_path(opened, words[0])
    if paths_max is not None and len(found.paths) > paths_max:
        raise click.UsageError(f"Name {paths_max} PATH, not {len(found.paths)}.")
    return found


def _sort(opened: OpenRepository, word: str, found: VersionsAndPaths, *, paths_first: bool) -> None:
    version = named(opened, word) if word or not paths_first else None
    path = _path_of(opened, word, found.versions) if version is None or found.paths or paths_first else None
    if version is not None and path is None:
        found.versions.append(version)
    elif path is not None:
        found.paths.append(path)
    elif (both := _version_in(opened, word)) is not None:
        found.versions.append(both[0])
        found.paths.append(both[1])
    elif paths_first:
        found.paths.append(path_argument(opened, word, ()))
    else:
        raise _neither(opened, word)


def named(opened: OpenRepository, word: str) -> Version | None:
    """Returns the version that an argument names, None where it names none. Raises for a forgotten or an empty one."""
    try:
        return opened.repository.resolve(word, zone=None)
    except ForgottenVersion:
        raise
    except UnknownVersion:
        if not unmarked(word):
            raise
        return None


def _interpretations(opened: OpenRepository, word: str) -> Iterator[tuple[Place, str]]:
    """Yields what a path can mean: relative to the place, and a path from outside into a mount of the repository."""
    yield opened.place, word
    if opened.place.mount is None and word:
        absolute = Path(os.path.abspath(word))
        for mount in live_mounts():
            if mount.repository == opened.place.repository and absolute.is_relative_to(mount.path):
                yield msgspec.structs.replace(opened.place, mount=mount), str(absolute)


def _path_of(opened: OpenRepository, word: str, versions: Sequence[Version]) -> bytes | None:
    """Returns the path that an argument names, if one of the versions, the newest one or the working layer has it."""
    for place, text in _interpretations(opened, word):
        try:
            path = path_in(place, text)
        except InvalidInput:
            continue
        is_plain = not any(is_marked(name) for name in text.split("/")) or _version_in(opened, word) is None
        if is_plain and (not path or exists(opened, path, versions)):
            return path
    return None


def path_argument(opened: OpenRepository, word: str, versions: Sequence[Version]) -> bytes:
    """Returns an argument as a path, of one of the versions if there are some.

    Raises InvalidInput for an empty argument, and for one that leads out of the root.
    """
    path = path_in(opened.place, word)
    if versions and not any(_has(opened, version, path) for version in versions):
        for place, text in islice(_interpretations(opened, word), 1, None):
            return path_in(place, text)
    return path


def exists(opened: OpenRepository, path: bytes, versions: Sequence[Version] = ()) -> bool:
    """Returns True if one of the versions, the newest one or the working layer has a path."""
    newest = opened.repository.head(opened.branch)
    if any(_has(opened, version, path) for version in (*versions, *([newest] if newest is not None else []))):
        return True
    with suppress(VfsError):
        # An unresponsive daemon of the working layer does not stop the parsing of arguments.
        return any(change.path == path and change.new is not None for change in _uncommitted(opened))
    return False


def _uncommitted(opened: OpenRepository) -> Iterator[PathChange]:
    # Only a path that no version has is looked for there; the import takes half as long as a whole `vfs log`.
    changes: Iterator[PathChange] = importlib.import_module("vfs.cli.opening.working_layer").uncommitted(opened)
    return changes


def _has(opened: OpenRepository, version: Version, path: bytes) -> bool:
    from vfs.store.trees.directories import resolve_path

    try:
        resolve_path(opened.repository.store, version.commit.root, path)
    except (NotFound, NotADirectory):
        return False
    return True


def _version_in(opened: OpenRepository, word: str) -> tuple[Version, bytes] | None:
    """Returns the version and the path of an argument that names both: `v1/images`, `images/@v1`, `@/tags/paper/a`."""
    found = [meaning for place, text in _interpretations(opened, word) for meaning in _meanings(opened, place, text)]
    return next((each for each in found if _has(opened, *each)), found[0] if found else None)


def _meanings(opened: OpenRepository, place: Place, text: str) -> Iterator[tuple[Version, bytes]]:
    if place.mount is not None and os.path.isabs(text):
        absolute = Path(os.path.normpath(text))
        if not absolute.is_relative_to(place.mount.path):
            return
        text = f"/{absolute.relative_to(place.mount.path)}"
    names = text.split("/")
    for number, name in enumerate(names):
        version, rest = name, names[:number] + names[number + 1 :]
        chosen = parse_mount_path([os.fsencode(each) for each in names[number:]]).chosen
        if isinstance(chosen, Listed) and chosen.list in (VERSIONS, TAGS):
            version, rest = os.fsdecode(chosen.name), names[:number] + names[number + 3 :]
        elif not is_marked(name) and (number > 0 or len(names) == 1):
            continue
        found = named(opened, version) if unmarked(version) else None
        if found is not None:
            path = "/".join(rest)
            yield found, path_in(place, "/" + path.lstrip("/") if text.startswith("/") else path or ".")


def _warn_if_also_a_path(opened: OpenRepository, word: str) -> None:
    newest = opened.repository.head(opened.branch)
    with suppress(InvalidInput):
        path = path_in(opened.place, word)
        if path and newest is not None and _has(opened, newest, path):
            echo_err(f"vfs: {word} is taken as a version; ./{word} is the path.")


def _neither(opened: OpenRepository, word: str) -> UnknownVersion:
    """Returns the error for an argument that is neither a version nor a path, with similar names.

    Raises InvalidInput for a path that leads out of the root.
    """
    path_in(opened.place, word)
    try:
        opened.repository.resolve(word, zone=None)
    except UnknownVersion as error:
        newest = opened.repository.head(opened.branch)
        if newest is None or looks_like_a_version(word) or parse_span(word) is not None:
            return error
        close = _close_names(opened, newest, word)
        hint = f"Did you mean {' or '.join(close)}?" if close else error.hint
        message = f"{error.message}, and {newest.name} has no such path"
        return UnknownVersion(message, hint=hint)
    raise AssertionError(f"{word!r} names a version")


def _close_names(opened: OpenRepository, newest: Version, word: str) -> list[str]:
    import difflib

    from vfs.store.trees.directories import entries, resolve_path

    head, _, tail = word.rpartition("/")
    try:
        above = resolve_path(opened.repository.store, newest.commit.root, path_in(opened.place, head or ".")).entry
    except (NotFound, NotADirectory, InvalidInput):
        return []
    names = [show_path(entry.name) for entry in islice(entries(opened.repository.store, above), _NAMES_COMPARED_MAX)]
    return [f"{head}/{name}" if head else name for name in difflib.get_close_matches(tail, names, 3, 0.6)]


def looks_like_a_version(word: str) -> bool:
    """Returns True if an argument has the form of a version's number or `latest`, existing or not."""
    return is_surely_a_version(unmarked(word))
