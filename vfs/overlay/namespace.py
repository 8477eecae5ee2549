"""Operations on names and attributes: their checks and errors, and the record that each appends.

The rules are those of POSIX and Linux; the kernel has checked the caller's permissions before.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from vfs.errors import (
    AlreadyExists,
    InvalidInput,
    IsADirectory,
    NoAttribute,
    NotADirectory,
    NotEmpty,
    NotFound,
    NotPermitted,
)
from vfs.model.names import check_name, show_path, split_path
from vfs.model.objects import KIND_OF_FORMAT, SYMLINK_BYTES_MAX, XATTR_BYTES_MAX, Entry, Kind, kept_time
from vfs.overlay.apply import (
    apply_attributes,
    apply_create,
    apply_link,
    apply_rename,
    apply_unlink,
    apply_xattr,
    without_privileges,
)
from vfs.overlay.copy_up import copy_up, materialise, plan_copy_up
from vfs.overlay.journal.journal_records import Create, Link, Rename, SetAttributes, SetXattr, Unlink
from vfs.overlay.layer_nodes import ROOT_INO, Attr, Clean, DirNode, FileNode, Node, Xattrs
from vfs.overlay.state import Directory, Inode, State
from vfs.store.trees.directories import entries

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
FILE_BYTES_MAX = 2**63 - 1
CAPABILITIES = b"security.capability"
"""The extended attribute with a program's file capabilities."""


def _check_not_removed(state: State, directory: Directory) -> None:
    if isinstance(directory, DirNode) and not directory.places and directory.ino != ROOT_INO:
        raise NotFound("the directory has been removed")


# Lookups.


class Listed(NamedTuple):
    """An entry found while its unchanged directory was listed."""

    directory: Entry
    entry: Entry


def listing(state: State, ino: int, after: bytes | None) -> Iterator[tuple[bytes, Listed | None]]:
    """Yields a directory's names in order; for an unchanged directory each with its entry."""
    directory = state.resolve_directory(ino)
    if not isinstance(directory, Clean):
        return ((name, None) for name in state.names(directory, after))
    above = directory.entry
    return ((entry.name, Listed(above, entry)) for entry in entries(state.source, above, after))


def lookup(state: State, parent: int, name: bytes, listed: Listed | None = None) -> Attr:
    """Returns the attributes of the inode at a name, and counts it as looked up."""
    directory = state.resolve_directory(parent)
    # The directory that was listed is still unchanged, so the listed entry is valid.
    if listed is not None and isinstance(directory, Clean) and directory.entry is listed.directory:
        return state.hold(state.claim(directory, name, listed.entry))
    child = _find_child(state, directory, name)
    if child is None:
        raise NotFound(f"no {show_path(name)} in this directory")
    return state.hold(child)


def _find_child(state: State, directory: Directory, name: bytes) -> Inode | None:
    if not 0 < len(name) <= 255:
        check_name(name)
    return state.child(directory, name)


def _need_child(state: State, directory: Directory, name: bytes) -> Inode:
    child = _find_child(state, directory, name)
    if child is None:
        raise NotFound(f"no {show_path(name)} in this directory")
    return child


def resolve_path(state: State, path: bytes) -> Inode:
    """Returns the inode at a path; raises NotFound, NotADirectory."""
    inode: Inode = state.root
    for name in split_path(path):
        inode = _need_child(state, state.resolve_directory(inode.ino), name)
    return inode


def readlink(state: State, ino: int) -> bytes:
    """Returns the target of a symbolic link."""
    inode = state.resolve(ino)
    if inode_kind(inode) != Kind.SYMLINK:
        raise InvalidInput(f"inode {ino} is not a symbolic link")
    return inode.entry.content if isinstance(inode, Clean) else inode.target


def inode_kind(inode: Inode) -> Kind:
    """Returns the kind of an inode."""
    return Kind(inode.entry.kind) if isinstance(inode, Clean) else inode.kind


# Making names.


def create(
    state: State,
    parent: int,
    name: bytes,
    kind: Kind,
    mode: int,
    owner: tuple[int, int],
    *,
    rdev: int = 0,
    target: bytes = b"",
) -> Attr:
    """Creates an inode. In a setgid directory it gets the directory's group, and a new directory the bit too."""
    directory = state.resolve_directory(parent)
    check_name(name)
    if state.find_name(directory, name) is not None:
        raise AlreadyExists(f"{show_path(name)} exists")
    _check_not_removed(state, directory)
    node = materialise(state, parent)
    uid, gid = owner
    mode &= 0o7777
    if node.mode & stat.S_ISGID:
        gid = node.gid
        if kind == Kind.DIR:
            mode |= stat.S_ISGID
    ino = state.numbers.fresh((parent, name))
    record = Create(ino, parent, name, kind, mode, uid, gid, rdev, state.now(), target)
    state.journal.append(record)
    return state.hold(apply_create(state, record))


