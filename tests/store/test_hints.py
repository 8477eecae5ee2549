"""Hints to the disk: what is told of them, and what a read makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.engine import Engine, chunks, engine, put_all
from vfs.model.nodes import NodeKind
from vfs.model.objects import ChunkRef
from vfs.store.object_store import ObjectStore
from vfs.store.object_writer import ObjectWriter
from vfs.store.packs.blocks import MissingObject
from vfs.store.packs.pack_file import PackKind


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Engine]:
    with engine(tmp_path / "repo") as opened:
        yield opened


def test_after_a_hint_the_index_is_asked_no_more_unless_the_object_is_elsewhere(parts: Engine) -> None:
    nodes = [[ChunkRef(key, 1) for key in chunks(2000, 32, seed)] for seed in range(3)]
    with ObjectWriter(parts.store) as writer:
        first, second, third = (writer.put_node(NodeKind.CHUNKS, 0, items) for items in nodes)
        writer.flush()
    right, wrong = (parts.tables.get("objects", key) or b"" for key in (second, third))
    store = ObjectStore(parts.backend, parts.index)
    store.hint_readahead([first])
    with parts.tables.write() as batch:
        batch.delete("objects", first)
        batch.put("objects", second, wrong)
    assert list(store.get_node(first).items) == nodes[0]
    store.node_cache.clear()
    store.tree_cache.clear()
    with pytest.raises(MissingObject):
        store.get_node(first)
    store.hint_readahead([second])
    with parts.tables.write() as batch:
        batch.put("objects", second, right)
    assert list(store.get_node(second).items) == nodes[1]


def test_the_place_of_a_chunk_is_not_kept_after_a_hint(parts: Engine) -> None:
    """Mostly the native session layer reads it: the places of nodes would make room for it."""
    [chunk] = put_all(parts, chunks(1, 50_000))
    store = ObjectStore(parts.backend, parts.index)
    store.hint_readahead([chunk])
    with parts.tables.write() as batch:
        batch.delete("objects", chunk)
    with pytest.raises(MissingObject):
        store.get_chunk(chunk)


def test_all_trees_are_hinted_to_the_disk_if_they_are_small_and_in_few_packs(
    parts: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_all(parts, chunks(3, 50_000))
    packs = 0
    hinted: dict[str, int] = {}

    def note(key: str, offset: int, size: int) -> None:
        assert offset == hinted.get(key, 0)
        assert size <= 128 * 1024
        hinted[key] = offset + size

    def put_tree(count: int) -> None:
        nonlocal packs
        with ObjectWriter(parts.store) as writer:
            for seed in range(count):
                items = [ChunkRef(key, 1) for key in chunks(200, 32, 1000 * packs + seed)]
                writer.put_node(NodeKind.CHUNKS, 0, items)
            writer.flush()
        packs += 1

    monkeypatch.setattr(parts.backend, "hint_readahead", note)
    put_tree(40)
    put_tree(1)
    sizes = {row.name.key: row.size for row in parts.index.packs() if row.name.kind == PackKind.TREE}
    assert max(sizes.values()) > 128 * 1024
    parts.store.hint_trees(sum(sizes.values()) - 1)
    assert not hinted
    parts.store.hint_trees(sum(sizes.values()))
    assert hinted == sizes
    while packs < 33:
        put_tree(1)
    hinted.clear()
    parts.store.hint_trees(1 << 30)
    assert not hinted


def test_hints_of_trees_leave_damage_to_their_readers(parts: Engine, tmp_path: Path) -> None:
    with ObjectWriter(parts.store) as writer:
        writer.put_node(NodeKind.CHUNKS, 0, [ChunkRef(bytes(32), 1)])
        writer.flush()
    [row] = parts.index.packs()
    (tmp_path / "repo" / row.name.key).unlink()
    parts.backend.close()
    parts.store.hint_trees(1 << 30)
    with parts.tables.write() as batch:
        batch.put("packs", (9).to_bytes(4, "big"), b"\xff" * 25)
    parts.store.hint_trees(1 << 30)
