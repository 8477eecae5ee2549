"""Chunk lists: trees of a file's runs in the order of their bytes, found by offset.

The nodes are those of vfs/store/trees/maps.py; positions come from sums of sizes, so that nothing behind an insertion
changes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, cast

from vfs.model.nodes import AnyItem, Node, NodeCutter, NodeKind
from vfs.model.objects import ChildRef, ChunkRef
from vfs.store.object_store import ObjectSink, ObjectSource
from vfs.store.trees.maps import (
    LevelCursor,
    TreeSum,
    build_levels,
    child_node,
    finish_edit,
    root_node,
    store_node,
    tree_sum,
)


class ListEdit(NamedTuple):
    """Replaces the items of a chunk list that start in [start, end) by `refs`.

    Both ends are item boundaries of the list before the edit, in bytes.
    """

    start: int
    end: int
    refs: Sequence[ChunkRef]


def list_build(sink: ObjectSink, refs: Iterable[ChunkRef]) -> TreeSum:
    """Stores the list of a file's runs."""
    return build_levels(sink, NodeKind.CHUNKS, 0, refs)


def list_runs(
    source: ObjectSource, root: bytes, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, ChunkRef]]:
    """Yields (offset, run) for the runs that overlap [start, end), in order; reads one leaf at a time."""
    if root:
        yield from _runs(source, root_node(source, NodeKind.CHUNKS, root), 0, start, end)


def _runs(source: ObjectSource, node: Node, base: int, start: int, end: int | None) -> Iterator[tuple[int, ChunkRef]]:
    for item in cast("Sequence[ChunkRef | ChildRef]", node.items):
        if end is not None and base >= end:
            return
        if base + item.size > start:
            if isinstance(item, ChunkRef):
                yield base, item
            else:
                yield from _runs(source, child_node(source, node, item), base, start, end)
        base += item.size


def list_leaf(source: ObjectSource, root: bytes, offset: int) -> tuple[list[int], Sequence[ChunkRef]]:
    """Returns the leaf that holds a byte: where its runs start (and, last, where the last one ends), and the runs."""
    node, base = root_node(source, NodeKind.CHUNKS, root), 0
    while node.level:
        children = node.children
        ends = list(accumulate((child.size for child in children), initial=base))
        at = min(bisect_right(ends, offset) - 1, len(children) - 1)
        base = ends[at]
        node = child_node(source, node, children[at])
    refs = node.runs
    return list(accumulate((ref.size for ref in refs), initial=base)), refs


def list_edit(sink: ObjectSink, root: bytes, edits: Sequence[ListEdit]) -> TreeSum:
    """Stores the list after edits that are sorted, do not overlap and are given in the old list's offsets."""
    if not root:
        return list_build(sink, [ref for edit in edits for ref in edit.refs])
    top = root_node(sink, NodeKind.CHUNKS, root)
    if not edits:
        return tree_sum(sink, NodeKind.CHUNKS, root)
    level_edits: list[_Splice] = [_Splice(*edit) for edit in edits]
    for level in range(top.level):
        level_edits = _edit_list_level(sink, level, top, level_edits)
    return finish_edit(sink, NodeKind.CHUNKS, top.level, _merge_list(top.items, 0, level_edits, is_last=True))


class _Splice(NamedTuple):
    """A ListEdit on any level: replaces the items that start in [start, end)."""

    start: int
    end: int
    refs: Sequence[AnyItem]


def _edit_list_level(sink: ObjectSink, level: int, top: Node, edits: list[_Splice]) -> list[_Splice]:
    upper: list[_Splice] = []
    done = 0
    while done < len(edits):
        cursor = _ListCursor(sink, top, level, edits[done].start)
        first = cursor.base
        cutter = NodeCutter(NodeKind.CHUNKS, level)
        pending: list[AnyItem] = []
        fresh: list[AnyItem] = []
        while True:
            last = cursor.is_last
            until = done
            while until < len(edits) and (last or edits[until].start < cursor.end):
                until += 1
            for item in _merge_list(cursor.node.items, cursor.base, edits[done:until], is_last=last):
                pending.append(item)
                if cutter.ends_after(item):
                    fresh.append(store_node(sink, NodeKind.CHUNKS, level, pending))
                    pending = []
            replaced_end = cursor.end
            # An edit that reaches into the next node stays, without what it has already inserted.
            if until > done and edits[until - 1].end > cursor.end and not last:
                until -= 1
                edits[until] = _Splice(cursor.end, edits[until].end, ())
            elif not pending:
                done = until
                break
            done = until
            if not cursor.advance():
                break
        if pending:
            fresh.append(store_node(sink, NodeKind.CHUNKS, level, pending))
        upper.append(_Splice(first, replaced_end, fresh))
    return upper


def _merge_list(items: Sequence[AnyItem], base: int, edits: list[_Splice], *, is_last: bool) -> list[AnyItem]:
    if not edits:
        return list(items)
    merged: list[AnyItem] = []
    number = 0
    for item in cast("Sequence[ChunkRef | ChildRef]", items):
        while number < len(edits) and edits[number].start <= base and edits[number].end <= base:
            merged.extend(edits[number].refs)
            number += 1
        if number < len(edits) and edits[number].start == base:
            merged.extend(edits[number].refs)
            edits = [*edits[:number], edits[number]._replace(refs=()), *edits[number + 1 :]]
        if not (number < len(edits) and edits[number].start <= base < edits[number].end):
            merged.append(item)
        base += item.size
    for edit in edits[number:]:
        if is_last or edit.start < base:
            merged.extend(edit.refs)
    return merged


class _ListCursor(LevelCursor):
    """A place among the nodes of one level of a chunk list, with its offsets."""

    def __init__(self, source: ObjectSource, top: Node, level: int, offset: int) -> None:
        super().__init__(source, top)
        self.base = 0
        while self.node.level > level:
            at = 0
            children = self.node.children
            while at < len(children) - 1 and self.base + children[at].size <= offset:
                self.base += children[at].size
                at += 1
            self.descend(at)

    @property
    def end(self) -> int:
        """Offset behind the node's last byte."""
        return self.base + self.ref.size

    def advance(self) -> bool:
        """Moves to the next node of the level; False at the end."""
        end = self.end
        moved = super().advance()
        if moved:
            self.base = end
        return moved