def mknod(state: State, parent: int, name: bytes, mode: int, rdev: int, owner: tuple[int, int]) -> Attr:
    """Makes a file, fifo, socket or device; `mode` with the bits of the file type (none: a file)."""
    kind = KIND_OF_FORMAT.get(stat.S_IFMT(mode) or stat.S_IFREG)
    if kind is None or kind in (Kind.DIR, Kind.SYMLINK):
        raise InvalidInput(f"mode {mode:o} is none that mknod can make")
    return create(state, parent, name, kind, mode, owner, rdev=rdev if kind in (Kind.CHAR, Kind.BLOCK) else 0)


def symlink(state: State, parent: int, name: bytes, target: bytes, owner: tuple[int, int]) -> Attr:
    """Makes a symbolic link."""
    if len(target) > SYMLINK_BYTES_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    if not target:
        raise NotFound("a symbolic link leads somewhere")
    if b"\0" in target:
        raise InvalidInput("a symbolic link leads to no name with a NUL in it")
    return create(state, parent, name, Kind.SYMLINK, 0o777, owner, target=target)


def link(state: State, ino: int, parent: int, name: bytes) -> Attr:
    """Gives an inode one more name."""
    inode = state.resolve(ino)
    directory = state.resolve_directory(parent)
    check_name(name)
    if inode_kind(inode) == Kind.DIR:
        raise NotPermitted("a directory has one name only")
    if not inode.nlink:
        raise NotFound("the file has no name left and cannot get a new one")
    if state.find_name(directory, name) is not None:
        raise AlreadyExists(f"{show_path(name)} exists")
    _check_not_removed(state, directory)
    copy_up(state, plan_copy_up(state, [parent, ino]))
    node = state.active.nodes[ino]
    record = Link(ino, parent, name, state.now())
    state.journal.append(record)
    apply_link(state, record)
    return state.hold(node)


# Removing names.


def unlink(state: State, parent: int, name: bytes) -> None:
    """Removes a name of anything but a directory."""
    directory = state.resolve_directory(parent)
    child = _need_child(state, directory, name)
    if inode_kind(child) == Kind.DIR:
        raise IsADirectory(f"{show_path(name)} is a directory")
    _remove(state, directory, name, child)


def rmdir(state: State, parent: int, name: bytes) -> None:
    """Removes an empty directory."""
    directory = state.resolve_directory(parent)
    child = _need_child(state, directory, name)
    _check_empty(state, child, name)
    _remove(state, directory, name, child)


def _check_empty(state: State, child: Inode, name: bytes) -> None:
    if inode_kind(child) != Kind.DIR:
        raise NotADirectory(f"{show_path(name)} is not a directory")
    if not state.is_empty(state.resolve_directory(child.ino)):
        raise NotEmpty(f"{show_path(name)} is not empty")


def _remove(state: State, directory: Directory, name: bytes, child: Inode) -> None:
    # A name of the version below gets a whiteout (`State.hide`).
    _check_not_removed(state, directory)
    planned = plan_copy_up(state, [directory.ino, child.ino])
    is_below = state.is_below(directory, name)
    copy_up(state, planned)
    record = Unlink(directory.ino, name, state.now())
    state.journal.append(record)
    apply_unlink(state, record, is_below=is_below)


# Moving names.


