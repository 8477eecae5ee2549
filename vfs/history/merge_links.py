"""Merging hard links: which names of a merged tree belong to one file. The cost follows the links, not the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import msgspec

from vfs.history.directory_moves import Move, entry_at, moved
from vfs.model.nodes import LINKS
from vfs.model.objects import Entry, Kind
from vfs.store.object_store import ObjectSink, ObjectSource
from vfs.store.trees.hard_links import set_linked, store_links
from vfs.store.trees.maps import map_items

Leaders = Mapping[bytes, bytes]
"""Hard-linked paths, each with the one that stands for its group."""


def read_links(source: ObjectSource, links: bytes, moves: Sequence[Move]) -> Leaders:
    """Returns a link map's paths with their leaders, both as they are called after moves."""
    items = map_items(source, LINKS, links)
    return {moved(item.name, moves): moved(item.leader, moves) for item in items}


def merge_links(sink: ObjectSink, root: Entry, base: Leaders, ours: Leaders, theirs: Leaders) -> tuple[Entry, bytes]:
    """Returns a merged tree with its links marked, and its link map.

    Two names stay one file, become one or cease to be as one side has it, if the other has not changed that; and only
    where the merged tree has the same thing under both.
    """
    named = {path for side in (base, ours, theirs) for path in (*side, *side.values())}
    entries = {path: entry_at(sink, root, path) for path in sorted(named)}
    leaders = {path: path for path, entry in entries.items() if entry is not None and entry.kind != Kind.DIR}
    for side in (base, ours, theirs):
        for a, b in side.items():
            if (
                a in leaders
                and b in leaders
                and _is_one(a, b, base, ours, theirs)
                and _has_same_content(entries[a], entries[b])
            ):
                _join(leaders, a, b)
    groups: dict[bytes, list[bytes]] = {}
    for path in leaders:
        groups.setdefault(_find(leaders, path), []).append(path)
    joined = [group for group in groups.values() if len(group) > 1]
    linked = {path for group in joined for path in group}
    flags = {path: path in linked for path in leaders if cast("Entry", entries[path]).linked != (path in linked)}
    return (set_linked(sink, root, flags) if flags else root), store_links(sink, joined)


def _is_one(a: bytes, b: bytes, base: Leaders, ours: Leaders, theirs: Leaders) -> bool:
    old, mine, other = (a in side and side[a] == side.get(b) for side in (base, ours, theirs))
    return other if mine == old else mine


def _has_same_content(a: Entry | None, b: Entry | None) -> bool:
    """Returns True if two entries differ in their names at most."""
    assert a is not None
    assert b is not None
    return msgspec.structs.replace(a, name=b"", linked=True) == msgspec.structs.replace(b, name=b"", linked=True)


def _find(leaders: dict[bytes, bytes], path: bytes) -> bytes:
    while leaders[path] != path:
        leaders[path] = path = leaders[leaders[path]]
    return path


def _join(leaders: dict[bytes, bytes], a: bytes, b: bytes) -> None:
    low, high = sorted((_find(leaders, a), _find(leaders, b)))
    leaders[high] = low
