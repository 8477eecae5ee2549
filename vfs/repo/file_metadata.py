"""The metadata of files: read from a local filesystem into entries.

Which extended attributes are kept, and why the others are not: decision 20.
"""

from __future__ import annotations

import errno
import os
import stat

from vfs.errors import TooLarge
from vfs.model.objects import KIND_OF_FORMAT, XATTR_BYTES_MAX, Content, Entry, Form, Kind, kept_time

ACL_XATTRS = frozenset({b"system.posix_acl_access", b"system.posix_acl_default"})
"""POSIX access lists as the kernel shows them; other `system.` attributes are views made by one filesystem."""

OWN_XATTRS = b"user.vfs."
"""Attributes that a mount computes; they describe a path and are never data."""

BRANCH_XATTR = b"user.vfs.branch"
"""Of anything in a working layer: the branch."""
MOUNT_XATTR = b"user.vfs.mount"
"""Of any path in a mount: its daemon's introduction of itself (vfs/control/mount_description.py), as JSON."""
PATH_XATTR = b"user.vfs.path"
"""Of anything in a working layer: its path from the layer's root (of hard links: one of them)."""

_NO_XATTRS = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP})

Xattrs = tuple[tuple[bytes, bytes], ...]


def is_kept(name: bytes) -> bool:
    """Returns True if an extended attribute of this name belongs to a version."""
    if name.startswith(b"system."):
        return name in ACL_XATTRS
    return not name.startswith(OWN_XATTRS)


def read_xattrs(target: int | bytes) -> Xattrs:
    """Returns the attributes to keep of an open file, or of a path whose last part is not followed; sorted.

    Raises OSError where they cannot be read, TooLarge beyond the format's limit.
    """
    try:
        names = _list_xattrs(target)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return ()
        raise
    found = []
    for name in sorted(filter(is_kept, map(os.fsencode, names))):
        try:
            found.append((name, _get_xattr(target, name)))
        except OSError as error:
            # Removed since it was listed.
            if error.errno != errno.ENODATA:
                raise
    if sum(len(name) + len(value) for name, value in found) > XATTR_BYTES_MAX:
        raise TooLarge(f"its extended attributes have more than {XATTR_BYTES_MAX} bytes")
    return tuple(found)


def member_path(directory: int, name: bytes) -> bytes:
    """Returns a path to a name in an open directory, for calls that take no directory; works at any depth."""
    return b"/proc/self/fd/%d/%s" % (directory, name)


def entry_from_status(
    name: bytes,
    status: os.stat_result,
    xattrs: Xattrs,
    *,
    content: Content | None = None,
    target: bytes = b"",
    linked: bool = False,
) -> Entry:
    """Returns the entry of anything but a directory's contents: `content` for files, `target` for links."""
    kind = kind_of(status)
    device = kind in (Kind.CHAR, Kind.BLOCK)
    return Entry(
        name,
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        kept_time(status.st_mtime_ns),
        size=content.size if content is not None else len(target),
        content=content.id if content is not None else target,
        form=content.form if content is not None else Form.EMPTY,
        hole_bytes=content.hole_bytes if content is not None else 0,
        rdev=status.st_rdev if device else 0,
        linked=linked,
        xattrs=xattrs,
    )


def kind_of(status: os.stat_result) -> Kind:
    """Returns what a file is."""
    return KIND_OF_FORMAT[stat.S_IFMT(status.st_mode)]


def _list_xattrs(target: int | bytes) -> list[str]:
    if isinstance(target, int):
        return os.listxattr(target)
    return os.listxattr(target, follow_symlinks=False)


def _get_xattr(target: int | bytes, name: bytes) -> bytes:
    if isinstance(target, int):
        return os.getxattr(target, name)
    return os.getxattr(target, name, follow_symlinks=False)
