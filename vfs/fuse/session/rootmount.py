"""Mount by the system call, as root: the only way to enforce access lists.

A flag of the call makes the kernel leave the umask to the filesystem, which inheriting an access list needs. The C
library of FUSE cannot pass the flag, but accepts an existing mount.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import select
from pathlib import Path

from vfs.control.mounts import MOUNT_TYPE
from vfs.fuse.session.mountpoint import MountOptions, source_of

log = logging.getLogger(__name__)

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOATIME, _MS_POSIXACL = 1, 2, 4, 1 << 10, 1 << 16
_MNT_DETACH = 2


def mount_as_root(path: Path, options: MountOptions, repository: Path) -> int | None:
    """Mounts and returns the connection's descriptor, which the caller closes; None if this process may not mount.

    Then the C library makes the mount, and reports the reason if it cannot.
    """
    if os.geteuid() != 0:
        return None
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    flags = _MS_NOATIME | _MS_POSIXACL
    flags |= _MS_RDONLY if options.read_only else 0
    flags |= 0 if options.suid else _MS_NOSUID
    flags |= 0 if options.dev else _MS_NODEV
    data = f"fd={fd},rootmode=40000,user_id=0,group_id={os.getegid()},default_permissions"
    data += ",allow_other" if options.allow_other else ""
    library = ctypes.CDLL(None, use_errno=True)
    done = library.mount(
        source_of(repository, options.branch).encode(),
        os.fsencode(path),
        MOUNT_TYPE.encode(),
        ctypes.c_ulong(flags),
        data.encode(),
    )
    if done == 0:
        return fd
    log.info("mounting leaves access lists out: %s", os.strerror(ctypes.get_errno()))
    os.close(fd)
    return None


def is_attached(fd: int) -> bool:
    """Returns True if the mount of a connection still exists."""
    poll = select.poll()
    poll.register(fd, 0)
    return not any(events & select.POLLERR for _, events in poll.poll(0))


def detach_as_root(path: Path) -> None:
    """Unmounts, lazily if the mount is in use. Its connection must be closed: no process answers the kernel now."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.umount2(os.fsencode(path), _MNT_DETACH) and ctypes.get_errno() != errno.EINVAL:
        log.error("unmounting %s: %s", path, os.strerror(ctypes.get_errno()))
