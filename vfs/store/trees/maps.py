"""Trees of nodes: find, walk, edit and compare. One mechanism for directory maps and chunk lists.

All functions take a source or a sink of nodes and the id of a root, which is empty for a tree without items. An edit
reads and writes the nodes on the way to what it changes and gives the tree that building all items afresh would give
(vfs/model/nodes.py says why). The root is the lowest level that has one node only.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import NamedTuple, cast

from vfs.errors import Corrupt, TooLarge
from vfs.model.ids import NodeId
from vfs.model.nodes import (
    LEVEL_MAX,
    AnyItem,
    MapItemT,
    MapKind,
    Node,
    NodeCutter,
    NodeKind,
    cut_nodes,
    item_count,
    leaf_key,
    sums,
)
from vfs.model.objects import ChildRef
from vfs.model.validation import SIZE_MAX
from vfs.store.object_store import ObjectSink, ObjectSource, ObjectStore

EMPTY_ROOT = NodeId(b"")

_child_key = attrgetter("key")
_child_items = attrgetter("items")
_item_name = attrgetter("name")


class TreeSum(NamedTuple):
    """A tree's root and the sums over its items."""

    id: NodeId
    items: int
    files: int
    size: int


class EncodedLeaf(NamedTuple):
    """A leaf as it is stored, how many items stand before it, and whether none stands behind."""

    first: int
    encoded: memoryview
    is_last: bool


EMPTY_TREE = TreeSum(EMPTY_ROOT, 0, 0, 0)


def child_node(source: ObjectSource, parent: Node, child: ChildRef) -> Node:
    """Returns a child, checked to be what its parent's place says."""
    node = source.get_node(NodeId(child.id))
    if node.level != parent.level - 1 or node.kind != parent.kind:
        raise Corrupt(f"tree node {child.id.hex()[:16]} is not at the level or of the kind that its parent says")
    return node


def root_node(source: ObjectSource, kind: NodeKind, root: bytes) -> Node:
    """Returns a root node, checked to be of the kind that is meant."""
    node = source.get_node(NodeId(root))
    if node.kind != kind:
        raise Corrupt(f"tree node {root.hex()[:16]} is a {node.kind.name} node where {kind.name} is meant")
    return node


def tree_sum(source: ObjectSource, kind: NodeKind, root: bytes) -> TreeSum:
    """Returns the sums over a tree from its root node alone."""
    if not root:
        return EMPTY_TREE
    return TreeSum(NodeId(root), *sums(root_node(source, kind, root).items))


# Maps: items in the order of their names.


def map_get(source: ObjectSource, kind: MapKind[MapItemT], root: bytes, name: bytes) -> MapItemT | None:
    """Returns the item of a name, or None."""
    node = _descend(source, kind.node, root, name, 0) if root else None
    return None if node is None else leaf_item(kind, node, name)


def leaf_item(kind: MapKind[MapItemT], node: Node, name: bytes) -> MapItemT | None:
    """Returns the item of a name in a leaf, or None."""
    items = kind.leaf(node)
    at = bisect_left(items, name, key=_item_name)
    return items[at] if at < len(items) and items[at].name == name else None


def map_find(source: ObjectSource, kind: MapKind[MapItemT], root: bytes, name: bytes) -> tuple[int, MapItemT] | None:
    """Returns the position and the item of a name, or None."""
    before, items = _leaf_of(source, kind, root, name)
    at = bisect_left(items, name, key=_item_name)
    return (before + at, items[at]) if at < len(items) and items[at].name == name else None


def map_position(source: ObjectSource, kind: MapKind[MapItemT], root: bytes, after: bytes) -> int:
    """Returns how many items have names up to `after`."""
    before, items = _leaf_of(source, kind, root, after)
    return before + bisect_right(items, after, key=_item_name)


