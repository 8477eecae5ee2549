"""Attributes as the kernel takes them, from entries of versions and from the working layer."""

from __future__ import annotations

import stat

from pyfuse3 import EntryAttributes

from vfs.model.objects import FORMAT_BITS, Entry, Kind
from vfs.overlay.layer_nodes import Attr

FOREVER_S = 1e9
"""For names and inodes that never change, or change through the kernel or with an invalidation."""
HEAD_S = 1.0
"""For the root of a read-only mount, which follows its branch: how long it may lag behind."""

_BLOCK_BYTES = 512
_FORMAT: tuple[int, ...] = tuple(FORMAT_BITS.get(Kind(kind), 0) if kind else 0 for kind in range(len(Kind) + 1))
"""Kind to file-type bits; a tuple is looked up faster than a dict of enum members."""

_FILE = int(Kind.FILE)
_PRIVILEGES = stat.S_ISUID | stat.S_ISGID
_LINK_MODE = FORMAT_BITS[Kind.SYMLINK] | 0o777
_DIRECTORY_MODE = FORMAT_BITS[Kind.DIR] | 0o555


def missing() -> EntryAttributes:
    """Returns the answer for an absent name, which the kernel may cache."""
    attr = EntryAttributes()
    attr.st_ino = 0
    attr.entry_timeout = FOREVER_S
    return attr


def of_entry(entry: Entry, ino: int, nlink: int = 1, timeout_s: float = FOREVER_S) -> EntryAttributes:
    """Returns the attributes of a version's entry. A directory shows size 0, so that `du` counts files alone."""
    attr = EntryAttributes()
    attr.st_ino = ino
    attr.entry_timeout = attr.attr_timeout = timeout_s
    kind = entry.kind
    attr.st_mode = _FORMAT[kind] | entry.mode & 0o7777
    attr.st_nlink = nlink
    attr.st_uid = entry.uid
    attr.st_gid = entry.gid
    if kind == _FILE:
        attr.st_size = entry.size
        attr.st_blocks = (entry.size - entry.hole_bytes + _BLOCK_BYTES - 1) // _BLOCK_BYTES
    elif kind == Kind.SYMLINK:
        attr.st_size = entry.size
    elif kind in (Kind.CHAR, Kind.BLOCK):
        attr.st_rdev = entry.rdev
    attr.st_atime_ns = attr.st_mtime_ns = attr.st_ctime_ns = entry.mtime_ns
    return attr


def of_working(source: Attr, timeout_s: float = FOREVER_S) -> EntryAttributes:
    """Returns the attributes of an inode of the working layer."""
    attr = EntryAttributes()
    attr.st_ino = source.ino
    attr.entry_timeout = timeout_s
    # Writing takes these bits away without the kernel's doing (see handshake.py), so it must not rely on what it knows.
    attr.attr_timeout = 0.0 if source.mode & _PRIVILEGES and source.kind == _FILE else timeout_s
    attr.st_mode = _FORMAT[source.kind] | source.mode & 0o7777
    attr.st_nlink = source.nlink
    attr.st_uid = source.uid
    attr.st_gid = source.gid
    attr.st_rdev = source.rdev
    attr.st_size = source.size
    attr.st_blocks = source.blocks
    attr.st_atime_ns = source.atime_ns
    attr.st_mtime_ns = source.mtime_ns
    attr.st_ctime_ns = source.ctime_ns
    return attr


def of_link(ino: int, target: bytes, time_ns: int, timeout_s: float, owner: tuple[int, int]) -> EntryAttributes:
    """Returns the attributes of a symbolic link that is a name of a version."""
    attr = _virtual(ino, _LINK_MODE, time_ns, owner)
    attr.st_size = len(target)
    attr.entry_timeout = attr.attr_timeout = timeout_s
    return attr


def of_listing(ino: int, time_ns: int, owner: tuple[int, int]) -> EntryAttributes:
    """Returns the attributes of a directory that lists names."""
    attr = _virtual(ino, _DIRECTORY_MODE, time_ns, owner)
    attr.entry_timeout = FOREVER_S
    attr.attr_timeout = HEAD_S
    return attr


def _virtual(ino: int, mode: int, time_ns: int, owner: tuple[int, int]) -> EntryAttributes:
    attr = EntryAttributes()
    attr.st_ino = ino
    attr.st_mode = mode
    attr.st_uid, attr.st_gid = owner
    attr.st_atime_ns = attr.st_mtime_ns = attr.st_ctime_ns = time_ns
    return attr
