"""What each mount of this machine is: its repository and branch, its daemon, and whether that answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from vfs.control.daemon_socket import Unresponsive, daemons_of, is_stopped
from vfs.control.mount_description import Introduction
from vfs.control.mount_points import MountPoint, live_mounts
from vfs.control.mount_probe import read_from_mount
from vfs.errors import VfsError
from vfs.repo.file_metadata import MOUNT_XATTR
from vfs.repo.repository import Repository
from vfs.repo.repository_anchor import identity_of

_SILENCE_S = 2.0

State = Literal["live", "dead", "stopped", "silent", "moved"]


@dataclass(frozen=True, slots=True)
class MountState:
    """A mount and its daemon.

    `branch`: the one in its root, None where it follows the current one and the repository does not open.
    `process`: the daemon's, 0 where it is unknown (dead, or in another PID namespace). `state`: `dead`: the daemon has
    ended; `stopped`: by a signal or a debugger; `silent`: it does not answer; `moved`: it serves, but the repository is
    not where it was mounted from.
    """

    mount: MountPoint
    branch: str | None
    process: int
    state: State


def mount_states() -> Iterator[MountState]:
    """Yields the mounts that this process sees, in the order of the kernel's table; asks each for two seconds."""
    for mount in live_mounts():
        yield _state_of(mount)


def _state_of(mount: MountPoint) -> MountState:
    branch = mount.branch if mount.branch is not None else _current_branch(mount)
    try:
        answer = read_from_mount(mount.path, mount.repository, lambda: _ask(mount), silence_s=_SILENCE_S)
    except Unresponsive:
        found = daemons_of(mount.repository)
        process = found[0] if len(found) == 1 else 0
        return MountState(mount, branch, process, "stopped" if process and is_stopped(process) else "silent")
    said = Introduction.read(answer)
    if said is None:
        return MountState(mount, branch, 0, "dead")
    if said.identity and said.identity != identity_of(mount.repository):
        return MountState(mount, branch, said.process, "moved")
    return MountState(mount, branch, said.process, "live")


def _ask(mount: MountPoint) -> bytes:
    # The kernel may answer other questions from its caches, also for a dead mount.
    os.statvfs(mount.path)
    return os.getxattr(mount.path, MOUNT_XATTR)


def _current_branch(mount: MountPoint) -> str | None:
    try:
        with Repository.open(mount.repository) as repository:
            return repository.current_branch
    except (VfsError, OSError):
        return None
