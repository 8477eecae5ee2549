"""Chunk lists: edits by byte range give the list that building afresh gives; runs are found by offset."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from support.stores import CountingSink, MemorySink
from vfs.model.objects import ChunkRef
from vfs.store.trees.chunk_lists import ListEdit, list_build, list_edit, list_leaf, list_runs


def run(rng: random.Random) -> ChunkRef:
    """Makes a run whose id ends a node far more often than a hash would, so that small lists have several levels."""
    if rng.random() < 0.1:
        return ChunkRef(b"", rng.randrange(1, 9))
    step = rng.choice([1, 1, 1, 256, 256 * 128, 256 * 128 * 128])
    key = (rng.randrange(1, 2**30) * step).to_bytes(8, "little")
    return ChunkRef(key + rng.randbytes(24), rng.randrange(1, 9))


def random_edits(rng: random.Random, refs: list[ChunkRef]) -> tuple[list[ListEdit], list[ChunkRef]]:
    edits: list[ListEdit] = []
    result: list[ChunkRef] = []
    at = number = 0
    while number < len(refs):
        if rng.random() < 0.05:
            gone = refs[number : number + rng.randrange(rng.choice([2, 40]))]
            fresh = [run(rng) for _ in range(rng.randrange(4))]
            end = at + sum(ref.size for ref in gone)
            edits.append(ListEdit(at, end, fresh))
            result += fresh
            number += len(gone)
            at = end
        if number < len(refs):
            result.append(refs[number])
            at += refs[number].size
            number += 1
    if rng.random() < 0.4 and not (edits and edits[-1].end == at):
        edits.append(ListEdit(at, at, [run(rng)]))
        result.append(edits[-1].refs[0])
    return edits, result


@settings(max_examples=150)
@given(st.randoms(use_true_random=True), st.integers(0, 120))
def test_edits_give_the_list_that_building_afresh_gives(rng: random.Random, count: int) -> None:
    sink = MemorySink()
    refs = [run(rng) for _ in range(count)]
    tree = list_build(sink, refs)
    for _ in range(5):
        edits, refs = random_edits(rng, refs)
        tree = list_edit(sink, tree.id, edits)
        assert tree == list_build(sink, refs)
        assert [ref for _, ref in list_runs(sink, tree.id)] == refs


@given(st.randoms(use_true_random=True), st.integers(1, 100), st.integers(0, 900), st.integers(0, 900))
def test_runs_of_a_range_are_those_that_overlap_it(rng: random.Random, count: int, a: int, b: int) -> None:
    sink = MemorySink()
    refs = [run(rng) for _ in range(count)]
    root = list_build(sink, refs).id
    start, end = sorted((a, b))
    starts = [sum(ref.size for ref in refs[:n]) for n in range(count)]
    overlapping = [(s, r) for s, r in zip(starts, refs, strict=True) if s < end and s + r.size > start]
    assert list(list_runs(sink, root, start, end)) == overlapping


def test_a_million_equal_runs_take_a_few_distinct_nodes() -> None:
    sink = CountingSink(MemorySink())
    same = ChunkRef((256 * 128).to_bytes(8, "little") + bytes(24), 4096)
    tree = list_build(sink, [same] * 20_000)
    assert tree.size == 20_000 * 4096
    starts, refs = list_leaf(sink, tree.id, 12_345 * 4096 + 1)
    assert starts[0] <= 12_345 * 4096 + 1 < starts[-1]
    assert set(refs) == {same}


def test_one_change_in_a_long_list_reads_and_writes_a_few_nodes() -> None:
    rng = random.Random(1)
    sink = CountingSink(MemorySink())
    refs = [ChunkRef(rng.randbytes(32), 10) for _ in range(100_000)]
    tree = list_build(sink, refs)
    sink.reset()
    list_edit(sink, tree.id, [ListEdit(500_000, 500_010, [ChunkRef(rng.randbytes(32), 12)])])
    assert sink.nodes_put <= 4
    assert sink.nodes_got <= 10
