"""A tree of dicts: what a working layer should show, as the oracle of the stateful test."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from support.working import Picture, Thing
from vfs.model.objects import Kind


@dataclass(eq=False)
class Inode:
    """A file or directory as it should be. `ino` is learned when it is first seen and must then stay."""

    kind: Kind
    mode: int
    owner: tuple[int, int]
    content: bytearray = field(default_factory=bytearray)
    rdev: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    children: dict[bytes, Inode] = field(default_factory=dict)
    mtime_ns: int | None = None
    ino: int = 0


def paths_below(root: Inode) -> dict[bytes, Inode]:
    """Returns everything below a directory, and itself, by path."""
    found: dict[bytes, Inode] = {}
    stack = [(b"", root)]
    while stack:
        path, inode = stack.pop()
        found[path] = inode
        for name, child in inode.children.items():
            stack.append((path + b"/" + name if path else name, child))
    return found


def picture_of(root: Inode) -> Picture:
    """Returns the tree as a working layer or a version is described."""
    picture: Picture = {}
    paths = paths_below(root)
    groups: dict[int, list[bytes]] = {}
    for path, inode in paths.items():
        groups.setdefault(id(inode), []).append(path)
    for path, inode in paths.items():
        names = groups[id(inode)]
        picture[path] = Thing(
            inode.kind,
            inode.mode,
            inode.owner,
            inode.mtime_ns,
            bytes(inode.content),
            inode.rdev,
            tuple(sorted(inode.xattrs.items())),
            min(names) if len(names) > 1 else b"",
        )
    return picture


def inode_of(picture: Picture, top: bytes) -> Inode:
    """Returns what a version has at and below a path, with the hard links among it."""
    prefix = top + b"/" if top else b""
    made: dict[bytes, Inode] = {}
    groups: dict[bytes, Inode] = {}
    for path in sorted(picture, key=lambda path: path.split(b"/") if path else []):
        if path != top and not path.startswith(prefix):
            continue
        thing = picture[path]
        inode = groups.get(thing.group) if thing.group else None
        if inode is None:
            inode = Inode(
                thing.kind,
                thing.mode,
                thing.owner,
                bytearray(thing.content),
                thing.rdev,
                dict(thing.xattrs),
                mtime_ns=thing.mtime_ns,
            )
            if thing.group:
                groups[thing.group] = inode
        made[path] = inode
        if path != top:
            directory, _, name = path.rpartition(b"/")
            made[directory].children[name] = inode
    return made[top]


def cannot_rename(inode: Inode, target: Inode | None, old_directory: Inode, new_directory: Inode, flags: int) -> bool:
    """Returns True if a rename must be refused."""
    if flags == 1 and target is not None:
        return True
    if flags == 2 and (target is None or is_below(old_directory, target)):
        return True
    if is_below(new_directory, inode):
        return True
    if flags == 2 or target is None or target is inode:
        return False
    if inode.kind == Kind.DIR:
        return target.kind != Kind.DIR or bool(target.children)
    return target.kind == Kind.DIR


def is_below(inode: Inode, top: Inode) -> bool:
    """Returns True if an inode is another one or below it."""
    return inode is top or any(is_below(inode, child) for child in top.children.values())


def without_privileges(mode: int) -> int:
    """Returns a file's mode after a write."""
    mode &= ~stat.S_ISUID
    return mode & ~stat.S_ISGID if mode & stat.S_IXGRP else mode


def learn_times(paths: Mapping[bytes, Inode], picture: Picture, now_ns: int) -> None:
    """Takes over times that the model leaves to the working layer; none is in the future."""
    for path, inode in paths.items():
        if inode.mtime_ns is None and path in picture:
            inode.mtime_ns = picture[path].mtime_ns
            assert inode.mtime_ns is not None
            assert inode.mtime_ns <= now_ns


def check_changes(changes: Mapping[bytes, str], old: Picture, new: Picture) -> None:
    """Checks kinds of change by path: all that differs is there, nothing else that can be told without reading."""
    found = dict(changes)
    for path in old.keys() | new.keys():
        if path not in new or path not in old:
            assert found.pop(path) == ("removed" if path in old else "added")
        elif _kept(old[path]) != _kept(new[path]):
            assert found.pop(path) == "modified"
        elif path in found:
            # Written over with the same bytes, or named by hard links elsewhere.
            assert found.pop(path) == "modified"
            assert new[path].kind == Kind.FILE
    assert not found


def _kept(thing: Thing) -> Thing:
    return thing._replace(
        mtime_ns=None if thing.kind == Kind.DIR else thing.mtime_ns, group=b"x" if thing.group else b""
    )
