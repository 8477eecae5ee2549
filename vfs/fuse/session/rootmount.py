"""Mounting by the system call itself, which root may: the way to a mount in which access lists hold.

A flag of the call makes the kernel leave the umask to the filesystem, without which nothing inherits a list rightly.
The C library of FUSE cannot pass it, but takes a mount that is made already.
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
    """Mounts and returns the connection's descriptor, which whoever serves it closes; None where we may not.

    Then the mount is for the C library to make, and for it to say why that cannot be done either.
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
    """Whether the mount of a connection is still there."""
    poll = select.poll()
    poll.register(fd, 0)
    return not any(events & select.POLLERR for _, events in poll.poll(0))


def detach_as_root(path: Path) -> None:
    """Takes a mount away, lazily where it is in use. Its connection must be closed: nobody answers the kernel now."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.umount2(os.fsencode(path), _MNT_DETACH) and ctypes.get_errno() != errno.EINVAL:
        log.error("unmounting %s: %s", path, os.strerror(ctypes.get_errno()))
