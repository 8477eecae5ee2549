"""Hard links of a tree: which names belong together, and the entries' `linked` flags that say so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from vfs.errors import Corrupt
from vfs.model.ids import NodeId
from vfs.model.names import is_within, show_path
from vfs.model.nodes import LINKS
from vfs.model.objects import Entry, Form, Kind, LinkItem
from vfs.store.object_store import ObjectSink, ObjectSource
from vfs.store.trees.directories import edit_directory, file_content, resolve_path
from vfs.store.trees.maps import map_build, map_edit, map_get, map_items


def link_items(groups: Iterable[Sequence[bytes]]) -> list[LinkItem]:
    """Returns the link map's items, sorted, for groups of two and more paths each."""
    items = []
    for group in groups:
        members = tuple(sorted(group))
        items.append(LinkItem(members[0], members[0], members))
        items.extend(LinkItem(path, members[0]) for path in members[1:])
    items.sort(key=lambda item: item.name)
    return items


def store_links(sink: ObjectSink, groups: Iterable[Sequence[bytes]]) -> NodeId:
    """Stores the link map of groups of paths and returns its root; empty where there are none."""
    return map_build(sink, LINKS, link_items(groups)).id


def replace_groups(
    sink: ObjectSink, links: bytes, path: bytes, groups: Iterable[Sequence[bytes]]
) -> tuple[bytes, list[bytes]]:
    """Stores a link map after giving everything below a path other groups, whose paths are complete.

    Returns its root, and the paths elsewhere that have lost all others of their group: they are linked no more. The
    cost follows the links concerned.
    """
    edits: dict[bytes, LinkItem | None] = {}
    alone: list[bytes] = []
    leaders = {item.leader for item in _items_below(sink, links, path)} if links else set()
    for leader in leaders:
        members = group_of(sink, links, leader)
        edits.update(dict.fromkeys(members))
        left = [member for member in members if not is_within(member, path)]
        edits.update((item.name, item) for item in link_items([left] if len(left) > 1 else []))
        alone += left if len(left) == 1 else []
    edits.update((item.name, item) for item in link_items(groups))
    return map_edit(sink, LINKS, links, edits).id, alone


def _items_below(source: ObjectSource, links: bytes, path: bytes) -> Iterator[LinkItem]:
    start = path + b"/" if path else b""
    for item in map_items(source, LINKS, links, start):
        if not item.name.startswith(start):
            return
        yield item


def set_linked(sink: ObjectSink, root: Entry, flags: Mapping[bytes, bool]) -> Entry:
    """Stores the tree after setting the `linked` flag of some paths and returns its root."""
    edits: dict[bytes, dict[bytes, tuple[Entry, bytes] | None]] = {}
    for path, linked in flags.items():
        directory, _, name = path.rpartition(b"/")
        place = resolve_path(sink, root, path)
        if place.directory is None or place.entry.kind == Kind.DIR:
            raise ValueError("only a name in a directory can be one of several links")
        tiny = file_content(sink, place.directory, place.entry).tiny if place.entry.form == Form.TINY else b""
        edits.setdefault(directory, {})[name] = (msgspec.structs.replace(place.entry, linked=linked), tiny)
    return store_edits(sink, root, edits)


def store_edits(
    sink: ObjectSink, root: Entry, edits: Mapping[bytes, Mapping[bytes, tuple[Entry, bytes] | None]]
) -> Entry:
    """Stores a tree after editing directories that exist, by path; returns the root. Times stay as they are."""
    todo: dict[bytes, dict[bytes, tuple[Entry, bytes] | None]] = {path: dict(names) for path, names in edits.items()}
    todo.setdefault(b"", {})
    # Below before above, as each directory's entry changes the one above it.
    for depth in range(max(map(_depth, todo)), 0, -1):
        for path in [path for path in todo if _depth(path) == depth]:
            entry = _edited(sink, resolve_path(sink, root, path).entry, todo.pop(path))
            parent, _, name = path.rpartition(b"/")
            todo.setdefault(parent, {})[name] = (entry, b"")
    return _edited(sink, root, todo[b""])


def _edited(sink: ObjectSink, directory: Entry, edits: Mapping[bytes, tuple[Entry, bytes] | None]) -> Entry:
    stored = edit_directory(sink, directory, edits)
    return msgspec.structs.replace(
        directory, content=stored.content, tiny=stored.tiny, files=stored.files, size=stored.size
    )


def _depth(path: bytes) -> int:
    return path.count(b"/") + 1 if path else 0


def group_of(source: ObjectSource, links: bytes, leader: bytes) -> tuple[bytes, ...]:
    """Returns the paths of a group by its leader; raises Corrupt where the link map has no such group."""
    item = map_get(source, LINKS, links, leader)
    if item is None:
        raise Corrupt(f"the hard links name {show_path(leader)} as a leader, which has no group")
    return item.members
