"""Bytes of tiny files in a store: cut out of their leaf, or decoded; and the disk is told of them in time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from support.engine import Engine, engine
from vfs.errors import Corrupt
from vfs.model.ids import NodeId, chunk_id
from vfs.model.nodes import TINY, NodeKind
from vfs.model.objects import Entry, Form, Kind
from vfs.store.object_store import ObjectStore
from vfs.store.object_writer import ObjectWriter
from vfs.store.packs.blocks import DamagedObject
from vfs.store.packs.pack_file import PackKind
from vfs.store.trees.directories import edit_directory, entries, file_content, leaf_of
from vfs.store.trees.maps import map_leaf

Range = tuple[int, int]


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Engine]:
    with engine(tmp_path / "repo") as opened:
        yield opened


def noise(count: int, size: int = 900) -> dict[bytes, bytes]:
    source = random.Random(count)
    return {b"%05d" % number: source.randbytes(source.randrange(1, size)) for number in range(count)}


def stored(parts: Engine, files: dict[bytes, bytes]) -> Entry:
    """Returns a directory of tiny files."""
    edits = {
        name: (Entry(name, Kind.FILE, 0o644, 0, 0, 1, len(data), chunk_id(data), Form.TINY), data)
        for name, data in files.items()
    }
    with ObjectWriter(parts.store) as writer:
        made = edit_directory(writer, None, edits)
        writer.flush()
    return Entry(b"d", Kind.DIR, 0o755, 0, 0, 1, made.size, made.content, tiny=made.tiny, files=made.files)


def fresh(parts: Engine) -> ObjectStore:
    """Returns a store over the same repository that has cached nothing."""
    return ObjectStore(parts.backend, parts.index)


def contents(store: ObjectStore, directory: Entry) -> dict[bytes, bytes]:
    return {entry.name: file_content(store, directory, entry).tiny for entry in entries(store, directory)}


def entry_of(store: ObjectStore, directory: Entry, name: bytes) -> Entry:
    return next(entry for entry in entries(store, directory) if entry.name == name)


def leaf_with(store: ObjectStore, directory: Entry, name: bytes) -> NodeId:
    return NodeId(map_leaf(store, TINY, directory.tiny, name))


def test_each_file_has_its_bytes_alone_and_with_all_others(parts: Engine) -> None:
    files = noise(300, 500) | {b"large": bytes(70_000), b"x" * 255: b"y"}
    directory = stored(parts, files)
    assert contents(fresh(parts), directory) == files
    for name in [*list(files)[::17], b"large", b"x" * 255]:
        store = fresh(parts)
        assert file_content(store, directory, entry_of(store, directory, name)).tiny == files[name]


def test_of_a_leaf_that_was_not_read_before_no_other_file_is_decoded(parts: Engine) -> None:
    files = noise(300)
    directory = stored(parts, files)
    whole = fresh(parts)
    leaf = leaf_with(whole, directory, b"00150")
    names = [item.name for item in TINY.leaf(whole.get_node(leaf))]
    assert len(names) > 2
    for name in names[1:]:
        store = fresh(parts)
        entry = entry_of(store, directory, name)
        assert file_content(store, directory, entry).tiny == files[name]
        assert store.tree_cache.holds(leaf)
        assert not store.node_cache.holds(leaf)
        assert file_content(store, directory, entry).tiny == files[name]
        assert store.node_cache.holds(leaf)


def test_a_leaf_whose_first_file_is_read_is_decoded_at_once(parts: Engine) -> None:
    files = noise(300)
    directory = stored(parts, files)
    whole = fresh(parts)
    leaf = leaf_with(whole, directory, b"00150")
    first = TINY.leaf(whole.get_node(leaf))[0].name
    store = fresh(parts)
    assert file_content(store, directory, entry_of(store, directory, first)).tiny == files[first]
    assert store.node_cache.holds(leaf)


def test_bytes_that_look_like_another_file_are_not_taken_for_it(parts: Engine) -> None:
    wrong, right = b"wrong" * 60, b"right" * 60
    lure = b"\x92\xc4\x05" + b"00150" + b"\xc5" + len(wrong).to_bytes(2, "big") + wrong
    files = dict.fromkeys(noise(300), lure) | {b"00150": right}
    directory = stored(parts, files)
    store = fresh(parts)
    assert file_content(store, directory, entry_of(store, directory, b"00150")).tiny == right


def test_a_file_that_its_leaf_lacks_or_has_otherwise_is_an_error(parts: Engine) -> None:
    files = noise(300)
    directory = stored(parts, files)
    store = fresh(parts)
    entry = entry_of(store, directory, b"00150")
    other = Entry(b"00150x", Kind.FILE, 0o644, 0, 0, 1, entry.size, entry.content, Form.TINY)
    longer = Entry(b"00150", Kind.FILE, 0o644, 0, 0, 1, entry.size + 1, entry.content, Form.TINY)
    for wanted, words in ((other, "missing from its directory"), (longer, "where its entry says")):
        for reader in (fresh(parts), store, store):
            with pytest.raises(Corrupt, match=words):
                file_content(reader, directory, wanted)


def test_a_damaged_leaf_is_an_error_for_each_of_its_files(parts: Engine, tmp_path: Path) -> None:
    files = noise(300)
    directory = stored(parts, files)
    leaf = leaf_with(parts.store, directory, b"00150")
    [row] = [row for row in parts.index.packs() if row.name.kind == PackKind.TREE]
    path = tmp_path / "repo" / row.name.key
    data = bytearray(path.read_bytes())
    data[data.find(files[b"00150"]) + 3] ^= 1
    path.write_bytes(data)
    store = fresh(parts)
    broken = [entry for entry in entries(store, directory) if leaf_with(store, directory, entry.name) == leaf]
    assert len(broken) > 1
    for entry in broken * 2:
        with pytest.raises(DamagedObject) as caught:
            file_content(store, directory, entry)
        assert caught.value.object_id == leaf


def test_the_disk_is_told_of_a_files_bytes_once_its_name_is_looked_up(
    parts: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = stored(parts, noise(300))
    hinted: list[Range] = []
    monkeypatch.setattr(parts.backend, "hint_readahead", lambda _key, offset, size: hinted.append((offset, size)))
    place = parts.index.lookup(leaf_with(parts.store, directory, b"00150"))
    assert place is not None
    store = fresh(parts)
    assert leaf_of(store, directory, b"00150") is not None
    assert not store.holds_tree_object(directory.tiny), "the map's root did not come with the entries"
    assert not hinted
    store.get_node(NodeId(directory.tiny))
    assert leaf_of(store, directory, b"00150") is not None
    assert hinted == [(place.offset, place.block_bytes)]
    file_content(store, directory, entry_of(store, directory, b"00150"))
    assert leaf_of(store, directory, b"00150") is not None
    assert len(hinted) == 1


def test_a_damaged_map_of_tiny_files_is_no_error_of_a_look_up(parts: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = stored(parts, noise(300))
    store = fresh(parts)
    expected = leaf_of(store, directory, b"00150")
    store.get_node(NodeId(directory.tiny))

    def fail(_key: str, _offset: int, _size: int) -> None:
        raise OSError(5, "damaged")

    monkeypatch.setattr(parts.backend, "hint_readahead", fail)
    assert leaf_of(store, directory, b"00150") == expected


def test_a_look_up_neither_decodes_nor_waits_for_the_map_of_tiny_files(
    parts: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = stored(parts, noise(5, 100)), stored(parts, noise(20_000))
    store = fresh(parts)
    assert store.encoded_node(NodeId(few.tiny))[1] == 0
    before = store.node_cache.bytes_held
    assert leaf_of(store, few, b"00003") is not None
    assert store.node_cache.bytes_held == before
    root = store.get_node(NodeId(many.tiny))
    assert root.level > 1
    hinted: list[bytes] = []
    monkeypatch.setattr(store, "hint_readahead", hinted.extend)
    assert leaf_of(store, many, b"00005") is not None
    # The node below the root, which would be waited for.
    assert hinted == [root.children[0].id]


@pytest.mark.parametrize("node", [b"\2", b"\2\0", b"\1\0"])
def test_a_node_that_is_too_short_is_corrupt(parts: Engine, node: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = stored(parts, noise(300))
    with ObjectWriter(parts.store) as writer:
        with monkeypatch.context() as patch:
            patch.setattr("vfs.store.object_writer.encode_node", lambda *_: node)
            short = writer.put_node(NodeKind.TINY, 0, [])
        root = writer.get_node(NodeId(directory.tiny))
        children = [msgspec.structs.replace(child, id=short) for child in root.children]
        forged = writer.put_node(NodeKind.TINY, root.level, children)
        writer.flush()
    store = fresh(parts)
    wanted = entry_of(store, directory, b"00150")
    with pytest.raises(Corrupt, match="valid head"):
        file_content(store, msgspec.structs.replace(directory, tiny=forged), wanted)
    with pytest.raises(Corrupt, match="valid head"):
        leaf_of(store, msgspec.structs.replace(directory, content=short), b"x")
