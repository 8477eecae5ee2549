"""Where a command works: which repository, and which place in it the current directory is.

A mount names its repository itself: its source in the kernel's mount table is the percent-encoded absolute path of
the repository, its type `fuse.vfs`; behind a `#` stands the branch of a mount that stays at one. So a command inside a
mount needs no option and no registry, and finds the repository even when the mount's daemon is dead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote_to_bytes

from vfs.errors import Conflict, InvalidInput, NotFound
from vfs.model.names import show_path

CONFIG_NAME = "vfs.json"
"""The file that makes a directory a repository."""

_MOUNT_TYPE = b"fuse.vfs"
_MOUNTINFO = Path("/proc/self/mountinfo")
_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One mount of a repository, as the kernel lists it. `branch` is None where it follows the current one."""

    path: Path
    repository: Path
    is_read_only: bool = False
    branch: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """The repository to work on, and the directory of it that relative paths start from.

    `position` is relative to a version's root and empty outside a mount. `mount` is the one the place is in, `branch`
    the one whose working layer it is in, None where that is the repository's current one.
    """

    repository: Path
    mount: MountPoint | None = None
    position: bytes = b""
    branch: str | None = None


def parse_mounts(table: bytes) -> list[MountPoint]:
    """Returns the vfs mounts of a `mountinfo` table in its order; the last one on a path is on top."""
    mounts = []
    for line in table.splitlines():
        before, separator, after = line.partition(b" - ")
        fields, rest = before.split(b" "), after.split(b" ")
        if separator and len(fields) > 5 and len(rest) > 1 and rest[0] == _MOUNT_TYPE:
            source, _, branch = _unescape(rest[1]).partition(b"#")
            path = Path(os.fsdecode(_unescape(fields[4])))
            repository = Path(os.fsdecode(unquote_to_bytes(source)))
            named = os.fsdecode(unquote_to_bytes(branch)) or None
            mounts.append(MountPoint(path, repository, b"ro" in fields[5].split(b","), named))
    return mounts


def live_mounts() -> list[MountPoint]:
    """Returns the vfs mounts that this process sees; empty where there is no mount table."""
    try:
        return parse_mounts(_MOUNTINFO.read_bytes())
    except OSError:
        return []


def _unescape(field: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field)


def enclosing_mount(path: Path, mounts: Iterable[MountPoint]) -> MountPoint | None:
    """Returns the innermost mount that an absolute path lies in, or None."""
    found: MountPoint | None = None
    for mount in mounts:
        if path.is_relative_to(mount.path) and (found is None or len(mount.path.parts) >= len(found.path.parts)):
            found = mount
    return found


def position_in(mount: MountPoint, path: Path) -> bytes:
    """Returns where a path in a mount is in the data: without the mount's root and the names that choose a version."""
    parts = list(path.relative_to(mount.path).parts)
    if parts[:1] == ["@"]:
        # `@/versions/v1/…`, `@/tags/NAME/…`, `@/branches/NAME/…`
        parts = parts[3:]
    elif parts and parts[0].startswith("@") and ".." in parts[0]:
        # `@v1..@v2/added/…`
        parts = parts[2:]
    elif parts and parts[0].startswith("@"):
        parts = parts[1:]
    return b"/".join(os.fsencode(part) for part in parts)


def branch_in(mount: MountPoint, path: Path) -> str | None:
    """Returns the branch whose working layer a path in a mount is in; None for the repository's current one."""
    parts = path.relative_to(mount.path).parts
    return parts[2] if len(parts) > 2 and parts[:2] == ("@", "branches") else mount.branch


def find_place(given: str | None, environment: str | None, *, directory: str | None = None) -> Place:
    """Returns where to work: `--repo`, the mount or repository around the current directory, or VFS_REPO.

    What is around the current directory wins over VFS_REPO, since a person looks at where they are; `--repo` wins over
    both, and says which branch where it names a mount. Paths stay relative to the current directory when it is in a
    mount of the repository that was given.
    Raises NotFound with a hint that names all the ways; Conflict where a switch has left the current directory on
    another branch than its path leads to.
    """
    mounts = live_mounts()
    here = Path(directory) if directory is not None else _current_directory()
    around = _place_around(here, mounts)
    if directory is None and around is not None and around.mount is not None:
        _require_there(here)
    if given is None and around is not None:
        return around
    # An empty variable is one that is not set; an empty word is a mistake, which `named_repository` tells.
    named = given if given is not None else environment or None
    if named is None:
        raise NotFound(
            f"no repository at {show_path(os.fsencode(here))} or above it",
            hint="Give --repo REPO, set VFS_REPO, go into a mount or a repository, or make one with `vfs init REPO`.",
        )
    through = _named_mount(named, mounts)
    if through is not None:
        mount, path = through
        branch = branch_in(mount, path)
        if around is not None and around.repository == mount.repository:
            return replace(around, branch=branch)
        return Place(mount.repository, branch=branch)
    repository = named_repository(named)
    if around is not None and around.repository == repository:
        return around
    return Place(repository)


