"""A layer's inodes as the records of a checkpoint. `vfs/overlay/apply.py` applies them again: the same fields."""

from __future__ import annotations

from collections.abc import Iterator

from vfs.overlay.journal.journal_records import InodeRecord, Moved, Record, Whiteouts
from vfs.overlay.layer_nodes import ROOT_INO, WHITEOUT, CommittedFile, DirNode, FileNode, Node
from vfs.overlay.state import Layer

_NAMES_MAX = 1000
"""The most names in one record."""


def inode_record(node: Node, offset: int = 0) -> InodeRecord:
    """Returns the record of a node whose layer lies directly on the base version; `offset`: where its data belongs."""
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
        return InodeRecord(*common, node.size, offset, node.lower_size, entry, directory, xattrs=node.xattrs)
    if isinstance(node, DirNode):
        entry = below if not isinstance(below, CommittedFile) else None
        return InodeRecord(*common, lower=entry, base_path=node.base_path, subdirs=node.subdirs, xattrs=node.xattrs)
    return InodeRecord(*common, rdev=node.rdev, target=node.target, xattrs=node.xattrs)


def layer_records(layer: Layer) -> Iterator[Record]:
    """Yields the records of a layer that lies directly on the base version, without its files; parents first."""
    leaders, removed = list(layer.leaders.items()), list(layer.removed)
    for start in range(0, max(len(leaders), len(removed)), _NAMES_MAX):
        end = start + _NAMES_MAX
        yield Moved(tuple(leaders[start:end]), tuple(removed[start:end]))
    stack = [layer.directory(ROOT_INO)]
    while stack:
        directory = stack.pop()
        yield inode_record(directory)
        hidden = [name for name, ino in directory.changes.items() if ino == WHITEOUT]
        for start in range(0, len(hidden), _NAMES_MAX):
            yield Whiteouts(directory.ino, tuple(hidden[start : start + _NAMES_MAX]))
        stack.extend(child for ino in directory.changes.values() if isinstance(child := layer.nodes.get(ino), DirNode))
    for node in layer.nodes.values():
        if not isinstance(node, (DirNode, FileNode)):
            yield inode_record(node)
