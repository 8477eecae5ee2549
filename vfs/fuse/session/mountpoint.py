"""Mount points: which are allowed, and which mount is there. Needs no event loop, so all commands may use it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from vfs.control.busy_processes import holders_of
from vfs.control.mount_table import MOUNT_TYPE, parse_table, read_table
from vfs.errors import Advice, Busy, Hint, InvalidInput, NotADirectory, NotEmpty, NotFound, VfsError
from vfs.fuse.session.guard_process import MNT_DETACH, UMOUNT_NOFOLLOW, unmount_exactly
from vfs.model.names import show_path

log = logging.getLogger(__name__)

SUBTYPE = "vfs"

_PLAIN = "/-._~+@:"
_BRANCH_MARK = "#"
"""Between a repository and a branch in a mount's source; in neither of them, as they are encoded."""
_NOT_MOUNTED = "nothing is mounted there"
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
_UNMOUNT_TIMEOUT_S = 30.0
LOCK_WAIT_S = 5.0
"""How long a mount waits for a mount point that another process has locked."""
HELD_S = 3.0
"""How long to wait for what holds a mount and is not found."""
_RETRY_S = 0.05
_HOLDERS_S = 1.0
"""How long to wait before what holds a mount is looked for again: that reads all of /proc."""


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
    """Returns the mount at an absolute path, the topmost of several, or None."""
    lines = [line for line in (read_table() if table is None else parse_table(table)) if line.path == path]
    if not lines:
        return None
    top = lines[-1]
    return MountedHere(path, top.type, top.source.decode(), top.device, top.is_filesystem_read_only)


@contextmanager
def claimed(
    mountpoint: Path, repository: Path, *, waiting: Callable[[str], None] = log.warning, timeout_s: float = LOCK_WAIT_S
) -> Iterator[Path]:
    """Yields the mountpoint's real path, ready to mount on, while no other process of this program may mount there.

    Unmounts a dead mount of a repository first. Waits `timeout_s` for another process to unlock the directory, and
    tells `waiting` so: what a killed daemon had started ends a moment after it.

    Raises NotFound, NotADirectory, NotEmpty, Busy (a repository is mounted there or about to be) or InvalidInput (the
    mount and the repository would contain each other).
    """
    # Not strict: a dead mount answers no question about itself, and is its own real path.
    path = Path(os.path.realpath(mountpoint))
    shown = show_path(os.fsencode(mountpoint))
    _take_away_dead(path, shown)
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"the mount point {shown} does not exist", hint=f"Make it with `mkdir {shown}`.") from None
    except NotADirectoryError:
        raise NotADirectory(f"the mount point {shown} is not a directory") from None
    try:
        _lock(directory, shown, waiting, time.monotonic() + timeout_s)
        _check_apart(path, Path(os.path.realpath(repository)), shown)
        # Checked with the lock held: what another process mounted before it is visible here.
        _check_free(path, shown)
        yield path
    finally:
        os.close(directory)


def _lock(directory: int, shown: str, waiting: Callable[[str], None], deadline: float) -> None:
    """Locks the directory that a mount will cover. Raises Busy if another process keeps it locked."""
    is_told = False
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise Busy(f"another mount is being made at {shown}", hint="Choose another directory.") from error
        except OSError as error:
            # Some network filesystems cannot lock directories: there two mounts at the same moment are not excluded.
            log.info("%s: not locked: %s", shown, error.strerror)
            return
        else:
            return
        if not is_told:
            is_told = True
            waiting(f"waited for another process to leave the mount point {shown}")
        time.sleep(_RETRY_S)


def _check_free(path: Path, shown: str) -> None:
    here = mounted_at(path)
    if here is not None and here.type == MOUNT_TYPE:
        other = show_path(os.fsencode(here.repository))
        raise Busy(f"{other} is mounted at {shown} already", hint=Hint(Advice.UNMOUNT_FIRST, {"mountpoint": shown}))
    with os.scandir(path) as entries:
        if next(entries, None) is not None:
            raise NotEmpty(
                f"the mount point {shown} is not empty; a mount would hide its content",
                hint="Choose an empty directory.",
            )


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
    """Unmounts a dead mount of a repository, if there is one. Raises Busy for a dead mount of another type."""
    here = mounted_at(path)
    try:
        os.stat(path)
        # The kernel may answer stat from its cache, even for a dead mount; statvfs always asks the daemon.
        os.statvfs(path)
    except OSError as error:
        if error.errno not in _DEAD:
            return
    else:
        return
    if here is None or here.type != MOUNT_TYPE:
        kind = here.type if here is not None else "unknown"
        raise Busy(f"a dead mount of type {kind} is at {shown}", hint=f"Take it away with `umount -l {shown}`.")
    if os.getuid() != 0:
        unmount(path, lazy=True)
        return
    # Another process may do the same, and mount again: unmount only the mount that was found dead.
    try:
        unmount_exactly(path, here.device, MNT_DETACH)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise


def unmount(path: Path, *, lazy: bool = False, holders: Callable[[Path], Sequence[str]] = holders_of) -> None:
    """Unmounts the mount at a path. Raises Busy if it is in use, unless lazy, or VfsError with the reason.

    While no `holders` are found, it tries again until HELD_S are over. A thread that waits for the mount's answer holds
    it, and nothing shows that: one of a daemon that has just begun and asks whether the mount answers, or of one that
    was killed then, which ends when its successor has answered.
    """
    take_away = _unmount_as_root if os.getuid() == 0 else _unmount_as_owner
    look_at = time.monotonic()
    deadline = look_at + HELD_S
    while "busy" in (reason := take_away(path, lazy=lazy)):
        now = time.monotonic()
        if now >= deadline or (now >= look_at and holders(path)):
            hint = "Leave it and close its files, then try again."
            raise Busy(f"{show_path(os.fsencode(path))} is in use", hint=hint)
        if now >= look_at:
            look_at = now + _HOLDERS_S
        time.sleep(_RETRY_S)
    if reason:
        raise VfsError(reason)


def _unmount_as_root(path: Path, *, lazy: bool) -> str:
    # Not by umount(8), which asks the mount for its attributes and hangs if the daemon does not answer.
    library = ctypes.CDLL(None, use_errno=True)
    if not library.umount2(os.fsencode(path), UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)):
        return ""
    number = ctypes.get_errno()
    words = _NOT_MOUNTED if number == errno.EINVAL else os.strerror(number)
    return f"{show_path(os.fsencode(path))}: {words}"


def _unmount_as_owner(path: Path, *, lazy: bool) -> str:
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", os.fspath(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_UNMOUNT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"fusermount3: {error}"
    text = done.stderr.decode(errors="replace").strip()
    if "not found in /etc/mtab" in text:
        shown = show_path(os.fsencode(path))
        if mounted_at(path) is None:
            # It has ended meanwhile.
            return f"{shown}: {_NOT_MOUNTED}"
        return f"{shown} was mounted by another user, who can end it, as root can"
    return "" if done.returncode == 0 else text or f"exit status {done.returncode}"
