"""Comparison of two maps, node by node: equal nodes are skipped unread, so the cost follows the difference."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Generic, NamedTuple

from vfs.errors import Corrupt
from vfs.model.nodes import MapItem, MapItemT, MapKind, leaf_key
from vfs.model.objects import ChildRef
from vfs.store.object_store import ObjectSource
from vfs.store.trees.maps import root_node


class _Subtree(NamedTuple):
    """A part of a tree not looked into yet: its names lie in (lower, ref.key]."""

    lower: bytes | None
    ref: ChildRef
    level: int


class _DiffSide(Generic[MapItemT]):
    """One tree's items in order, opened node by node."""

    def __init__(self, source: ObjectSource, kind: MapKind[MapItemT], root: bytes, after: bytes | None) -> None:
        self._source = source
        self._kind = kind
        self._after = after
        self._stack: list[_Subtree | MapItemT] = []
        if root:
            node = root_node(source, kind.node, root)
            self._stack.append(_Subtree(None, ChildRef(leaf_key(node.items[-1]), root, 0, 0, 0), node.level))

    @property
    def head(self) -> _Subtree | MapItemT | None:
        return self._stack[-1] if self._stack else None

    def drop(self) -> None:
        self._stack.pop()

    def open(self) -> None:
        part = self._stack.pop()
        assert isinstance(part, _Subtree)
        node = root_node(self._source, self._kind.node, part.ref.id)
        if node.level != part.level:
            raise Corrupt(f"tree node {part.ref.id.hex()[:16]} is not at the level that its parent says")
        if not node.level:
            first = bisect_right(node.items, self._after, key=leaf_key) if self._after is not None else 0
            self._stack.extend(reversed(self._kind.leaf(node)[first:]))
            return
        children = node.children
        if self._after is not None:
            children = children[bisect_right(children, self._after, key=leaf_key) :]
        if not children:
            return
        lowers = [part.lower, *(child.key for child in children[:-1])]
        self._stack.extend(
            _Subtree(lower, child, node.level - 1)
            for lower, child in zip(reversed(lowers), reversed(children), strict=True)
        )


def map_diff(
    source: ObjectSource, kind: MapKind[MapItemT], old_root: bytes, new_root: bytes, after: bytes | None = None
) -> Iterator[tuple[MapItemT | None, MapItemT | None]]:
    """Yields (old, new) for each name whose items differ, in order; equal nodes are skipped unread.

    With `after` only names above it, which costs one way down and not the names before.
    """
    if old_root == new_root:
        return
    old, new = (_DiffSide(source, kind, root, after) for root in (old_root, new_root))
    while old.head is not None or new.head is not None:
        a, b = old.head, new.head
        if isinstance(a, _Subtree) and isinstance(b, _Subtree):
            if a.ref.id == b.ref.id:
                old.drop()
                new.drop()
            else:
                (old if a.level >= b.level else new).open()
        elif isinstance(a, _Subtree):
            # An item that lies before all of a closed part is settled first, so that the part may yet meet its equal.
            if b is not None and not isinstance(b, _Subtree) and _lies_before(b, a):
                new.drop()
                yield None, b
            else:
                old.open()
        elif isinstance(b, _Subtree):
            if a is not None and _lies_before(a, b):
                old.drop()
                yield a, None
            else:
                new.open()
        else:
            yield from _diff_items(old, new, a, b)


def either(one: MapItemT | None, other: MapItemT | None) -> MapItemT:
    """Returns the one of two items that is there, of a difference, which has at least one."""
    found = one if one is not None else other
    assert found is not None
    return found


def _lies_before(item: MapItem, part: _Subtree) -> bool:
    return part.lower is not None and leaf_key(item) <= part.lower


def _diff_items(
    old: _DiffSide[MapItemT], new: _DiffSide[MapItemT], a: MapItemT | None, b: MapItemT | None
) -> Iterator[tuple[MapItemT | None, MapItemT | None]]:
    if b is None or (a is not None and leaf_key(a) < leaf_key(b)):
        old.drop()
        yield a, None
    elif a is None or leaf_key(b) < leaf_key(a):
        new.drop()
        yield None, b
    else:
        old.drop()
        new.drop()
        if a != b:
            yield a, b