def _leaf_of(source: ObjectSource, kind: MapKind[MapItemT], root: bytes, name: bytes) -> tuple[int, Sequence[MapItemT]]:
    """Returns how many items stand before the leaf that a name belongs in, and its items; none behind the last."""
    before = 0
    if not root:
        return before, ()
    node = root_node(source, kind.node, root)
    while node.level:
        children = node.children
        at = bisect_left(children, name, key=_child_key)
        before += sum(map(_child_items, children[:at]))
        if at == len(children):
            return before, ()
        node = child_node(source, node, children[at])
    return before, kind.leaf(node)


def encoded_leaf(store: ObjectStore, kind: NodeKind, root: bytes, name: bytes) -> EncodedLeaf | None:
    """Returns the leaf that a name belongs in, None behind the last name.

    Of the leaf the id is checked, and that it is where its parent says, with as many items.
    """
    return _encoded_leaf(store, kind, root, lambda children, _: bisect_left(children, name, key=_child_key))


def encoded_leaf_at(store: ObjectStore, kind: NodeKind, root: bytes, position: int) -> EncodedLeaf | None:
    """Returns the leaf that a position is in, counted from 0, as `encoded_leaf` does; None behind the last.

    Of a root that is a leaf, that leaf may end before the position.
    """

    def find(children: Sequence[ChildRef], before: int) -> int:
        ends = accumulate(map(_child_items, children), initial=before)
        return bisect_right(list(ends), position) - 1

    return _encoded_leaf(store, kind, root, find)


def _encoded_leaf(
    store: ObjectStore, kind: NodeKind, root: bytes, find: Callable[[Sequence[ChildRef], int], int]
) -> EncodedLeaf | None:
    """`find` chooses among children, given how many items stand before them."""
    before, level, wanted, items = 0, LEVEL_MAX, NodeId(root), -1
    is_last = True
    while True:
        found = store.inner_node_or_leaf(wanted)
        if found[0] != kind or (found[1] != level if wanted is not root else found[1] > level):
            raise Corrupt(f"tree node {wanted.hex()[:16]} is not at the level or of the kind that its parent says")
        if isinstance(found, memoryview):
            if item_count(found) != items >= 0:
                raise Corrupt(f"tree node {wanted.hex()[:16]} has not as many items as its parent says")
            return EncodedLeaf(before, found, is_last)
        level = found.level - 1
        children = found.children
        at = find(children, before)
        if at == len(children):
            return None
        is_last = is_last and at == len(children) - 1
        before += sum(map(_child_items, children[:at]))
        wanted, items = NodeId(children[at].id), children[at].items


def map_at(source: ObjectSource, kind: MapKind[MapItemT], root: bytes, position: int) -> MapItemT:
    """Returns the item at a position, counted from 0. Raises Corrupt if the map has fewer, or its sums are wrong."""
    node = root_node(source, kind.node, root) if root else None
    while node is not None and node.level:
        for child in node.children:
            if position < child.items:
                node = child_node(source, node, child)
                break
            position -= child.items
        else:
            node = None
    if node is None or position >= len(node.items):
        raise Corrupt("a map has fewer items than it had, or than its nodes say")
    return kind.leaf(node)[position]


def map_parent(source: ObjectSource, kind: MapKind[MapItemT], root: bytes, name: bytes) -> tuple[Node, ChildRef] | None:
    """Returns the node above the leaf that a name's item is in, and what it says of the leaf, without reading that.

    None where the root is that leaf, or the name is behind the last one.
    """
    node = _descend(source, kind.node, root, name, 1) if root else None
    if node is None or not node.level:
        return None
    children = node.children
    at = bisect_left(children, name, key=_child_key)
    return (node, children[at]) if at < len(children) else None


def first_missing(store: ObjectStore, root: bytes, name: bytes) -> bytes:
    """Returns the id of the first node on the way to a name's leaf that is not in memory; empty if all are."""
    wanted = NodeId(root)
    while store.holds_tree_object(wanted):
        found = store.inner_node_or_leaf(wanted)
        at = 0 if isinstance(found, memoryview) else bisect_left(found.children, name, key=_child_key)
        if isinstance(found, memoryview) or at == len(found.children):
            return b""
        wanted = NodeId(found.children[at].id)
    return wanted


