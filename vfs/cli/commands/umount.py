"""`vfs umount`."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click

from vfs.cli.command import DirectoryType, vfs_command
from vfs.cli.opening.locate import is_repository
from vfs.cli.runs.running_runs import running_in
from vfs.cli.terminal.output import echo, echo_err, warn
from vfs.control.busy_processes import holders_hint
from vfs.control.daemon_socket import is_stopped, unresponsive, wait_until_closed
from vfs.control.mount_description import Introduction
from vfs.control.mount_points import MountPoint, enclosing_mount, live_mounts
from vfs.control.mount_probe import introduction_of
from vfs.control.mount_table import MountLocation, mount_locations, read_table
from vfs.control.view_mounts import end_copies, run_of
from vfs.errors import Busy, NotFound, VfsError
from vfs.fuse.session.mountpoint import mounted_at, unmount
from vfs.model.names import show_path
from vfs.repo.paths import run_directory
from vfs.repo.repository import Repository
from vfs.repo.repository_anchor import identity_of
from vfs.repo.runs.records import find_run

CLOSING_TIMEOUT_S = 600.0
"""How long the daemon may take to finish what it does; an operation under way is waited for."""
QUIET_S = 2.0
"""How long the command waits before it reports that it does."""


@vfs_command(
    "umount",
    "vfs umount data                 uncommitted changes are kept for the next mount",
    interrupted="The mount may still be ending; uncommitted changes are kept.",
)
@click.argument("mountpoint", metavar="MNT", type=DirectoryType())
def command(mountpoint: Path) -> None:
    """End a mount and wait until its daemon is gone. `umount` and `fusermount3 -u` do so too, without waiting.

    A daemon goes on while anything else shows its mount: a bind mount, a container. They are named after two seconds.
    """
    mount = _mount_at(mountpoint)
    shown = show_path(os.fsencode(mountpoint))
    here = mounted_at(mount.path)
    daemon = introduction_of(mount.path, mount.repository)
    is_moved = _is_moved(mount, daemon)
    # A read-only mount has no working layer to close; another mount may have it.
    is_writable = here is not None and not here.is_read_only
    branch = _branch_of(mount) if is_writable and not is_moved else None
    others = mount_locations(mount.device)
    running = running_in(mount.repository, branch) if daemon is not None else []
    if running:
        words = "\n  ".join(("Wait for it, or end it; `umount` ends the mount all the same:", *running))
        raise Busy(f"{shown} has a run in progress", hint=words)
    try:
        unmount(mount.path)
    except Busy as error:
        seen = holders_hint(mount.path)
        hint = f"Close what holds it, then try again:\n  {seen}" if seen else error.hint
        raise Busy(f"{shown} is in use", hint=hint) from error
    rest = _still_there(mount, others)
    own = Path(os.fsdecode(daemon.mountpoint)) if daemon is not None else None
    if any(place.path == own and place.process is None for place in rest):
        echo(f"Unmounted {shown}; the mount itself goes on.")
        return
    _wait(mount, others, branch, daemon.process if daemon is not None else 0, shown)
    echo(f"Unmounted {shown}.")
    if is_moved:
        where = show_path(os.fsencode(mount.repository))
        warn(f"the repository was moved from {where} while it was mounted: mount it from where it is")


def _is_moved(mount: MountPoint, daemon: Introduction | None) -> bool:
    """Returns True if the repository is not where it was mounted from."""
    if daemon is None or not daemon.identity:
        return not is_repository(mount.repository)
    return daemon.identity != identity_of(mount.repository)


def _wait(mount: MountPoint, others: Sequence[MountLocation], branch: str | None, process: int, shown: str) -> None:
    """Returns when the daemon has ended. Raises Busy, with the mounts that keep it, where it cannot end by itself."""
    deadline = time.monotonic() + CLOSING_TIMEOUT_S
    is_told = False
    while not _has_ended(mount, branch, process):
        rest = _still_there(mount, others)
        if rest:
            end_copies(rest)
            rest = _still_there(mount, others)
        if rest:
            raise Busy(
                f"{shown} is unmounted, but its daemon goes on: something else shows its mount", hint=_words(rest)
            )
        if process and is_stopped(process):
            raise unresponsive(f"{shown} is unmounted, but its daemon", process)
        if time.monotonic() >= deadline:
            log = show_path(os.fsencode(run_directory(mount.repository)))
            raise Busy(f"{shown} is unmounted, but its daemon has not ended", hint=f"Its log is in {log}.")
        if not is_told:
            echo_err(f"{shown} is unmounted; its daemon finishes what it is doing …")
            is_told = True


def _still_there(mount: MountPoint, others: Sequence[MountLocation]) -> list[MountLocation]:
    """Returns which of a daemon's mounts have not ended."""
    # The kernel gives the numbers of a mount that ended, its device's and its own, to the next mount on the machine.
    before = {(place.number, place.root, place.path) for place in others}
    return [place for place in mount_locations(mount.device) if (place.number, place.root, place.path) in before]


def _has_ended(mount: MountPoint, branch: str | None, process: int) -> bool:
    """Waits a moment; returns True if the daemon has ended, or has at least closed the working layer."""
    if process:
        try:
            descriptor = os.pidfd_open(process)
        except ProcessLookupError:
            return True
        except OSError:
            return branch is None or wait_until_closed(mount.repository, branch, QUIET_S)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(QUIET_S * 1000))
        finally:
            os.close(descriptor)
    return branch is None or wait_until_closed(mount.repository, branch, QUIET_S)


def _words(places: Sequence[MountLocation]) -> str:
    return "\n  ".join(("End that too, and it ends by itself:", *map(_place_text, places)))


def _place_text(place: MountLocation) -> str:
    """Returns a place in words; of one in a run's view the run's name."""
    run_id = run_of(place.process) if place.process is not None else ""
    for repository in dict.fromkeys(mount.repository for mount in live_mounts()) if run_id else ():
        with suppress(VfsError, OSError), Repository.open(repository) as opened:
            run = find_run(opened, run_id)
            where = show_path(os.fsencode(repository))
            return f"the run {run.name} of {where} (process {place.process}) has it in its view"
    return str(place)


def _branch_of(mount: MountPoint) -> str | None:
    """Returns the branch in a mount's root, None where the repository cannot be read."""
    if mount.branch is not None:
        return mount.branch
    try:
        with Repository.open(mount.repository) as repository:
            return repository.current_branch
    except (VfsError, OSError):
        # A mount can be ended also where its repository cannot be opened.
        return None


def _mount_at(mountpoint: Path) -> MountPoint:
    # The last component is not resolved: a dead mount does not respond.
    path = Path(os.path.realpath(mountpoint.absolute().parent), mountpoint.name)
    mounts = live_mounts()
    for candidate in (path, Path(os.path.abspath(mountpoint)), Path(os.path.realpath(mountpoint))):
        # Of several mounts on one path the last one is on top.
        found = [mount for mount in mounts if mount.path == candidate]
        if found:
            return found[-1]
    shown = show_path(os.fsencode(mountpoint))
    around = enclosing_mount(Path(os.path.realpath(mountpoint)), read_table())
    if around is not None:
        hint = f"It is inside the mount {show_path(os.fsencode(around.path))}."
    elif mounts:
        hint = "Mounted are: " + ", ".join(show_path(os.fsencode(mount.path)) for mount in mounts) + "."
    else:
        hint = "Nothing of this program is mounted."
    raise NotFound(f"nothing of this program is mounted at {shown}", hint=hint)
