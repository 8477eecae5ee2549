"""Finding the repository that a command works on, and the place in it that the current directory is.

A mount names its repository: its source in the kernel's mount table is the percent-encoded absolute path of
the repository, its type `fuse.vfs`; the branch of a mount with a fixed branch follows a `#`. So a command inside a
mount needs no option and no registry, and finds the repository even when the mount's daemon is dead.

A bind mount shows a part of a mount elsewhere. The daemon reports its branch and directory in extended attributes of
the directory; where it does not respond, the part's path in the mount table counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from vfs.control.mount_description import Introduction
from vfs.control.mount_points import MountPoint, enclosing_mount, live_mounts
from vfs.control.mount_table import MountLine, read_table
from vfs.errors import Conflict, InvalidInput, NotFound
from vfs.model.layout import MountPath, parse_mount_path
from vfs.model.names import show_path
from vfs.repo.file_metadata import BRANCH_XATTR, MOUNT_XATTR, PATH_XATTR
from vfs.repo.paths import CONFIG
from vfs.repo.repository_anchor import identity_of, moved


class Place(msgspec.Struct, frozen=True):
    """The repository to work on, and the directory of it that relative paths start from.

    `position` is relative to a version's root and empty outside a mount. `mount` is the mount around the place,
    `branch` the branch of the working layer around it (None: the repository's current one). `identity`: of the
    repository's directory, as the mount reports it.
    """

    repository: Path
    mount: MountPoint | None = None
    position: bytes = b""
    branch: str | None = None
    identity: bytes = b""

    def shows(self, other: Place) -> bool:
        """Returns True if a place in a mount is in another place's repository."""
        identity = other.identity or identity_of(other.repository)
        return self.identity == identity if self.identity and identity else self.repository == other.repository

    def require_there(self) -> None:
        """Raises Moved where the mount's repository is not where it was mounted from."""
        if self.mount is None:
            return
        if not is_repository(self.repository):
            _require_reachable(self.repository)
            raise moved(self.repository, "was moved or removed")
        if self.identity and self.identity != identity_of(self.repository):
            raise moved(self.repository, "was moved, and another one put in its place,")


def names_in(mount: MountPoint, path: Path) -> list[bytes]:
    """Returns the names of a path in a mount, from the root of the whole mount."""
    names = [*Path(os.fsdecode(mount.root)).parts, *path.relative_to(mount.path).parts]
    return [os.fsencode(name) for name in names]


def _inside(mount: MountPoint, path: Path) -> MountPath:
    """Returns what a path in a mount leads to."""
    return parse_mount_path(names_in(mount, path))


def position_in(mount: MountPoint, path: Path) -> bytes:
    """Returns where a path in a mount is in the data: without the mount's root and the names that choose a version."""
    return _inside(mount, path).position


def branch_in(mount: MountPoint, path: Path) -> str | None:
    """Returns the branch whose working layer a path in a mount is in; None for the repository's current one."""
    branch = _inside(mount, path).branch
    return os.fsdecode(branch) if branch else mount.branch


class DirectoryInfo(msgspec.Struct, array_like=True):
    """What the daemon reports about a directory in a mount.

    `exists`: something is at its path; assumed of a dead mount. `is_current`: it is the caller's current directory.
    `repository`: the nearest repository from there up, below the data's root, or empty. `branch` and `path`: of the
    working layer around it, empty where there is none or the daemon does not report them. `identity`: of the mount's
    repository, also after that was moved.
    """

    exists: bool = True
    is_current: bool = True
    repository: bytes = b""
    branch: bytes = b""
    path: bytes = b""
    identity: bytes = b""


def _read_directory_info(here: Path, mount: MountPoint) -> DirectoryInfo:
    """Reads it from the mount, which its daemon serves."""
    seen = DirectoryInfo()
    try:
        status = os.stat(here)
        seen.is_current = os.path.samestat(os.stat("."), status)
    except (FileNotFoundError, NotADirectoryError):
        return DirectoryInfo(exists=False, is_current=False)
    except OSError:
        # Most commands do not need a dead mount to respond.
        return DirectoryInfo()
    for directory in (here, *here.parents):
        if not position_in(mount, directory):
            # The data's root is the mount, whatever files it has.
            break
        if is_repository(directory):
            seen.repository = os.fsencode(directory)
            break
        if directory == mount.path:
            break
    with suppress(OSError):
        said = Introduction.read(os.getxattr(mount.path, MOUNT_XATTR))
        seen.identity = said.identity if said is not None else b""
    if mount.root:
        try:
            seen.branch, seen.path = os.getxattr(here, BRANCH_XATTR), os.getxattr(here, PATH_XATTR)
        except OSError:
            # In a version, which has no branch; for a dead mount the mount table is enough.
            seen.branch = seen.path = b""
    return seen


def _directory_info(here: Path, mount: MountPoint) -> DirectoryInfo:
    from vfs.control.mount_probe import read_from_mount

    answer = read_from_mount(
        mount.path, mount.repository, lambda: msgspec.msgpack.encode(_read_directory_info(here, mount))
    )
    return msgspec.msgpack.decode(answer, type=DirectoryInfo)


def _place_in(mount: MountPoint, here: Path, seen: DirectoryInfo) -> Place:
    """Returns the place of a directory in a mount: in a nearer repository, or in the mount's."""
    if seen.repository:
        return Place(Path(os.fsdecode(seen.repository)))
    if seen.branch:
        return Place(mount.repository, mount, seen.path, os.fsdecode(seen.branch), seen.identity)
    return Place(mount.repository, mount, position_in(mount, here), branch_in(mount, here), seen.identity)


def find_place(given: str | None, environment: str | None, *, directory: str | None = None) -> Place:
    """Returns where to work: `--repo`, the mount or repository around the current directory, or VFS_REPO.

    The repository or mount around the current directory, the nearer one of both, takes precedence over VFS_REPO.
    `--repo` takes precedence over both, and sets the branch where it names a mount. Paths stay relative to the current
    directory where that is in a mount of the repository.
    Raises NotFound with a hint that names all the ways; Conflict where a switch has left the current directory on
    another branch than its path leads to; Unresponsive where a mount does not respond.
    """
    lines = read_table()
    here = Path(directory) if directory is not None else _current_directory()
    around = _place_around(here, lines, is_current=directory is None)
    if given is None and around is not None:
        return around
    # An empty variable counts as unset; an empty argument is an error, which `_named_place` raises.
    named = given if given is not None else environment or None
    if named is None:
        raise NotFound(
            f"no repository at {show_path(os.fsencode(here))} or above it",
            hint="Give --repo REPO, set VFS_REPO, go into a mount or a repository, or make one with `vfs init REPO`.",
        )
    found = _named_place(named, lines)
    if around is not None and around.mount is not None and around.shows(found):
        branch = found.branch if found.mount is not None else around.branch
        return msgspec.structs.replace(around, repository=found.repository, branch=branch)
    return Place(found.repository, found.mount, branch=found.branch, identity=found.identity)


def _current_directory() -> Path:
    try:
        return Path(os.getcwd())
    except FileNotFoundError:
        raise NotFound("the current directory does not exist any more", hint="Change into one that does.") from None


def named_repository(named: str, lines: Iterable[MountLine] = ()) -> Path:
    """Returns the absolute path of a repository that is named by its directory or by a mount of it.

    Raises NotFound where nothing exists there, InvalidInput for something else.
    """
    return _named_place(named, lines).repository


def _named_place(named: str, lines: Iterable[MountLine]) -> Place:
    """Returns the place that a name stands for: a repository's directory, or one in a mount of it.

    Raises InvalidInput for an empty name.
    """
    if not named:
        raise InvalidInput(
            "the name of the repository is empty", hint="Name its directory, or one where it is mounted."
        )
    shown = show_path(os.fsencode(named))
    # Without resolving links first: a dead mount does not resolve them.
    for resolve in (os.path.abspath, os.path.realpath):
        found = Path(resolve(named))
        mount = enclosing_mount(found, lines)
        if mount is not None and (seen := _directory_info(found, mount)).exists:
            return _place_in(mount, found, seen)
    path = Path(os.path.realpath(named))
    if is_repository(path):
        return Place(path)
    _require_reachable(path)
    if not path.exists():
        raise NotFound(f"no repository at {shown}: nothing is there", hint=f"Make one with `vfs init {shown}`.")
    raise InvalidInput(
        f"{shown} is no repository: it has no {CONFIG}",
        hint="Name the directory that `vfs init` made, or a directory where it is mounted.",
    )


def is_repository(path: Path) -> bool:
    """Returns True if a directory is a repository."""
    try:
        return (path / CONFIG).is_file()
    except OSError:
        return False


def _require_reachable(path: Path) -> None:
    """Raises PermissionError for a directory that this user may not look into: it may well be a repository."""
    try:
        os.stat(path / CONFIG)
    except PermissionError:
        raise
    except OSError:
        pass


def _place_around(here: Path, lines: list[MountLine], *, is_current: bool) -> Place | None:
    for directory in (here, *here.parents):
        mount = enclosing_mount(directory, lines)
        if mount is not None:
            # Also where another filesystem is mounted on a directory of the mount, which it hides.
            seen = _directory_info(here, mount)
            if is_current and not seen.is_current:
                raise Conflict(
                    "the current directory is the one of another branch: the mount was switched",
                    hint='`cd "$PWD"` goes to where its path leads now; the old one is below MNT/@/branches.',
                )
            return _place_in(mount, here, seen)
        if is_repository(directory):
            return Place(directory)
    return None


def path_in(place: Place, text: str) -> bytes:
    """Returns a path argument as a path from a version's root.

    Relative paths start at the place's position, `/…` at the root; an absolute path into the mount works as well.
    `.` and `..` are resolved as text. Raises InvalidInput for a path that leaves the root, and for an empty one: an
    unset variable must not mean everything.
    """
    if not text:
        raise InvalidInput("a path is empty", hint="Write `.` for the current directory, `/` for everything.")
    if place.mount is not None and os.path.isabs(text):
        absolute = Path(os.path.normpath(text))
        for mount in (place.mount, *(other for other in live_mounts() if other.device == place.mount.device)):
            if absolute.is_relative_to(mount.path):
                return position_in(mount, absolute)
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