def map_leaf(source: ObjectSource, kind: MapKind[MapItemT], root: bytes, name: bytes) -> bytes:
    """Returns the id of the leaf that a name's item is in, without reading it; empty where `map_parent` has none."""
    above = map_parent(source, kind, root, name)
    return b"" if above is None else above[1].id


def _descend(source: ObjectSource, kind: NodeKind, root: bytes, name: bytes, level: int) -> Node | None:
    """Returns the node of a level that a name belongs below, or the root of a lower tree; None behind the last name."""
    node = root_node(source, kind, root)
    while node.level > level:
        children = node.children
        at = bisect_left(children, name, key=_child_key)
        if at == len(children):
            return None
        node = child_node(source, node, children[at])
    return node


def map_items(
    source: ObjectSource, kind: MapKind[MapItemT], root: bytes, after: bytes | None = None
) -> Iterator[MapItemT]:
    """Yields the items in order, from the first name above `after` (None: from the start); reads one leaf at a time."""
    if root:
        yield from _items_after(source, kind, root_node(source, kind.node, root), after)


def _items_after(source: ObjectSource, kind: MapKind[MapItemT], node: Node, after: bytes | None) -> Iterator[MapItemT]:
    key = _child_key if node.level else _item_name
    first = bisect_right(node.items, after, key=key) if after is not None else 0
    if not node.level:
        yield from kind.leaf(node)[first:]
        return
    for number, child in enumerate(node.children[first:]):
        yield from _items_after(source, kind, child_node(source, node, child), after if number == 0 else None)


def map_build(sink: ObjectSink, kind: MapKind[MapItemT], items: Iterable[MapItemT]) -> TreeSum:
    """Stores the map of items given in the order of their names."""
    return build_levels(sink, kind.node, 0, items)


def map_edit(sink: ObjectSink, kind: MapKind[MapItemT], root: bytes, edits: Mapping[bytes, MapItemT | None]) -> TreeSum:
    """Stores the map after putting (None: removing) items by name; a name that is not there may be removed."""
    if not root:
        return map_build(sink, kind, (item for _, item in sorted(edits.items()) if item is not None))
    if not edits:
        return tree_sum(sink, kind.node, root)
    top = root_node(sink, kind.node, root)
    level_edits: list[tuple[bytes, AnyItem | None]] = sorted(edits.items())
    for level in range(top.level):
        level_edits = _edit_map_level(sink, kind.node, level, top, level_edits)
    return finish_edit(sink, kind.node, top.level, _merge_map(top.items, level_edits))


def _edit_map_level(
    sink: ObjectSink, kind: NodeKind, level: int, top: Node, edits: list[tuple[bytes, AnyItem | None]]
) -> list[tuple[bytes, AnyItem | None]]:
    """Applies edits to the nodes of a level below the root; returns what that edits one level up."""
    upper: dict[bytes, AnyItem | None] = {}
    done = 0
    while done < len(edits):
        cursor = _find_on_level(sink, top, level, edits[done][0])
        cutter = NodeCutter(kind, level)
        pending: list[AnyItem] = []
        replaced: list[ChildRef] = []
        fresh: list[ChildRef] = []
        while True:
            replaced.append(cursor.ref)
            until = len(edits) if cursor.is_last else _count_upto(edits, done, cursor.ref.key)
            for item in _merge_map(cursor.node.items, edits[done:until]):
                pending.append(item)
                if cutter.ends_after(item):
                    fresh.append(store_node(sink, kind, level, pending))
                    pending = []
            done = until
            # At a boundary where an old node ended too, the old nodes that follow stand as they are.
            if not pending or not cursor.advance():
                break
        if pending:
            fresh.append(store_node(sink, kind, level, pending))
        upper.update((ref.key, None) for ref in replaced)
        upper.update((ref.key, ref) for ref in fresh)
    return sorted(upper.items())


