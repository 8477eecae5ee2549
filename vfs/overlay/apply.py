"""Applying records to the state in memory: names, nodes and contents change here and nowhere else.

An operation appends its record to the journal and then applies it; a replay applies the same record again. So applying
is deterministic, reads nothing from the store and cannot fail: the caller looks up what it needs of the layers below
before it appends the record, and passes it in. A record of an inode without a node belongs to a file that has lost its
last name: after a reopening no process can have that file open, and the record is skipped.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import NamedTuple

from vfs.model.names import join_path
from vfs.model.objects import Entry, Kind
from vfs.overlay.journal.framing import StoredRecord
from vfs.overlay.journal.journal_records import (
    CopyUp,
    Create,
    Data,
    Graft,
    InodeRecord,
    Link,
    Moved,
    Rename,
    SetAttributes,
    SetXattr,
    Unlink,
    Whiteouts,
    Write,
)
from vfs.overlay.layer_nodes import WHITEOUT, CommittedFile, DirNode, FileNode, Node, Place, replace_xattr
from vfs.overlay.state import State


class Below(NamedTuple):
    """An unchanged inode in the base version: its entry, and the leader of its group of hard links."""

    entry: Entry
    leader: bytes | None = None


def apply_copy_up(state: State, record: CopyUp, committed: Below | None) -> Node:
    """Copies an inode up: gives it a node in the active layer, equal to what the layers below have (copy-on-write).

    `committed`: the base version's entry at the first place; not needed if a layer has a node already.
    """
    active = state.active
    present = active.nodes.get(record.ino)
    if present is not None:
        # Journals of two generations that are replayed as one layer (a commit that failed) may both have it.
        return present
    below = state.frozen.nodes.get(record.ino) if state.frozen is not None else None
    if below is not None:
        node = node_over(below)
    else:
        parent, name = record.places[0]
        directory = active.directory(parent)
        assert committed is not None
        node = node_of_entry(record.ino, committed.entry, directory.committed(), (parent, name))
        if isinstance(node, DirNode):
            node.base_path = join_path(directory.base_path, name) if directory.base_path is not None else None
        elif committed.leader is not None:
            node.origin = (0, committed.leader)
    if node.origin is not None and node.origin[0] == 0:
        active.leaders[node.origin[1]] = node.ino
    node.places = record.places
    active.nodes[record.ino] = node
    for parent, name in node.places:
        active.directory(parent).set_change(name, record.ino)
    # Grafted content can give a name back to an inode that had just lost its last one.
    state.orphans.pop(record.ino, None)
    clean = state.known.pop(record.ino, None)
    if clean is not None and isinstance(node, FileNode):
        node.reader = clean.reader
    return node


def node_over(below: Node) -> Node:
    """Returns a node that shows a frozen one."""
    node: Node
    if isinstance(below, FileNode):
        node = FileNode(below.ino)
        node.size = node.lower_size = below.size
        node.lower = below
    elif isinstance(below, DirNode):
        node = DirNode(below.ino)
        node.lower = below
        node.subdirs = below.subdirs
        node.base_path = below.base_path
    else:
        node = Node(below.ino, below.kind)
    node.take_attributes(below)
    node.places = below.places
    node.origin = below.origin
    return node


def node_of_entry(ino: int, entry: Entry, directory: Entry | None, origin: Place | None) -> Node:
    """Returns a node that shows a committed entry; `directory` is the committed directory that holds it."""
    node: Node
    if entry.kind == Kind.FILE:
        node = FileNode(ino)
        node.size = node.lower_size = entry.size
        assert directory is not None
        node.lower = CommittedFile(directory, entry)
    elif entry.kind == Kind.DIR:
        node = DirNode(ino)
        node.lower = entry
    else:
        node = Node(ino, Kind(entry.kind))
    node.take_entry(entry)
    node.origin = origin
    return node


def apply_create(state: State, record: Create) -> Node:
    """Makes an inode with its first name."""
    parent = state.active.directory(record.parent)
    node: Node
    if record.kind == Kind.FILE:
        node = FileNode(record.ino)
    elif record.kind == Kind.DIR:
        node = DirNode(record.ino)
        node.subdirs = 0
    else:
        node = Node(record.ino, Kind(record.kind))
    node.mode = record.mode
    node.uid = record.uid
    node.gid = record.gid
    node.rdev = record.rdev
    node.target = record.target
    node.atime_ns = node.mtime_ns = node.ctime_ns = record.time_ns
    state.active.nodes[record.ino] = node
    _put_name(parent, record.name, node)
    _touch(parent, record.time_ns)
    return node


def apply_write(state: State, record: Write, segment: int, position: int, size: int) -> None:
    """Covers a stretch of a file by data that stands in a journal."""
    node = state.active.nodes.get(record.ino) or state.orphans.get(record.ino)
    if not isinstance(node, FileNode):
        return
    end = record.offset + size
    node.extents.put(record.offset, end, segment, position)
    if end > node.size:
        node.size = end
    node.mtime_ns = node.ctime_ns = record.time_ns
    node.mode = without_privileges(node.mode)


def apply_attributes(state: State, record: SetAttributes) -> None:
    """Sets attributes, the size among them."""
    node = state.active.nodes.get(record.ino) or state.orphans.get(record.ino)
    if node is None:
        return
    if record.size is not None and isinstance(node, FileNode):
        if record.size < node.size:
            node.extents.cut(record.size)
            node.lower_size = min(node.lower_size, record.size)
        node.size = record.size
    if record.mode is not None:
        node.mode = record.mode
    if record.uid is not None:
        node.uid = record.uid
    if record.gid is not None:
        node.gid = record.gid
    if record.atime_ns is not None:
        node.atime_ns = record.atime_ns
    if record.mtime_ns is not None:
        node.mtime_ns = record.mtime_ns
    node.ctime_ns = record.time_ns


def apply_xattr(state: State, record: SetXattr) -> None:
    """Sets or removes an extended attribute."""
    node = state.active.nodes.get(record.ino) or state.orphans.get(record.ino)
    if node is not None:
        node.xattrs = replace_xattr(node.xattrs, record.name, record.value)
        node.ctime_ns = record.time_ns


def apply_link(state: State, record: Link) -> None:
    """Gives an inode one more name."""
    node = state.active.nodes[record.ino]
    parent = state.active.directory(record.parent)
    _put_name(parent, record.name, node)
    _touch(parent, record.time_ns)
    node.ctime_ns = record.time_ns


def apply_unlink(state: State, record: Unlink, *, is_below: bool) -> None:
    """Removes a name, which a layer below may show; with the last one the node leaves the layer."""
    parent = state.active.directory(record.parent)
    node = state.active.nodes[parent.changes[record.name]]
    state.hide(parent, record.name, is_below=is_below)
    _take_name(state, parent, record.name, node, record.time_ns)
    _touch(parent, record.time_ns)


def apply_rename(state: State, record: Rename, *, is_below: bool) -> None:
    """Moves a name, or lets two change places; `is_below`: a layer below shows the old one."""
    old_parent = state.active.directory(record.parent)
    new_parent = state.active.directory(record.new_parent)
    node = state.active.nodes[old_parent.changes[record.name]]
    target = state.active.nodes.get(new_parent.changes.get(record.new_name, 0))
    old_place, new_place = (record.parent, record.name), (record.new_parent, record.new_name)
    if record.exchange:
        assert target is not None
        old_parent.set_change(record.name, target.ino)
        _move_place(target, new_place, old_place)
        _count(new_parent, target, -1)
        _count(old_parent, target, 1)
        target.ctime_ns = record.time_ns
    else:
        if target is not None:
            _take_name(state, new_parent, record.new_name, target, record.time_ns)
        state.hide(old_parent, record.name, is_below=is_below)
    new_parent.set_change(record.new_name, node.ino)
    _move_place(node, old_place, new_place)
    _count(old_parent, node, -1)
    _count(new_parent, node, 1)
    node.ctime_ns = record.time_ns
    _touch(old_parent, record.time_ns)
    _touch(new_parent, record.time_ns)


def apply_graft(state: State, record: Graft, leaders: Sequence[bytes], *, is_below: bool) -> None:
    """Puts committed content in the place of what a name stands for.

    `leaders`: the base version's groups of hard links that have a path below it. `is_below`: a layer below shows the
    name.
    """
    active = state.active
    for node in active.nodes.values():
        # The grafted content may have an inode at a place that a directory has left. Inodes that are found by way
        # of that place have been materialised by now.
        if node.origin is not None and node.origin[0] and node.origin not in node.places and node is not state.root:
            node.origin = None
    if not record.parent:
        assert record.entry is not None
        _replace_below(state, state.root, record.entry, record.time_ns, leaders)
        return
    parent = active.directory(record.parent)
    old = active.nodes.get(parent.changes.get(record.name, 0))
    _touch(parent, record.time_ns)
    if isinstance(old, DirNode):
        if record.entry is not None and record.ino == old.ino:
            _replace_below(state, old, record.entry, record.time_ns, leaders)
            return
        _empty(state, old, record.time_ns, leaders)
    if old is not None:
        _take_name(state, parent, record.name, old, record.time_ns)
    if record.entry is None:
        state.hide(parent, record.name, is_below=is_below)
        return
    node = node_of_entry(record.ino, record.entry, record.directory, None)
    node.ctime_ns = record.time_ns
    active.nodes[record.ino] = node
    active.removed.discard(record.ino)
    _put_name(parent, record.name, node)


def _replace_below(state: State, node: DirNode, entry: Entry, time_ns: int, leaders: Sequence[bytes]) -> None:
    _empty(state, node, time_ns, leaders)
    node.take_entry(entry)
    node.ctime_ns = time_ns
    node.lower = entry
    node.subdirs = None


def _empty(state: State, node: DirNode, time_ns: int, leaders: Sequence[bytes]) -> None:
    """Removes everything below a directory."""
    for leader in leaders:
        state.active.leaders.setdefault(leader, 0)
    stack = [node]
    while stack:
        directory = stack.pop()
        for name, ino in directory.changes.items():
            child = state.active.nodes.get(ino)
            if child is None:
                continue
            child.drop_place((directory.ino, name))
            child.ctime_ns = time_ns
            if isinstance(child, DirNode):
                stack.append(child)
            if not child.places:
                state.orphan(child)
        directory.clear_changes()
        directory.lower = None
        directory.subdirs = 0
        directory.base_path = None


def apply_inode_record(state: State, record: InodeRecord, found: StoredRecord, segment: int) -> None:
    """Makes the node that a checkpoint's record describes."""
    node: Node
    if record.kind == Kind.FILE:
        node = file = FileNode(record.ino)
        file.size = record.size
        file.lower_size = record.lower_size
        if record.lower is not None and record.directory is not None:
            file.lower = CommittedFile(record.directory, record.lower)
        if found.data_bytes:
            file.extents.put(record.offset, record.offset + found.data_bytes, segment, found.data_position)
    elif record.kind == Kind.DIR:
        node = directory = DirNode(record.ino)
        directory.lower = record.lower
        directory.base_path = record.base_path
        directory.subdirs = record.subdirs
    else:
        node = Node(record.ino, Kind(record.kind))
        node.rdev = record.rdev
        node.target = record.target
    node.mode = record.mode
    node.uid = record.uid
    node.gid = record.gid
    node.atime_ns = record.atime_ns
    node.mtime_ns = record.mtime_ns if record.mtime_ns != record.atime_ns else node.atime_ns
    node.ctime_ns = record.ctime_ns if record.ctime_ns != record.mtime_ns else node.mtime_ns
    node.xattrs = record.xattrs
    node.origin = record.origin
    state.active.nodes[node.ino] = node
    parents = [state.active.directory(parent) for parent, _ in record.places]
    # Equal numbers are one object, here and above: each that is apart takes 32 bytes.
    node.places = tuple((parent.ino, name) for parent, (_, name) in zip(parents, record.places, strict=True))
    for parent, (_, name) in zip(parents, node.places, strict=True):
        parent.set_change(name, node.ino)


