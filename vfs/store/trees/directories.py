"""Directories: a map of entries and a map of tiny files' bytes under one name each.

Tiny bytes stand apart from the entries so that listing does not read them, and in small leaves so that changing one
rewrites few. A directory is given by its own Entry, which holds both roots.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from vfs.backend.protocol import MissingKey
from vfs.errors import Corrupt, NotADirectory, NotFound
from vfs.model.ids import NodeId, chunk_id
from vfs.model.names import join_path, show_path, split_path
from vfs.model.nodes import ENTRIES, TINY, NodeKind
from vfs.model.objects import Content, Entry, Form, Kind, TinyItem, content_of
from vfs.store.object_store import ObjectSink, ObjectSource, ObjectStore
from vfs.store.trees.chunk_lists import list_leaf
from vfs.store.trees.maps import (
    EncodedLeaf,
    child_node,
    encoded_leaf,
    encoded_leaf_at,
    first_missing,
    leaf_item,
    map_at,
    map_edit,
    map_find,
    map_get,
    map_items,
    map_leaf,
    map_parent,
    map_position,
)

_FIRST_ITEM_END = 8
"""Behind a node's kind and level, and the head of its array."""


class Directory(NamedTuple):
    """What a directory's entry records of its content."""

    content: NodeId
    tiny: NodeId
    files: int
    size: int


class Place(NamedTuple):
    """An entry and the directory it was found in (None: the root of a version)."""

    directory: Entry | None
    entry: Entry


def find_entry(source: ObjectSource, directory: Entry, name: bytes) -> Entry | None:
    """Returns the entry of a name, or None."""
    return map_get(source, ENTRIES, directory.content, name)


def find_place(source: ObjectSource, directory: Entry, name: bytes) -> tuple[int, Entry] | None:
    """Returns the position of a name among a directory's, and its entry; or None."""
    return map_find(source, ENTRIES, directory.content, name)


def leaf_of(store: ObjectStore, directory: Entry, name: bytes) -> EncodedLeaf | None:
    """Returns the leaf of entries that a name belongs in, or None."""
    leaf = encoded_leaf(store, NodeKind.ENTRIES, directory.content, name) if directory.content else None
    if leaf is not None and directory.tiny:
        _hint_tiny_bytes(store, directory, name)
    return leaf


def _hint_tiny_bytes(store: ObjectStore, directory: Entry, name: bytes) -> None:
    """Has the disk read the leaf with a tiny file's bytes: a read of the file mostly follows, and would wait for it.

    Of a directory whose tiny map's root did not come with its entries, and of a remote's, nothing is read; nor is any
    node here, which the look-up would wait for.
    """
    if store.remote is None and store.holds_tree_object(directory.tiny):
        # The read reports what is damaged.
        with suppress(Corrupt, MissingKey, OSError):
            missing = first_missing(store, directory.tiny, name)
            if missing:
                store.hint_readahead([missing])


def leaf_at(store: ObjectStore, directory: Entry, position: int) -> EncodedLeaf | None:
    """Returns the leaf of entries that a position is in, if it has as many; None for a position behind all leaves."""
    return encoded_leaf_at(store, NodeKind.ENTRIES, directory.content, position) if directory.content else None


def entry_at(source: ObjectSource, directory: Entry, position: int) -> Entry:
    """Returns the entry at a position that `find_place` or `numbered_entries` gave for a directory."""
    return map_at(source, ENTRIES, directory.content, position)


def numbered_entries(source: ObjectSource, directory: Entry, after: bytes | None = None) -> Iterator[tuple[int, Entry]]:
    """Yields what `entries` does, with positions."""
    first = 0 if after is None else map_position(source, ENTRIES, directory.content, after)
    return enumerate(entries(source, directory, after), first)


def entries(source: ObjectSource, directory: Entry, after: bytes | None = None) -> Iterator[Entry]:
    """Yields a directory's entries by name, from the first above `after`; reads one leaf at a time."""
    return map_items(source, ENTRIES, directory.content, after)


def tiny_bytes(source: ObjectSource, directory: Entry, name: bytes) -> bytes:
    """Returns a tiny file's bytes; raises Corrupt where the directory lacks them."""
    item = map_get(source, TINY, directory.tiny, name)
    if item is None:
        raise _missing_bytes(name)
    return item.data


def _missing_bytes(name: bytes) -> Corrupt:
    return Corrupt(f"the bytes of the tiny file {show_path(name)} are missing from its directory")