def rename(state: State, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
    """Moves a name; `flags` are those of renameat2, of which RENAME_WHITEOUT is not known."""
    if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
        raise InvalidInput(f"rename does not know the flags {flags}")
    old_directory = state.resolve_directory(parent)
    new_directory = state.resolve_directory(new_parent)
    check_name(new_name)
    child = _need_child(state, old_directory, name)
    target = _find_child(state, new_directory, new_name)
    _check_rename(state, child, target, new_parent, new_name, flags)
    if flags == RENAME_EXCHANGE and target is not None:
        _check_not_below(state, target, parent)
    if target is not None and target.ino == child.ino:
        # POSIX: two names of one file stay as they are.
        return
    _check_not_removed(state, old_directory)
    _check_not_removed(state, new_directory)
    inos = [parent, new_parent, child.ino]
    planned = plan_copy_up(state, inos if target is None else [*inos, target.ino])
    is_below = state.is_below(old_directory, name)
    copy_up(state, planned)
    record = Rename(parent, name, new_parent, new_name, flags == RENAME_EXCHANGE, state.now())
    state.journal.append(record)
    apply_rename(state, record, is_below=is_below)


def _check_rename(
    state: State, child: Inode, target: Inode | None, new_parent: int, new_name: bytes, flags: int
) -> None:
    if flags == RENAME_NOREPLACE and target is not None:
        raise AlreadyExists(f"{show_path(new_name)} exists")
    if flags == RENAME_EXCHANGE and target is None:
        raise NotFound(f"no {show_path(new_name)} to change places with")
    _check_not_below(state, child, new_parent)
    if flags == RENAME_EXCHANGE or target is None or target.ino == child.ino:
        return
    if inode_kind(child) == Kind.DIR:
        _check_empty(state, target, new_name)
    elif inode_kind(target) == Kind.DIR:
        raise IsADirectory(f"{show_path(new_name)} is a directory")


def _check_not_below(state: State, inode: Inode, directory: int) -> None:
    """Raises InvalidInput if a directory would move into itself or below itself."""
    if inode_kind(inode) != Kind.DIR:
        return
    ino = directory
    while True:
        if ino == inode.ino:
            raise InvalidInput("a directory cannot move into itself")
        above = state.parent_of(ino)
        if above == ino:
            return
        ino = above


# Attributes.


def set_attributes(
    state: State,
    ino: int,
    *,
    mode: int | None,
    uid: int | None,
    gid: int | None,
    size: int | None,
    atime_ns: int | None,
    mtime_ns: int | None,
    ctime_ns: int | None,
) -> Attr:
    """Sets the attributes that are not None.

    A new owner or size clears setuid and setgid, unless a mode is given; a new size clears file capabilities.
    """
    inode = state.resolve(ino)
    kind = inode_kind(inode)
    if size is not None:
        _check_size(kind, size)
    if mode is uid is gid is size is atime_ns is mtime_ns is ctime_ns is None:
        return inode.attr()
    node = materialise(state, ino)
    if size is not None and node.xattrs:
        clear_capabilities(state, node)
    now = state.now()
    if mode is not None:
        mode &= 0o7777
    elif kind != Kind.DIR and not (uid is gid is size is None) and without_privileges(node.mode) != node.mode:
        mode = without_privileges(node.mode)
    if size is not None and mtime_ns is None:
        mtime_ns = now
    record = SetAttributes(
        ino,
        now if ctime_ns is None else ctime_ns,
        mode=mode,
        uid=uid,
        gid=gid,
        size=size,
        atime_ns=kept_time(atime_ns) if atime_ns is not None else None,
        mtime_ns=kept_time(mtime_ns) if mtime_ns is not None else None,
    )
    state.journal.append(record)
    apply_attributes(state, record)
    return node.attr()


def _check_size(kind: Kind, size: int) -> None:
    if kind == Kind.DIR:
        raise IsADirectory("a directory has no size to set")
    if kind != Kind.FILE or size < 0:
        raise InvalidInput("only files have a size to set, and it cannot be below 0")
    if size > FILE_BYTES_MAX:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


def xattrs(state: State, ino: int) -> Xattrs:
    """Returns all extended attributes."""
    inode = state.resolve(ino)
    return inode.entry.xattrs if isinstance(inode, Clean) else inode.xattrs


def get_xattr(state: State, ino: int, name: bytes) -> bytes:
    """Returns an extended attribute; raises NoAttribute."""
    for key, value in xattrs(state, ino):
        if key == name:
            return value
    raise NoAttribute(f"no attribute {show_path(name)}")


def set_xattr(state: State, ino: int, name: bytes, value: bytes | None) -> None:
    """Sets an extended attribute, or removes it (None; raises NoAttribute if it is not there)."""
    present = dict(xattrs(state, ino))
    if value is None:
        if name not in present:
            raise NoAttribute(f"no attribute {show_path(name)}")
    else:
        present[name] = value
        if sum(len(key) + len(held) for key, held in present.items()) > XATTR_BYTES_MAX:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    materialise(state, ino)
    record = SetXattr(ino, name, value, state.now())
    state.journal.append(record)
    apply_xattr(state, record)


def clear_capabilities(state: State, node: Node) -> None:
    """Clears a file's capabilities, as writes and truncation do with setuid."""
    if any(name == CAPABILITIES for name, _ in node.xattrs):
        set_xattr(state, node.ino, CAPABILITIES, None)


def is_file(inode: Inode) -> bool:
    """Returns True if an inode is a regular file."""
    return isinstance(inode, FileNode) or (isinstance(inode, Clean) and inode.entry.kind == Kind.FILE)
