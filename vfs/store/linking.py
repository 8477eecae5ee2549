"""Hard links of a tree: which names belong together, and the entries' `linked` flags that say so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from vfs.model.ids import NodeId
from vfs.model.nodes import NodeKind
from vfs.model.objects import Entry, Form, Kind, LinkItem
from vfs.store.directories import edit_directory, file_content, resolve_path
from vfs.store.objectstore import ObjectSink
from vfs.store.trees import map_build


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
    return map_build(sink, NodeKind.LINKS, link_items(groups)).id


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