def content_ids(source: ObjectSource, directory: Entry, entry: Entry) -> list[bytes]:
    """Returns the objects that hold a regular file's bytes, or the first ones of a large file, without reading them."""
    if entry.form == Form.TINY:
        leaf = map_leaf(source, TINY, directory.tiny, entry.name)
        return [leaf] if leaf else []
    if entry.form == Form.CHUNK:
        return [entry.content]
    if entry.form == Form.LIST:
        return [ref.id for ref in list_leaf(source, entry.content, 0)[1] if ref.id]
    return []


def file_content(source: ObjectSource, directory: Entry, entry: Entry) -> Content:
    """Returns a regular file's content, complete with its bytes where it is tiny."""
    if entry.form != Form.TINY:
        return content_of(entry)
    data = _tiny_bytes_of(source, directory, entry)
    if len(data) != entry.size:
        raise Corrupt(f"the tiny file {show_path(entry.name)} has {len(data)} bytes where its entry says {entry.size}")
    return content_of(entry, data)


def _tiny_bytes_of(source: ObjectSource, directory: Entry, entry: Entry) -> bytes:
    above = map_parent(source, TINY, directory.tiny, entry.name) if isinstance(source, ObjectStore) else None
    if above is None or not isinstance(source, ObjectStore):
        return tiny_bytes(source, directory, entry.name)
    node, child = above
    # What is in memory is wanted again: its items are decoded once, and kept.
    encoded = source.encoded_unless_held(NodeId(child.id))
    data = _cut_out(encoded, entry) if encoded is not None and encoded[1] == node.level - 1 else None
    if data is None:
        item = leaf_item(TINY, child_node(source, node, child), entry.name)
        if item is None:
            raise _missing_bytes(entry.name)
        data = item.data
    return data


def _cut_out(leaf: memoryview, entry: Entry) -> bytes | None:
    """Returns a tiny file's bytes from an encoded leaf, without decoding the others in it; None where it is not clear.

    They are what the entry names: another file's bytes may look like this item.
    """
    name, size = entry.name, entry.size
    head = b"\x92\xc4" + bytes((len(name),)) + name
    if head in bytes(leaf[: _FIRST_ITEM_END + len(head)]):
        # A program that reads files in order begins with the first one, and wants them all.
        return None
    plain = bytes(leaf)
    begin = plain.find(head) + len(head)
    begin += 2 if size < 1 << 8 else 3 if size < 1 << 16 else 5
    data = plain[begin : begin + size]
    return data if chunk_id(data) == entry.content else None


def resolve_path(source: ObjectSource, root: Entry, path: bytes) -> Place:
    """Returns the entry at a path below a version's root; links are not followed. Raises NotFound, NotADirectory."""
    directory: Entry | None = None
    entry = root
    for name in split_path(path):
        if entry.kind != Kind.DIR:
            raise NotADirectory(f"{show_path(path)}: {show_path(entry.name)} is not a directory")
        found = find_entry(source, entry, name)
        if found is None:
            raise NotFound(f"no file or directory {show_path(path)} in this version")
        directory, entry = entry, found
    return Place(directory, entry)


def walk(
    source: ObjectSource, root: Entry, path: bytes = b"", after: bytes | None = None
) -> Iterator[tuple[bytes, Entry, Entry]]:
    """Yields (path, directory, entry) for all below a directory: names in order, a directory before its entries."""
    for entry in entries(source, root, after):
        child = join_path(path, entry.name)
        yield child, root, entry
        if entry.kind == Kind.DIR:
            yield from walk(source, entry, child)


def edit_directory(
    sink: ObjectSink, directory: Entry | None, edits: Mapping[bytes, tuple[Entry, bytes] | None]
) -> Directory:
    """Stores a directory after putting (entry, its bytes where tiny) or removing names; None edits an empty one."""
    old_entries = directory.content if directory is not None else b""
    old_tiny = directory.tiny if directory is not None else b""
    entry_edits: dict[bytes, Entry | None] = {}
    tiny_edits: dict[bytes, TinyItem | None] = {}
    for name, edit in edits.items():
        entry_edits[name] = edit[0] if edit is not None else None
        if edit is not None and edit[0].form == Form.TINY:
            tiny_edits[name] = TinyItem(name, edit[1])
        elif old_tiny:
            old = map_get(sink, ENTRIES, old_entries, name)
            if old is not None and old.form == Form.TINY:
                tiny_edits[name] = None
    # In this order: what is read together is adjacent in the pack, the entries and the root of the tiny map.
    tiny = map_edit(sink, TINY, old_tiny, tiny_edits)
    tree = map_edit(sink, ENTRIES, old_entries, entry_edits)
    return Directory(tree.id, tiny.id, tree.files, tree.size)
