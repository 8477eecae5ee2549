"""`vfs umount`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vfs.cli.holders import shown_holders
from vfs.cli.locate import MountPoint, enclosing_mount, live_mounts
from vfs.cli.output import say
from vfs.cli.verb import DirectoryWord, verb
from vfs.errors import Busy, NotFound
from vfs.fuse.mountpoint import mounted_at, unmount
from vfs.model.names import show_path
from vfs.repo.control import wait_until_closed
from vfs.repo.repository import Repository

CLOSING_TIMEOUT_S = 600.0
"""How long the daemon may take to finish what it does; an operation under way is waited for."""


@verb(
    "umount",
    "vfs umount data                 uncommitted changes are kept for the next mount",
    interrupted="The mount may still be ending; uncommitted changes are kept.",
)
@click.argument("mountpoint", metavar="MNT", type=DirectoryWord())
def command(mountpoint: Path) -> None:
    """End a mount and wait until its daemon is gone. `umount` and `fusermount3 -u` do so too, without waiting."""
    mount = _mount_at(mountpoint)
    shown = show_path(os.fsencode(mountpoint))
    here = mounted_at(mount.path)
    try:
        unmount(mount.path)
    except Busy as error:
        seen = shown_holders(mount.path)
        hint = f"Close what holds it, then try again:\n  {seen}" if seen else error.hint
        raise Busy(f"{shown} is in use", hint=hint) from error
    # A read-only mount has no working layer to close; another mount may have it.
    is_writable = here is not None and not here.is_read_only
    branch = _branch_of(mount) if is_writable else ""
    if is_writable and not wait_until_closed(mount.repository, branch, CLOSING_TIMEOUT_S):
        raise Busy(
            f"{shown} is unmounted, but its daemon has not ended",
            hint=f"Its log is {show_path(os.fsencode(mount.repository / 'run'))}/{branch}.log.",
        )
    say(f"Unmounted {shown}.")


def _branch_of(mount: MountPoint) -> str:
    if mount.branch is not None:
        return mount.branch
    with Repository.open(mount.repository) as repository:
        return repository.current_branch


def _mount_at(mountpoint: Path) -> MountPoint:
    # The last component is not resolved: nothing in a dead mount can be asked for.
    path = Path(os.path.realpath(mountpoint.absolute().parent), mountpoint.name)
    mounts = live_mounts()
    for candidate in (path, Path(os.path.abspath(mountpoint)), Path(os.path.realpath(mountpoint))):
        # The last one is on top where several lie over each other.
        found = [mount for mount in mounts if mount.path == candidate]
        if found:
            return found[-1]
    shown = show_path(os.fsencode(mountpoint))
    around = enclosing_mount(Path(os.path.realpath(mountpoint)), mounts)
    if around is not None:
        hint = f"It is inside the mount {show_path(os.fsencode(around.path))}."
    elif mounts:
        hint = "Mounted are: " + ", ".join(show_path(os.fsencode(mount.path)) for mount in mounts) + "."
    else:
        hint = "Nothing of this program is mounted."
    raise NotFound(f"nothing of this program is mounted at {shown}", hint=hint)
