"""A layer's inodes as the records of a summary, and back. Both ways are here, so that neither forgets a field."""

from __future__ import annotations

from collections.abc import Iterator

from vfs.model.objects import Kind
from vfs.overlay.journal.framing import Found
from vfs.overlay.journal.records import Fill, Hide, Left, Record, Restate
from vfs.overlay.nodes import ROOT_INO, WHITEOUT, CommittedFile, DirNode, FileNode, Node
from vfs.overlay.state import Layer, State

_AT_ONCE = 1000
"""Names in one record."""


def restated(node: Node, offset: int = 0) -> Restate:
    """Returns the record of a node whose layer lies on the base version; its data stands at `offset` of the file."""
    common = (
        node.ino,
        node.kind,
        node.mode,
        node.uid,
        node.gid,
        node.atime_ns,
        node.mtime_ns,
        node.ctime_ns,
        node.places,
        node.origin,
    )
    below = node.lower if isinstance(node, (FileNode, DirNode)) else None
    assert not isinstance(below, Node)
    if isinstance(node, FileNode):
        directory, entry = below if isinstance(below, CommittedFile) else (None, None)
        return Restate(*common, node.size, offset, node.lower_size, entry, directory, xattrs=node.xattrs)
    if isinstance(node, DirNode):
        entry = below if not isinstance(below, CommittedFile) else None
        return Restate(*common, lower=entry, base_path=node.base_path, subdirs=node.subdirs, xattrs=node.xattrs)
    return Restate(*common, rdev=node.rdev, target=node.target, xattrs=node.xattrs)


def layer_records(layer: Layer) -> Iterator[Record]:
    """Yields the records of everything in a layer on the base version but its files, parents first."""
    leaders, removed = list(layer.leaders.items()), list(layer.removed)
    for start in range(0, max(len(leaders), len(removed)), _AT_ONCE):
        end = start + _AT_ONCE
        yield Left(tuple(leaders[start:end]), tuple(removed[start:end]))
    stack = [layer.directory(ROOT_INO)]
    while stack:
        directory = stack.pop()
        yield restated(directory)
        hidden = [name for name, ino in directory.changes.items() if ino == WHITEOUT]
        for start in range(0, len(hidden), _AT_ONCE):
            yield Hide(directory.ino, tuple(hidden[start : start + _AT_ONCE]))
        stack.extend(child for ino in directory.changes.values() if isinstance(child := layer.nodes.get(ino), DirNode))
    for node in layer.nodes.values():
        if not isinstance(node, (DirNode, FileNode)):
            yield restated(node)


def apply_restate(state: State, record: Restate, found: Found, segment: int) -> None:
    """Makes the node that a record tells of."""
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


def apply_fill(state: State, record: Fill, found: Found, segment: int) -> None:
    """Puts data in its place. Of an inode without a node it is that of an open file without a name: no one's now."""
    node = state.active.nodes.get(record.ino)
    if isinstance(node, FileNode):
        node.extents.put(record.offset, record.offset + found.data_bytes, segment, found.data_position)


def apply_hide(state: State, record: Hide) -> None:
    """Hides names of a directory."""
    directory = state.active.directory(record.ino)
    for name in record.names:
        directory.set_change(name, WHITEOUT)


def apply_left(state: State, record: Left) -> None:
    """Remembers what has left its place."""
    state.active.leaders.update(record.leaders)
    state.active.removed.update(record.removed)
