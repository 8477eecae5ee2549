"""Mount calls: root's own, the only one that enforces access lists, and those of users, by `fusermount3`.

A flag of root's call makes the kernel leave the umask to the filesystem, which inheriting an access list needs. The C
library of FUSE cannot pass the flag, but accepts an existing mount.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import subprocess
from pathlib import Path

from vfs.control.mount_table import MOUNT_TYPE
from vfs.errors import VfsError
from vfs.fuse.session.connection import KeptConnection
from vfs.fuse.session.mount_options import MountOptions
from vfs.fuse.session.mountpoint import mounted_at, source_of, unmount

log = logging.getLogger(__name__)

_DEVICE = "/dev/fuse"
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOATIME, _MS_POSIXACL = 1, 2, 4, 1 << 10, 1 << 16


class MountFailed(VfsError):
    """The kernel, or fusermount3, refused the mount."""

    code = "mount-failed"


def mount(path: Path, options: MountOptions, repository: Path, kept: KeptConnection) -> None:
    """Mounts, with the connection in `kept`. Raises MountFailed."""
    if os.geteuid() == 0:
        _mount_as_root(path, options, repository, kept)
    else:
        _mount_by_fusermount(path, options, repository, kept)


def refused(text: str) -> MountFailed:
    """Returns the error for a mount that was refused with this text."""
    return MountFailed(f"the mount was refused: {text}", hint=_hint(text))


def enforces_access_lists(options: MountOptions) -> bool:
    """Returns True if the kernel leaves the umask to the daemon; of a mount made elsewhere it is not known."""
    return os.geteuid() == 0 and options.connection is None


def _mount_as_root(path: Path, options: MountOptions, repository: Path, kept: KeptConnection) -> None:
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise refused(f"{_DEVICE}: {error.strerror}") from error
    try:
        # Before the mount is there: a process that is killed leaves none that has no connection.
        kept.put(fd)
        flags = _MS_NOATIME | _MS_POSIXACL
        flags |= _MS_RDONLY if options.read_only else 0
        flags |= 0 if options.suid else _MS_NOSUID
        flags |= 0 if options.dev else _MS_NODEV
        data = f"fd={fd},rootmode=40000,user_id=0,group_id={os.getegid()},default_permissions"
        data += ",allow_other" if options.allow_other else ""
        library = ctypes.CDLL(None, use_errno=True)
        source = source_of(repository, options.branch).encode()
        if library.mount(source, os.fsencode(path), MOUNT_TYPE.encode(), ctypes.c_ulong(flags), data.encode()):
            raise refused(os.strerror(ctypes.get_errno()))
    finally:
        os.close(fd)


def _mount_by_fusermount(path: Path, options: MountOptions, repository: Path, kept: KeptConnection) -> None:
    shown = ",".join(sorted(options.for_kernel(repository)))
    # The helper sends the connection through the socket that this variable names.
    command = ["env", f"_FUSE_COMMFD={kept.sending}", "fusermount3", "-o", shown, "--", os.fspath(path)]
    try:
        done = subprocess.run(command, pass_fds=(kept.sending,), capture_output=True, check=False)
    except OSError as error:
        raise refused(f"fusermount3: {error.strerror}") from error
    if done.returncode:
        text = done.stderr.decode(errors="replace").strip().replace("\n", "; ")
        raise refused(text or f"fusermount3 ended with {done.returncode}")


def _hint(text: str) -> str:
    if "user_allow_other" in text:
        return "Ask root to put `user_allow_other` into /etc/fuse.conf, or leave --allow-other out."
    if "/dev/fuse" in text or "device not found" in text:
        return "Load the kernel's FUSE module; in a container, give it /dev/fuse and the right to mount."
    return "Check that the mount point is yours and that fusermount3 is installed."


def is_attached(fd: int) -> bool:
    """Returns True if the mount of a connection still exists."""
    poll = select.poll()
    poll.register(fd, 0)
    return not any(events & select.POLLERR for _, events in poll.poll(0))


def detach(path: Path) -> None:
    """Unmounts, lazily if the mount is in use. Its connection must be closed: no process answers the kernel now."""
    try:
        unmount(path, lazy=True)
    except VfsError as error:
        if mounted_at(path) is not None:
            log.error("unmounting: %s", error)
