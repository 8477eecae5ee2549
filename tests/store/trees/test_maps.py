"""Maps: any history of edits gives the tree that building the same items gives, and costs what it changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.stores import CountingSink, MemorySink
from vfs.errors import Corrupt
from vfs.model.ids import NodeId
from vfs.model.nodes import TINY
from vfs.model.objects import TinyItem
from vfs.store.trees.map_diff import map_diff
from vfs.store.trees.maps import (
    EMPTY_TREE,
    map_at,
    map_build,
    map_edit,
    map_find,
    map_get,
    map_items,
    map_leaf,
    map_position,
)

Model = dict[bytes, TinyItem]


def item(number: int, value: int = 0) -> TinyItem:
    return TinyItem(b"%d" % number, b"%d" % value)


def items_of(model: Model) -> list[TinyItem]:
    return [model[name] for name in sorted(model)]


numbers = st.one_of(st.integers(0, 4000), st.integers(0, 40))
edit_sets = st.lists(st.dictionaries(numbers, st.one_of(st.none(), st.integers(0, 2)), max_size=40), max_size=6)


@settings(max_examples=60)
@given(st.integers(0, 4000), edit_sets)
def test_edits_give_the_tree_that_building_afresh_gives(start: int, history: list[dict[int, int | None]]) -> None:
    sink = MemorySink()
    model: Model = {i.name: i for i in map(item, range(start))}
    tree = map_build(sink, TINY, items_of(model))
    for edits in history:
        before, old = dict(model), tree
        changes = {b"%d" % n: None if value is None else item(n, value) for n, value in edits.items()}
        for name, value in changes.items():
            if value is None:
                model.pop(name, None)
            else:
                model[name] = value
        tree = map_edit(sink, TINY, tree.id, changes)
        assert tree == map_build(sink, TINY, items_of(model))
        differences = [(before.get(n), model.get(n)) for n in sorted(before | model) if before.get(n) != model.get(n)]
        assert list(map_diff(sink, TINY, old.id, tree.id)) == differences
        after = b"%d" % (len(differences) * 37 % 4000)
        later = [pair for pair in differences if next(each.name for each in pair if each is not None) > after]
        assert list(map_diff(sink, TINY, old.id, tree.id, after)) == later
    assert list(map_items(sink, TINY, tree.id)) == items_of(model)


def test_removing_everything_leaves_the_empty_tree() -> None:
    sink = MemorySink()
    tree = map_build(sink, TINY, items_of({i.name: i for i in map(item, range(500))}))
    assert map_edit(sink, TINY, tree.id, {b"%d" % n: None for n in range(500)}) == EMPTY_TREE


def test_a_tree_that_shrinks_comes_down_to_one_leaf() -> None:
    sink = MemorySink()
    tree = map_build(sink, TINY, items_of({i.name: i for i in map(item, range(5000))}))
    tree = map_edit(sink, TINY, tree.id, {b"%d" % n: None for n in range(1, 5000)})
    assert tree == map_build(sink, TINY, [item(0)])
    assert sink.get_node(tree.id).level == 0


@given(st.integers(0, 3000), st.integers(-1, 3001))
def test_items_can_be_listed_from_any_name(count: int, after: int) -> None:
    sink = MemorySink()
    items = items_of({i.name: i for i in map(item, range(count))})
    root = map_build(sink, TINY, items).id
    start = b"%d" % after if after >= 0 else b""
    assert list(map_items(sink, TINY, root, start)) == [i for i in items if i.name > start]


def test_a_name_is_found_or_none() -> None:
    sink = MemorySink()
    root = map_build(sink, TINY, items_of({i.name: i for i in map(item, range(3000))})).id
    assert map_get(sink, TINY, root, b"1234") == item(1234)
    assert map_get(sink, TINY, root, b"12345") is None
    assert map_get(sink, TINY, root, b"zzz") is None
    assert map_get(sink, TINY, b"", b"1") is None


def test_an_item_is_found_by_its_position_and_a_position_by_its_name() -> None:
    sink = MemorySink()
    items = items_of({i.name: i for i in map(item, range(3000))})
    root = map_build(sink, TINY, items).id
    for position in [*range(0, 3000, 7), 2999]:
        assert map_at(sink, TINY, root, position) == items[position]
        assert map_find(sink, TINY, root, items[position].name) == (position, items[position])
        assert map_position(sink, TINY, root, items[position].name) == position + 1
        between = items[position].name + b"\x01"
        assert map_find(sink, TINY, root, between) is None
        assert map_position(sink, TINY, root, between) == position + 1
    assert map_position(sink, TINY, root, b"") == 0
    for position in (3000, 5000):
        with pytest.raises(Corrupt):
            map_at(sink, TINY, root, position)


def test_an_empty_map_has_no_position() -> None:
    sink = MemorySink()
    assert map_find(sink, TINY, b"", b"a") is None
    assert map_position(sink, TINY, b"", b"a") == 0
    with pytest.raises(Corrupt):
        map_at(sink, TINY, b"", 0)


def test_one_change_among_many_items_reads_and_writes_a_few_nodes() -> None:
    sink = CountingSink(MemorySink())
    items = items_of({i.name: i for i in map(item, range(50_000))})
    tree = map_build(sink, TINY, items)
    assert sink.nodes_put > 2_500
    sink.reset()
    changed = map_edit(sink, TINY, tree.id, {b"31415": item(31415, 9)})
    assert sink.nodes_put <= 4
    assert sink.nodes_got <= 12
    sink.reset()
    assert len(list(map_diff(sink, TINY, tree.id, changed.id))) == 1
    assert sink.nodes_got <= 10
    other = map_build(sink, TINY, items_of({b"%d" % number: item(number, 1) for number in range(50_000)}))
    sink.reset()
    assert next(map_diff(sink, TINY, tree.id, other.id, b"5")) is not None
    assert sink.nodes_got <= 20


def test_the_leaf_of_a_name_is_found_without_reading_it() -> None:
    sink = CountingSink(MemorySink())
    items = items_of({i.name: i for i in map(item, range(1000))})
    tree = map_build(sink, TINY, items)
    for wanted in items:
        leaf = map_leaf(sink, TINY, tree.id, wanted.name)
        assert wanted in sink.get_node(NodeId(leaf)).items
    sink.reset()
    map_leaf(sink, TINY, tree.id, b"500")
    way = sink.nodes_got
    map_get(sink, TINY, tree.id, b"500")
    assert sink.nodes_got == way + way + 1
    assert map_leaf(sink, TINY, tree.id, b"999999") == b""
    assert map_leaf(sink, TINY, b"", b"1") == b""
    lone = map_build(sink, TINY, [item(1)])
    assert map_leaf(sink, TINY, lone.id, b"1") == b""