def _current_directory() -> Path:
    try:
        return Path(os.getcwd())
    except FileNotFoundError:
        raise NotFound("the current directory does not exist any more", hint="Change into one that does.") from None


def _require_there(here: Path) -> None:
    """Raises Conflict where the current directory is another one than its path leads to now."""
    try:
        is_there = os.path.samestat(os.stat("."), os.stat(here))
    except FileNotFoundError:
        is_there = False
    except OSError:
        # A dead mount answers nothing, and is asked nothing by most commands.
        return
    if not is_there:
        raise Conflict(
            "the current directory is the one of another branch: the mount was switched",
            hint='`cd "$PWD"` goes to where its path leads now; the old one is below MNT/@/branches.',
        )


def named_repository(named: str, mounts: Iterable[MountPoint] = ()) -> Path:
    """Returns the absolute path of a repository that was named by its directory or by a mount of it.

    Raises NotFound where there is nothing, InvalidInput where there is something else.
    """
    through = _named_mount(named, mounts)
    if through is not None:
        return through[0].repository
    path = Path(os.path.realpath(named))
    if is_repository(path):
        return path
    shown = show_path(os.fsencode(named))
    if not path.exists():
        raise NotFound(f"no repository at {shown}: nothing is there", hint=f"Make one with `vfs init {shown}`.")
    raise InvalidInput(
        f"{shown} is no repository: it has no {CONFIG_NAME}",
        hint="Name the directory that `vfs init` made, or a directory where it is mounted.",
    )


def _named_mount(named: str, mounts: Iterable[MountPoint]) -> tuple[MountPoint, Path] | None:
    """Returns the mount that a named directory is in, with its path there; None also where nothing is there.

    Raises InvalidInput for an empty name.
    """
    if not named:
        raise InvalidInput(
            "the name of the repository is empty", hint="Name its directory, or one where it is mounted."
        )
    # Without resolving links first: a dead mount answers no stat, so its mount point is believed to be there.
    for found in (Path(os.path.abspath(named)), Path(os.path.realpath(named))):
        mount = enclosing_mount(found, mounts)
        if mount is not None and (found == mount.path or os.path.exists(found)):
            return mount, found
    return None


def is_repository(path: Path) -> bool:
    """Whether a directory holds a repository."""
    try:
        return (path / CONFIG_NAME).is_file()
    except OSError:
        return False


def _place_around(here: Path, mounts: list[MountPoint]) -> Place | None:
    mount = enclosing_mount(here, mounts)
    if mount is not None:
        return Place(mount.repository, mount, position_in(mount, here), branch_in(mount, here))
    for directory in (here, *here.parents):
        if is_repository(directory):
            return Place(directory)
    return None


def path_in(place: Place, text: str) -> bytes:
    """Returns a path argument as a path from a version's root.

    Relative paths start at the place's position, `/…` at the root; an absolute path into the mount works as well.
    `.` and `..` are resolved as text. Raises InvalidInput for a path that leaves the root, and for an empty one: a
    variable that was never set is not meant to be everything.
    """
    if not text:
        raise InvalidInput("a path is empty", hint="Write `.` for the current directory, `/` for everything.")
    if place.mount is not None and os.path.isabs(text):
        absolute = Path(os.path.normpath(text))
        if absolute.is_relative_to(place.mount.path):
            return position_in(place.mount, absolute)
    path = os.fsencode(text)
    if not path.startswith(b"/"):
        path = place.position + b"/" + path
    names: list[bytes] = []
    for name in path.split(b"/"):
        if name == b"..":
            if not names:
                raise InvalidInput(f"{show_path(os.fsencode(text))} leads out of the data's root")
            names.pop()
        elif name not in (b"", b"."):
            names.append(name)
    return b"/".join(names)