def _count_upto(edits: list[tuple[bytes, AnyItem | None]], first: int, key: bytes) -> int:
    return bisect_right(edits, key, lo=first, key=lambda edit: edit[0])


def _merge_map(items: Sequence[AnyItem], edits: list[tuple[bytes, AnyItem | None]]) -> list[AnyItem]:
    merged = {leaf_key(item): item for item in items}
    known = len(merged)
    for key, item in edits:
        if item is None:
            merged.pop(key, None)
        else:
            merged[key] = item
    if len(merged) == known and all(key in merged for key, _ in edits):
        # Replacing values keeps a dict's order; only new keys have to be sorted in.
        keys = list(merged)
        if all(map(bytes.__lt__, keys, keys[1:])):
            return list(merged.values())
    return [merged[key] for key in sorted(merged)]


class LevelCursor:
    """A place among the nodes of one level below the root: the way to it, and the node itself."""

    def __init__(self, source: ObjectSource, top: Node) -> None:
        self._source = source
        self._path: list[tuple[Node, int]] = []
        self.node = top

    def descend(self, at: int) -> None:
        """Goes on to a child of the node."""
        self._path.append((self.node, at))
        self.node = child_node(self._source, self.node, self.node.children[at])

    @property
    def ref(self) -> ChildRef:
        """The node as its parent names it."""
        parent, at = self._path[-1]
        return parent.children[at]

    @property
    def is_last(self) -> bool:
        """True if no node of the level follows."""
        return all(at == len(parent.items) - 1 for parent, at in self._path)

    def advance(self) -> bool:
        """Moves to the next node of the level; False at the end."""
        depth = len(self._path)
        while self._path and self._path[-1][1] == len(self._path[-1][0].items) - 1:
            self._path.pop()
        if not self._path:
            return False
        self.node, at = self._path.pop()
        self.descend(at + 1)
        while len(self._path) < depth:
            self.descend(0)
        return True


def _find_on_level(source: ObjectSource, top: Node, level: int, key: bytes) -> LevelCursor:
    cursor = LevelCursor(source, top)
    while cursor.node.level > level:
        items = cursor.node.items
        cursor.descend(min(bisect_left(items, key, key=_child_key), len(items) - 1))
    return cursor


# Storing levels from the bottom up, for maps and chunk lists.


def store_node(sink: ObjectSink, kind: NodeKind, level: int, items: Sequence[AnyItem]) -> ChildRef:
    """Stores one node and returns it as its parent names it."""
    total = sums(items)
    if max(total) > SIZE_MAX:
        raise TooLarge(f"files are larger together than {SIZE_MAX} bytes, the most that a version can have")
    return ChildRef(leaf_key(items[-1]), sink.put_node(kind, level, items), *total)


def build_levels(sink: ObjectSink, kind: NodeKind, level: int, items: Iterable[AnyItem]) -> TreeSum:
    """Stores all nodes from a level up, given that level's items."""
    refs = [store_node(sink, kind, level, group) for group in cut_nodes(kind, level, items)]
    while len(refs) > 1:
        level += 1
        refs = [store_node(sink, kind, level, group) for group in cut_nodes(kind, level, refs)]
    if not refs:
        return EMPTY_TREE
    return TreeSum(NodeId(refs[0].id), refs[0].items, refs[0].files, refs[0].size)


def finish_edit(sink: ObjectSink, kind: NodeKind, level: int, items: Sequence[AnyItem]) -> TreeSum:
    """Stores the top level after an edit: more levels where it has grown, fewer where it has shrunk."""
    while level and len(items) == 1:
        only = cast("ChildRef", items[0])
        node = sink.get_node(NodeId(only.id))
        if node.level and len(node.items) == 1:
            level, items = node.level, node.items
            continue
        return TreeSum(NodeId(only.id), only.items, only.files, only.size)
    return build_levels(sink, kind, level, items)
