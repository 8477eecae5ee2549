"""Paths of a layer's inodes, and the changes of hard-link groups when directories move."""

from __future__ import annotations

from typing import NamedTuple, cast

from vfs.model.names import join_path
from vfs.model.nodes import LINKS
from vfs.model.objects import LinkItem, Version
from vfs.overlay.layer_nodes import ROOT_INO, DirNode, Node
from vfs.overlay.state import Layer
from vfs.store.object_store import ObjectSource
from vfs.store.trees.maps import map_get, map_items


class LayerPaths:
    """Paths of the nodes of a layer that lies on the base version and does not change meanwhile."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._directories: dict[int, bytes] = {ROOT_INO: b""}
        self._by_base: dict[bytes, DirNode] | None = None

    def directory(self, ino: int) -> bytes:
        """Returns a directory's path."""
        climbed: list[tuple[int, bytes]] = []
        at = ino
        while at not in self._directories:
            parent, name = self._layer.nodes[at].places[0]
            climbed.append((at, name))
            at = parent
        path = self._directories[at]
        for number, name in reversed(climbed):
            path = self._directories[number] = join_path(path, name)
        return path

    def members(self, node: Node) -> tuple[bytes, ...]:
        """Returns all paths of a node, sorted."""
        return tuple(sorted(join_path(self.directory(parent), name) for parent, name in node.places))

    def moved(self, base_path: bytes) -> bytes:
        """Returns the present path of an inode without a node, from its path in the base version."""
        if self._by_base is None:
            self._by_base = {
                node.base_path: node
                for node in self._layer.nodes.values()
                if isinstance(node, DirNode) and node.base_path is not None
            }
        directory, rest = base_path, b""
        while directory:
            directory, _, name = directory.rpartition(b"/")
            rest = join_path(name, rest) if rest else name
            node = self._by_base.get(directory)
            if node is not None:
                return join_path(self.directory(node.ino), rest)
        return base_path


class LinkChanges(NamedTuple):
    """The changes that a layer makes to the base version's hard links.

    `edits`: of the link map. `groups`: inode number to all paths, for nodes with several. `moved`: the base version's
    leader to all paths, for groups that have no node and of which directories have moved. `gone`: leaders of groups
    that the map has under that name no longer.
    """

    edits: dict[bytes, LinkItem | None]
    groups: dict[int, tuple[bytes, ...]]
    moved: dict[bytes, tuple[bytes, ...]]
    gone: set[bytes]


def link_changes(source: ObjectSource, base: Version | None, layer: Layer) -> LinkChanges:
    """Returns the changes of a layer to the base version's hard links; the cost follows the links concerned."""
    links = base.commit.links if base is not None else b""
    paths = LayerPaths(layer)
    changes = LinkChanges({}, {}, {}, set())
    with_nodes = set(layer.leaders)
    fresh: dict[bytes, LinkItem | None] = {}
    for leader in layer.leaders:
        _drop_group(changes, leader, _members(source, links, leader))
    for ino, node in layer.nodes.items():
        if len(node.places) > 1 and not isinstance(node, DirNode):
            members = changes.groups[ino] = paths.members(node)
            _put_group(fresh, members)
    for node in layer.nodes.values():
        if not isinstance(node, DirNode) or not _has_moved(layer, node) or not links:
            continue
        prefix = cast("bytes", node.base_path) + b"/"
        for item in map_items(source, LINKS, links, prefix):
            if not item.name.startswith(prefix):
                break
            leader = item.leader
            if leader in with_nodes or leader in changes.moved:
                continue
            old = _members(source, links, leader)
            members = changes.moved[leader] = tuple(sorted(map(paths.moved, old)))
            _drop_group(changes, leader, old)
            _put_group(fresh, members)
    changes.edits.update(fresh)
    return changes


def _members(source: ObjectSource, links: bytes, leader: bytes) -> tuple[bytes, ...]:
    item = map_get(source, LINKS, links, leader)
    return item.members if item is not None else ()


def _has_moved(layer: Layer, node: DirNode) -> bool:
    """Returns True if a directory of the base version has moved relative to its parent (which may have moved too)."""
    if not node.base_path or not node.places:
        return False
    parent, name = node.places[0]
    above = layer.directory(parent).base_path
    return above is None or join_path(above, name) != node.base_path


def _drop_group(changes: LinkChanges, leader: bytes, members: tuple[bytes, ...]) -> None:
    changes.gone.add(leader)
    for path in members:
        changes.edits[path] = None


def _put_group(edits: dict[bytes, LinkItem | None], members: tuple[bytes, ...]) -> None:
    leader = members[0]
    for path in members:
        edits[path] = LinkItem(path, leader, members if path == leader else ())
