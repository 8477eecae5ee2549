"""Differences between the base version and the working layer; the cost follows the nodes, not the version's size."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple, cast

from vfs.model.names import join_path, split_path
from vfs.model.nodes import ENTRIES
from vfs.model.objects import Entry, Kind
from vfs.overlay.layer_nodes import ROOT_INO, CommittedFile, DirNode, FileNode, Node
from vfs.overlay.state import State
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import find_entry
from vfs.store.trees.map_diff import either, map_diff
from vfs.store.trees.maps import map_items


class Change(NamedTuple):
    """A path that differs. The `content` of a `new` file is empty where it is not stored yet."""

    path: bytes
    kind: Literal["added", "modified", "removed"]
    old: Entry | None
    new: Entry | None


class _At(NamedTuple):
    """What stands at a path in the base version and in the working layer: a node, or an entry that has none."""

    path: bytes
    old: Entry | None
    new: Node | Entry | None


class Compared(NamedTuple):
    """A path of any version beside the working layer; None for nothing there.

    `new` is what the working layer has, its `content` empty where it is not stored yet, its `files` where it changed.
    """

    name: bytes
    old: Entry | None
    new: Entry | None
    has_same_content: bool
    at: _At


def changes(state: State, lock: AbstractContextManager[object]) -> Iterator[Change]:
    """Yields the paths that differ, in the order of names, a directory before its entries.

    The lock is held for one name at a time, so what changes meanwhile may be seen or not. A directory whose time alone
    differs is left out. A directory that was moved is listed with everything below it, on both sides.
    """
    with lock:
        root = _At(b"", state.base.commit.root if state.base is not None else None, state.node(ROOT_INO))
    stack: list[Iterator[_At]] = [iter((root,))]
    while stack:
        at = next(stack[-1], None)
        if at is None:
            stack.pop()
            continue
        change = _change(at)
        # A working layer without a base version has a root all the same.
        if change is not None and (at.path or at.old is not None):
            yield change
        stack.append(_below(state, lock, at))


def compare(state: State, lock: AbstractContextManager[object], root: Entry, path: bytes) -> Compared:
    """Returns what a version with this root and the working layer have at a path."""
    old: Entry | None = root
    with lock:
        new: Node | Entry | None = state.node(ROOT_INO)
    for name in split_path(path):
        old = find_entry(state.source, old, name) if old is not None and old.kind == Kind.DIR else None
        if isinstance(new, DirNode):
            with lock:
                found = state.find_name(new, name)
                new = state.node(found) if isinstance(found, int) else found
        else:
            is_directory = isinstance(new, Entry) and new.kind == Kind.DIR
            new = find_entry(state.source, cast("Entry", new), name) if is_directory else None
    return _compared(_At(path, old, new))


def compare_below(state: State, lock: AbstractContextManager[object], compared: Compared) -> Iterator[Compared]:
    """Yields what may differ in the directories that stand at a path, in the order of names."""
    return map(_compared, _below(state, lock, compared.at))


def _compared(at: _At) -> Compared:
    path, old, new = at
    name = path.rpartition(b"/")[2]
    if not isinstance(new, Node):
        same = old is not None and new is not None and _content_of(old) == _content_of(new)
        return Compared(name, old, new, same, at)
    same = old is not None and old.kind == new.kind and _has_content(new, old) and old.rdev == new.rdev
    return Compared(name, old, new.entry(name), same, at)


def _content_of(entry: Entry) -> tuple[object, ...]:
    return entry.content, entry.form, entry.size, entry.rdev


def _change(at: _At) -> Change | None:
    path, old, new = at
    if isinstance(new, Node):
        same_content = _has_content(new, old) if old is not None else False
        new = new.entry(path.rpartition(b"/")[2])
    elif new is None or old is None:
        same_content = False
    else:
        same_content = (old.content, old.form, old.size) == (new.content, new.form, new.size)
    if old is None or new is None:
        if old is new:
            return None
        return Change(path, "added" if old is None else "removed", old, new)
    is_directory = old.kind == Kind.DIR
    if (
        old.kind == new.kind
        and (is_directory or (same_content and old.mtime_ns == new.mtime_ns))
        and (old.mode, old.uid, old.gid, old.xattrs, old.linked, old.rdev)
        == (new.mode, new.uid, new.gid, new.xattrs, new.linked, new.rdev)
    ):
        return None
    return Change(path, "modified", old, new)


def _has_content(node: Node, old: Entry) -> bool:
    if isinstance(node, FileNode):
        while isinstance(node.lower, FileNode):
            if len(node.extents) or node.size != node.lower.size:
                return False
            node = node.lower
        return node.is_content_of(CommittedFile(old, old))
    return node.target == (old.content if old.kind == Kind.SYMLINK else b"")


def _below(state: State, lock: AbstractContextManager[object], at: _At) -> Iterator[_At]:
    """Yields what may differ in a directory, or in the two that stand at one path."""
    path, old, new = at
    old_directory = old if old is not None and old.kind == Kind.DIR else None
    if isinstance(new, DirNode):
        for name in _names(state, lock, old_directory, new):
            was = find_entry(state.source, old_directory, name) if old_directory is not None else None
            with lock:
                found = state.find_name(new, name)
                now = state.node(found) if isinstance(found, int) else found
            yield _At(join_path(path, name), was, now)
        return
    new_directory = new if isinstance(new, Entry) and new.kind == Kind.DIR else None
    for was, now in differing_entries(state.source, old_directory, new_directory):
        name = either(was, now).name
        yield _At(join_path(path, name), was, now)


def _names(state: State, lock: AbstractContextManager[object], old: Entry | None, new: DirNode) -> Iterator[bytes]:
    """Yields the names, in order, that may differ between a committed directory and a node."""
    with lock:
        changed: set[bytes] = set()
        lower: DirNode | Entry | None = new
        while isinstance(lower, DirNode):
            changed.update(lower.changes)
            lower = lower.lower
    rest = iter(sorted(changed))
    name = next(rest, None)
    # Changed names, merged with those in which the committed directory below the node differs from the old one.
    for was, now in differing_entries(state.source, old, lower):
        other = either(was, now).name
        while name is not None and name < other:
            yield name
            name = next(rest, None)
        if name == other:
            name = next(rest, None)
        yield other
    while name is not None:
        yield name
        name = next(rest, None)


def differing_entries(
    source: ObjectSource, old: Entry | None, new: Entry | None
) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Yields (old, new) for the names that differ between two committed directories; None stands for an empty one."""
    old_root = old.content if old is not None else b""
    new_root = new.content if new is not None else b""
    if old_root == new_root:
        return
    if not old_root:
        for item in map_items(source, ENTRIES, new_root):
            yield None, item
    elif not new_root:
        for item in map_items(source, ENTRIES, old_root):
            yield item, None
    else:
        yield from map_diff(source, ENTRIES, old_root, new_root)


def is_clean(state: State) -> bool:
    """Returns True if the working layer equals its base version, times of directories apart."""
    return next(changes(state, contextlib.nullcontext()), None) is None
