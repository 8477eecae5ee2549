"""Which versions and paths an object belongs to: damage, named the way people can use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from vfs.errors import Corrupt
from vfs.model.ids import NodeId
from vfs.model.names import join_path
from vfs.model.nodes import ENTRIES, Node, NodeKind
from vfs.model.objects import Commit, Entry, Form, Kind
from vfs.store.object_store import ObjectSource


class Use(NamedTuple):
    """A path that needs an object; a directory where the object holds some of its names."""

    path: bytes
    object_id: bytes


class _LostSubtree(NamedTuple):
    """A wanted node of a map and the names that belong in it: above `low` (None: from the first) up to `high`."""

    object_id: bytes
    low: bytes | None
    high: bytes | None


class _Frame:
    """A directory being searched; `has_uses` is True once a use was found in it or below."""

    __slots__ = ("has_uses", "key", "rest")

    def __init__(self, key: bytes, rest: Iterator[tuple[bytes, Entry]]) -> None:
        self.key = key
        self.rest = rest
        self.has_uses = False


class Locator:
    """Finds the uses of some objects in one version after the other; subtrees without them are read once."""

    def __init__(self, source: ObjectSource, wanted: Mapping[bytes, object]) -> None:
        self._source = source
        self._wanted = wanted
        self._free: set[bytes] = set()

    def uses(self, commit: Commit) -> Iterator[Use]:
        """Yields the paths of a version that need one of the objects, in order; the root's path is empty."""
        yield from (Use(b"", lost.object_id) for lost in self._map(NodeKind.LINKS, commit.links)[1])
        top = _Frame(b"", iter(((b"", commit.root),)))
        stack = [top]
        while stack:
            frame = stack[-1]
            following = next(frame.rest, None)
            if following is None:
                stack.pop()
                if stack and frame.has_uses:
                    stack[-1].has_uses = True
                elif stack:
                    self._free.add(frame.key)
                continue
            path, entry = following
            if entry.kind == Kind.DIR:
                key = entry.content + entry.tiny
                if key in self._free:
                    continue
                found, members = self._directory(path, entry)
                stack.append(_Frame(key, iter(members)))
            else:
                found = [Use(path, object_id) for object_id in self._content(entry)]
            if found:
                stack[-1].has_uses = True
                yield from found

    def _directory(self, path: bytes, directory: Entry) -> tuple[list[Use], list[tuple[bytes, Entry]]]:
        """Returns the uses of a directory's own nodes, and its entries."""
        _, tiny_lost = self._map(NodeKind.TINY, directory.tiny)
        leaves, lost = self._map(NodeKind.ENTRIES, directory.content)
        found = [Use(path, range_.object_id) for range_ in lost]
        members: list[tuple[bytes, Entry]] = []
        for leaf in leaves:
            for item in ENTRIES.leaf(leaf):
                child = join_path(path, item.name)
                if item.kind == Kind.FILE and item.form == Form.TINY:
                    found.extend(Use(child, range_.object_id) for range_ in tiny_lost if _holds(range_, item.name))
                else:
                    members.append((child, item))
        return found, members

    def _content(self, entry: Entry) -> list[bytes]:
        """Returns the wanted objects that a file's bytes need."""
        if entry.kind != Kind.FILE or entry.content in self._free:
            return []
        if entry.form == Form.CHUNK:
            return [entry.content] if entry.content in self._wanted else []
        if entry.form != Form.LIST:
            return []
        leaves, lost = self._map(NodeKind.CHUNKS, entry.content)
        found = [range_.object_id for range_ in lost]
        for leaf in leaves:
            found.extend(ref.id for ref in leaf.runs if ref.id in self._wanted)
        if not found:
            self._free.add(entry.content)
        return found

    def _map(self, kind: NodeKind, root: bytes) -> tuple[list[Node], list[_LostSubtree]]:
        """Returns a tree's leaves that can be read and its wanted nodes."""
        leaves: list[Node] = []
        lost: list[_LostSubtree] = []
        todo: list[_LostSubtree] = [_LostSubtree(root, None, None)] if root else []
        while todo:
            place = todo.pop()
            if place.object_id in self._wanted:
                lost.append(place)
            try:
                node = self._source.get_node(NodeId(place.object_id))
            except Corrupt:
                continue
            if node.kind != kind:
                continue
            if not node.level:
                leaves.append(node)
                continue
            children = node.children
            lows = [place.low, *(child.key for child in children[:-1])]
            below = [_LostSubtree(child.id, low, child.key) for child, low in zip(children, lows, strict=True)]
            todo.extend(reversed(below))
        return leaves, lost


def _holds(lost: _LostSubtree, name: bytes) -> bool:
    return (lost.low is None or lost.low < name) and (lost.high is None or name <= lost.high)
