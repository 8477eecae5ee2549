"""Directories: entries and tiny files change together, and paths resolve."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.engine import engine
from support.stores import MemorySink
from vfs.errors import Corrupt, NotADirectory, NotFound
from vfs.model.ids import chunk_id
from vfs.model.nodes import NodeKind, decode_node
from vfs.model.objects import Entry, Form, Kind
from vfs.store.object_store import ObjectStore
from vfs.store.object_writer import ObjectWriter
from vfs.store.trees.directories import (
    Directory,
    edit_directory,
    entries,
    file_content,
    find_entry,
    leaf_at,
    leaf_of,
    resolve_path,
    walk,
)


def file_entry(name: bytes, data: bytes, *, tiny: bool = True) -> Entry:
    form = Form.EMPTY if not data else Form.TINY if tiny else Form.CHUNK
    return Entry(name, Kind.FILE, 0o644, 0, 0, 1, len(data), chunk_id(data) if data else b"", form)


def directory_entry(name: bytes, directory: Directory) -> Entry:
    return Entry(
        name,
        Kind.DIR,
        0o755,
        0,
        0,
        1,
        directory.size,
        directory.content,
        tiny=directory.tiny,
        files=directory.files,
    )


names = st.integers(0, 300).map(lambda number: b"%d" % number)
contents = st.tuples(st.binary(max_size=3), st.booleans())


@settings(max_examples=60)
@given(st.lists(st.dictionaries(names, st.one_of(st.none(), contents), max_size=60), min_size=1, max_size=4))
def test_edits_keep_entries_and_tiny_bytes_together(history: list[dict[bytes, tuple[bytes, bool] | None]]) -> None:
    sink = MemorySink()
    model: dict[bytes, tuple[bytes, bool]] = {}
    directory = directory_entry(b"d", Directory(b"", b"", 0, 0))  # type: ignore[arg-type]
    for edits in history:
        changes: dict[bytes, tuple[Entry, bytes] | None] = {}
        for name, value in edits.items():
            if value is None:
                model.pop(name, None)
                changes[name] = None
            else:
                model[name] = value
                changes[name] = (file_entry(name, value[0], tiny=value[1]), value[0])
        directory = directory_entry(b"d", edit_directory(sink, directory, changes))
    afresh = {name: (file_entry(name, data, tiny=tiny), data) for name, (data, tiny) in model.items()}
    assert directory == directory_entry(b"d", edit_directory(sink, None, afresh))
    assert [e.name for e in entries(sink, directory)] == sorted(model)
    assert (directory.files, directory.size) == (len(model), sum(len(data) for data, _ in model.values()))
    for name, (data, tiny) in model.items():
        entry = find_entry(sink, directory, name)
        assert entry == file_entry(name, data, tiny=tiny)
        assert file_content(sink, directory, entry).tiny == (data if tiny else b"")


def tree(sink: MemorySink) -> Entry:
    inner = edit_directory(sink, None, {b"f": (file_entry(b"f", b"abc"), b"abc")})
    outer = edit_directory(sink, None, {b"d": (directory_entry(b"d", inner), b""), b"e": (file_entry(b"e", b""), b"")})
    return directory_entry(b"", outer)


def test_paths_resolve_to_entries_with_their_directories() -> None:
    sink = MemorySink()
    root = tree(sink)
    place = resolve_path(sink, root, b"/d/f")
    assert (place.entry.name, place.directory.name if place.directory else None) == (b"f", b"d")
    assert resolve_path(sink, root, b"").entry == root
    with pytest.raises(NotFound):
        resolve_path(sink, root, b"d/g")
    with pytest.raises(NotADirectory):
        resolve_path(sink, root, b"e/f")


def test_a_walk_yields_a_directory_before_its_entries() -> None:
    sink = MemorySink()
    assert [path for path, _, _ in walk(sink, tree(sink))] == [b"d", b"d/f", b"e"]


def test_tiny_bytes_that_do_not_fit_their_entry_are_corrupt() -> None:
    sink = MemorySink()
    entry = file_entry(b"f", b"abc")
    directory = directory_entry(b"d", edit_directory(sink, None, {b"f": (entry, b"abc")}))
    with pytest.raises(Corrupt):
        file_content(sink, directory, msgspec.structs.replace(entry, size=4))
    with pytest.raises(Corrupt):
        file_content(sink, msgspec.structs.replace(directory, tiny=b""), entry)


def test_leaves_are_found_and_inner_nodes_are_read_once(tmp_path: Path) -> None:
    found = [Entry(b"%05d" % number, Kind.FILE, 0o644, 0, 0, 1, 0, b"", Form.EMPTY) for number in range(3000)]
    with engine(tmp_path / "repo") as parts:
        with ObjectWriter(parts.store) as writer:
            made = edit_directory(writer, None, {entry.name: (entry, b"") for entry in found})
            writer.flush()
        directory = directory_entry(b"d", made)
        store = ObjectStore(parts.backend, parts.index)
        at = 0
        while at < len(found):
            leaf = leaf_of(store, directory, found[at].name)
            assert leaf is not None
            items = decode_node(leaf[1]).items
            assert (leaf.first, list(items)) == (at, found[at : at + len(items)])
            assert leaf.is_last == (at + len(items) == len(found))
            for position in (at, at + len(items) - 1):
                assert leaf_at(store, directory, position) == leaf
            at += len(items)
        assert leaf_at(store, directory, len(found)) is None
        assert leaf_of(store, directory, b"99999") is None
        # From then on only leaves are read: the root's bytes are not asked for.
        store.tree_cache.clear()
        root = parts.index.lookup(made.content)
        with parts.tables.write() as batch:
            batch.delete("objects", made.content)
        assert root is not None
        assert leaf_of(store, directory, b"01234") is not None


@pytest.mark.parametrize("claimed", [-1, 1])
def test_a_leaf_of_fewer_or_more_entries_than_its_parent_says_is_refused(tmp_path: Path, claimed: int) -> None:
    """Positions are counted by what parents say: names would be listed twice, or left out."""
    found = [Entry(b"%05d" % number, Kind.FILE, 0o644, 0, 0, 1, 0, b"", Form.EMPTY) for number in range(3000)]
    with engine(tmp_path / "repo") as parts, ObjectWriter(parts.store) as writer:
        made = edit_directory(writer, None, {entry.name: (entry, b"") for entry in found})
        root = writer.get_node(made.content)
        first, *others = root.children
        wrong = msgspec.structs.replace(first, items=first.items + claimed)
        forged = writer.put_node(NodeKind.ENTRIES, root.level, [wrong, *others])
        writer.flush()
        directory = msgspec.structs.replace(directory_entry(b"d", made), content=forged)
        with pytest.raises(Corrupt, match="items"):
            leaf_of(parts.store, directory, b"00000")
        with pytest.raises(Corrupt, match="items"):
            leaf_at(parts.store, directory, 0)


def test_a_directory_of_one_leaf_ends_with_it(tmp_path: Path) -> None:
    entry = Entry(b"name", Kind.FILE, 0o644, 0, 0, 1, 0, b"", Form.EMPTY)
    with engine(tmp_path / "repo") as parts, ObjectWriter(parts.store) as writer:
        made = edit_directory(writer, None, {entry.name: (entry, b"")})
        writer.flush()
        directory = directory_entry(b"d", made)
        leaf = leaf_at(parts.store, directory, 0)
        assert leaf is not None
        assert (leaf.first, leaf.is_last) == (0, True)
        assert leaf_at(parts.store, directory, 1) == leaf
        assert leaf_at(parts.store, msgspec.structs.replace(directory, content=b""), 0) is None
