"""Where a mount may go and what is mounted there; needs no event loop, so commands that do not mount may use it."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from vfs.errors import Busy, InvalidInput, NotADirectory, NotEmpty, NotFound, VfsError
from vfs.model.names import show_path

MOUNT_TYPE = "fuse.vfs"
SUBTYPE = "vfs"

_PLAIN = "/-._~+@:"
_BRANCH_MARK = "#"
"""Between a repository and a branch in a mount's source; in neither of them, as they are encoded."""
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
_OCTAL = re.compile(rb"\\([0-7]{3})")
_UNMOUNT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How a repository is mounted. Without `suid` and `dev`, set-user-id bits and device nodes have no effect.

    `branch`: the one in the mount's root, for as long as it lasts; None: the current one, also after a switch.
    """

    branch: str | None = None
    read_only: bool = False
    allow_other: bool = False
    dev: bool = False
    suid: bool = False
    list_versions: bool = False

    def for_kernel(self, repository: Path) -> set[str]:
        """Returns the options of the mount call; the type is `fuse.vfs`."""
        options = {
            "default_permissions",
            # Reads that the kernel answers from its cache are not seen, so no access time would be right.
            "noatime",
            f"fsname={source_of(repository, self.branch)}",
            f"subtype={SUBTYPE}",
            "dev" if self.dev else "nodev",
            "suid" if self.suid else "nosuid",
        }
        if self.read_only:
            options.add("ro")
        if self.allow_other:
            options.add("allow_other")
        return options


@dataclass(frozen=True, slots=True)
class MountedHere:
    """A line of the kernel's mount table. `device` is `MAJOR:MINOR`."""

    path: Path
    type: str
    source: str
    device: str
    is_read_only: bool = False

    @property
    def repository(self) -> Path:
        """The repository that a `fuse.vfs` mount shows."""
        return Path(os.fsdecode(unquote_to_bytes(self.source.partition(_BRANCH_MARK)[0])))


def source_of(repository: Path, branch: str | None = None) -> str:
    """Returns the mount source of a repository: its absolute path, percent-encoded, and the branch that stays."""
    source = quote_from_bytes(os.fsencode(repository), safe=_PLAIN)
    return source if branch is None else f"{source}{_BRANCH_MARK}{quote_from_bytes(os.fsencode(branch), safe=_PLAIN)}"


def mounted_at(path: Path, table: bytes | None = None) -> MountedHere | None:
    """Returns what is mounted exactly at an absolute path, the topmost where there are several, or None."""
    if table is None:
        table = Path("/proc/self/mountinfo").read_bytes()
    wanted = os.fsencode(path)
    found = None
    for line in table.splitlines():
        before, _, after = line.partition(b" - ")
        fields, rest = before.split(b" "), after.split(b" ")
        if len(fields) > 4 and len(rest) > 2 and _plain(fields[4]) == wanted:
            is_read_only = b"ro" in rest[2].split(b",")
            found = MountedHere(path, rest[0].decode(), _plain(rest[1]).decode(), fields[2].decode(), is_read_only)
    return found


def _plain(field: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field)


def prepare_mountpoint(mountpoint: Path, repository: Path) -> Path:
    """Returns the mountpoint's real path, ready to mount on; a dead mount of ours is taken away first.

    Raises NotFound, NotADirectory, NotEmpty, Busy (something of ours is mounted there) or InvalidInput (the mount and
    the repository would contain each other).
    """
    # Not strict: a dead mount answers no question about itself, and is its own real path.
    path = Path(os.path.realpath(mountpoint))
    shown = show_path(os.fsencode(mountpoint))
    try:
        os.stat(path)
        # The kernel keeps a mount's attributes for ever, also those of a dead one: this question it asks each time.
        os.statvfs(path)
    except FileNotFoundError:
        raise NotFound(f"the mount point {shown} does not exist", hint=f"Make it with `mkdir {shown}`.") from None
    except OSError as error:
        if error.errno not in _DEAD:
            raise
        _take_away_dead(path, shown)
    if not path.is_dir():
        raise NotADirectory(f"the mount point {shown} is not a directory")
    here = mounted_at(path)
    if here is not None and here.type == MOUNT_TYPE:
        other = show_path(os.fsencode(here.repository))
        raise Busy(f"{other} is mounted at {shown} already", hint=f"Unmount it first with `vfs umount {shown}`.")
    _check_apart(path, Path(os.path.realpath(repository)), shown)
    with os.scandir(path) as entries:
        if next(entries, None) is not None:
            raise NotEmpty(
                f"the mount point {shown} is not empty; a mount would hide what is in it",
                hint="Choose an empty directory.",
            )
    return path


def _check_apart(path: Path, repository: Path, shown: str) -> None:
    if path.is_relative_to(repository):
        raise InvalidInput(
            f"the mount point {shown} is inside the repository", hint="Choose a directory outside the repository."
        )
    if repository.is_relative_to(path):
        raise InvalidInput(
            f"the repository is inside the mount point {shown}, which would hide it",
            hint="Choose a directory that does not contain the repository.",
        )


def _take_away_dead(path: Path, shown: str) -> None:
    here = mounted_at(path)
    if here is None or here.type != MOUNT_TYPE:
        kind = here.type if here is not None else "unknown"
        raise Busy(f"a dead mount of type {kind} is at {shown}", hint=f"Take it away with `umount -l {shown}`.")
    unmount(path, lazy=True)


def unmount(path: Path, *, lazy: bool = False) -> None:
    """Unmounts what is at a path. Raises Busy while files in it are open, unless lazy, or VfsError with the reason."""
    is_root = os.getuid() == 0
    command = ["umount"] if is_root else ["fusermount3", "-u"]
    if lazy:
        command.append("-l" if is_root else "-z")
    try:
        done = subprocess.run([*command, "--", path], capture_output=True, timeout=_UNMOUNT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise VfsError(f"{command[0]}: {error}") from error
    if done.returncode == 0:
        return
    text = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
    if "busy" in text:
        raise Busy(f"{show_path(os.fsencode(path))} is in use", hint="Leave it and close its files, then try again.")
    raise VfsError(text)