def apply_data(state: State, record: Data, found: StoredRecord, segment: int) -> None:
    """Adds data of a file. Data of an inode without a node belonged to an unlinked open file, now closed."""
    node = state.active.nodes.get(record.ino)
    if isinstance(node, FileNode):
        node.extents.put(record.offset, record.offset + found.data_bytes, segment, found.data_position)


def apply_whiteouts(state: State, record: Whiteouts) -> None:
    """Hides names of a directory that the layers below have."""
    directory = state.active.directory(record.ino)
    for name in record.names:
        directory.set_change(name, WHITEOUT)


def apply_moved(state: State, record: Moved) -> None:
    """Records which groups of hard links have nodes, and which directories of the base version were removed."""
    state.active.leaders.update(record.leaders)
    state.active.removed.update(record.removed)


def without_privileges(mode: int) -> int:
    """Returns a mode without setuid, and without setgid where the group may execute (else it means locking)."""
    if mode & stat.S_ISUID:
        mode &= ~stat.S_ISUID
    if mode & (stat.S_ISGID | stat.S_IXGRP) == stat.S_ISGID | stat.S_IXGRP:
        mode &= ~stat.S_ISGID
    return mode


def _put_name(parent: DirNode, name: bytes, node: Node) -> None:
    parent.set_change(name, node.ino)
    # A tuple takes half of what a list does, and few files have a second name.
    node.places += ((parent.ino, name),)
    _count(parent, node, 1)


def _take_name(state: State, parent: DirNode, name: bytes, node: Node, time_ns: int) -> None:
    """Takes a name from a node; `parent` no longer has it."""
    node.drop_place((parent.ino, name))
    _leave(node, (parent.ino, name))
    node.ctime_ns = time_ns
    _count(parent, node, -1)
    if not node.places:
        if isinstance(node, DirNode) and node.lower is not None:
            state.active.removed.add(node.ino)
        state.orphan(node)


def _move_place(node: Node, old: Place, new: Place) -> None:
    node.places = tuple(new if place == old else place for place in node.places)
    _leave(node, old)


def _leave(node: Node, place: Place) -> None:
    # Something else may stand there later on, and must not take this node's number for its own. Directories keep it:
    # hard links of the base version that nothing has touched are found by way of them.
    if node.origin == place and not isinstance(node, DirNode):
        node.origin = None


def _count(parent: DirNode, node: Node, change: int) -> None:
    if parent.subdirs is not None and node.kind == Kind.DIR:
        parent.subdirs += change


def _touch(directory: DirNode, time_ns: int) -> None:
    directory.mtime_ns = directory.ctime_ns = time_ns
