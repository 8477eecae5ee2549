"""ObjectStore and ObjectWriter: what was put is found, whatever comes between, and never anything else."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.engine import ROOT_ENTRY, Engine, chunks, engine, put_all
from support.threads import together
from vfs.api.hints import hint_text
from vfs.errors import Corrupt, TooLarge
from vfs.model.ids import ChunkId, CommitId, NodeId, chunk_id
from vfs.model.nodes import NodeKind
from vfs.model.objects import ChunkRef, Commit, Entry, Form, Kind
from vfs.store.dry_run_sink import DryRunSink
from vfs.store.object_store import ObjectStore
from vfs.store.object_writer import UNINDEXED_OBJECTS_MAX, ObjectWriter, PreparedBatch
from vfs.store.packs.blocks import BLOCK_OBJECTS_MAX, OBJECT_BYTES_MAX, DamagedObject, MissingObject
from vfs.store.packs.pack_file import PACK_BYTES_MAX, PackKind
from vfs.store.trees.directories import Directory, edit_directory


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Engine]:
    with engine(tmp_path / "repo") as opened:
        yield opened


def fresh(parts: Engine) -> ObjectStore:
    """Returns a store over the same repository that has cached nothing."""
    return ObjectStore(parts.backend, parts.index)


def pack_file(parts: Engine, tmp_path: Path, kind: PackKind = PackKind.DATA) -> Path:
    [row] = [row for row in parts.index.packs() if row.name.kind == kind]
    return tmp_path / "repo" / row.name.key


MIXED = [
    *chunks(3, 80_000),
    *chunks(30, 700, 2),
    b"text " * 9000,
    b"",
    b"x",
    *chunks(2, PackKind.DATA.group_bytes // 2, 3),
]


def test_what_was_put_is_found_before_and_after_the_flush(parts: Engine) -> None:
    with ObjectWriter(parts.store) as writer:
        ids = [writer.put_chunk(bytearray(plain)) for plain in MIXED]
        assert ids == [chunk_id(plain) for plain in MIXED]
        node = writer.put_node(NodeKind.CHUNKS, 0, [ChunkRef(key, 1) for key in ids])
        commit = writer.put_commit(Commit(1, (), ROOT_ENTRY, b"", 5, "a", "m"))
        for reader in (writer, writer):
            assert [bytes(reader.get_chunk(key)) for key in ids] == MIXED
            assert [ref.id for ref in reader.get_node(node).items if isinstance(ref, ChunkRef)] == ids
            assert reader.get_commit(commit).message == "m"
            assert all(writer.has(key) for key in (*ids, node, commit))
            writer.flush()
    for store in (parts.store, fresh(parts)):
        assert [bytes(store.get_chunk(key)) for key in ids] == MIXED
        assert all(store.get_chunk(key).readonly for key in ids)
        assert len(store.get_node(node).items) == len(ids)
        assert store.get_commit(commit).time_ns == 5
        assert all(store.has(key) for key in (*ids, node, commit))


def test_an_existing_object_is_not_stored_again(parts: Engine) -> None:
    put_all(parts, MIXED)
    before = [row.size for row in parts.index.packs()]
    with ObjectWriter(parts.store) as writer:
        for plain in MIXED:
            writer.put_chunk(plain)
        writer.add_prepared(writer.prepare_chunks(MIXED))
        writer.flush()
        assert (writer.statistics.objects_put, writer.statistics.objects_new) == (2 * len(MIXED), 0)
    assert [row.size for row in parts.index.packs()] == before


def test_unflushed_objects_are_lost_as_if_never_put(parts: Engine, tmp_path: Path) -> None:
    with ObjectWriter(parts.store) as writer:
        ids = [writer.put_chunk(plain) for plain in [*MIXED, *chunks(60, 100_000, 4)]]
        assert len(os.listdir(tmp_path / "repo" / "tmp")) == 1, "a pack has been begun"
    assert not any(parts.store.has(key) for key in ids)
    assert list(parts.backend.list("packs/")) == []
    assert os.listdir(tmp_path / "repo" / "tmp") == []
    with pytest.raises(ValueError, match="aborted"):
        writer.put_chunk(b"x")
    with pytest.raises(MissingObject) as caught:
        parts.store.get_chunk(ids[0])
    assert caught.value.object_id == ids[0]
    assert caught.value.errno == errno.EIO


def test_prepared_batches_keep_order_and_store_each_chunk_once(parts: Engine) -> None:
    batches = [chunks(20, 5000, 1) + chunks(2, 100_000, 2), chunks(20, 5000, 1), [], chunks(2, 100_000, 2) * 2]
    with ObjectWriter(parts.store) as writer:
        prepared = [writer.prepare_chunks(batch) for batch in batches]
        for batch, ready in zip(batches, prepared, strict=True):
            assert writer.add_prepared(ready) == [chunk_id(plain) for plain in batch]
            assert all(writer.get_chunk(chunk_id(plain)) == plain for plain in batch)
        writer.flush()
        assert writer.statistics.objects_new == 22
        assert writer.statistics.bytes_put == sum(len(plain) for batch in batches for plain in batch)
    assert parts.index.object_count() == 22
    for batch in batches:
        assert all(parts.store.get_chunk(chunk_id(plain)) == plain for plain in batch)


def test_workers_prepare_while_the_writer_adds_and_flushes(parts: Engine) -> None:
    plains = chunks(120, 9000)
    with ObjectWriter(parts.store) as writer:
        ready: list[list[PreparedBatch]] = [[] for _ in range(3)]

        def prepare(number: int) -> None:
            for start in range(0, 120, 8):
                ready[number].append(writer.prepare_chunks(plains[start : start + 8]))

        def add() -> None:
            for turn in range(30):
                writer.put_chunk(b"%d" % turn * 3000)
                writer.flush()

        together(3, prepare, add)
        for batches in ready:
            for batch in batches:
                writer.add_prepared(batch)
        writer.flush()
    assert all(fresh(parts).get_chunk(chunk_id(plain)) == plain for plain in plains)
    assert parts.index.object_count() == 120 + 30


def test_packs_fill_up_to_their_limit_and_are_found_by_the_writer_until_it_flushes(parts: Engine) -> None:
    plains = chunks(5, OBJECT_BYTES_MAX)
    with ObjectWriter(parts.store) as writer:
        for plain in plains:
            writer.put_chunk(plain)
        assert len(list(parts.backend.list("packs/"))) == 1
        assert not parts.store.has(chunk_id(plains[0]))
        assert all(writer.has(chunk_id(plain)) for plain in plains)
        assert all(writer.get_chunk(chunk_id(plain)) == plain for plain in plains)
        writer.flush()
    sizes = [row.size for row in parts.index.packs()]
    assert len(sizes) == 2
    assert max(sizes) <= PACK_BYTES_MAX
    assert fresh(parts).get_chunk(chunk_id(plains[4])) == plains[4]


def test_several_packs_are_indexed_with_one_transaction(tmp_path: Path) -> None:
    steps: list[str] = []
    with engine(tmp_path / "repo", on_step=steps.append) as parts:
        steps.clear()
        put_all(parts, chunks(9, OBJECT_BYTES_MAX))
        assert [row.objects for row in parts.index.packs()] == [3, 3, 3]
    assert steps.count("commit index") == 1


def test_a_writer_remembers_a_bounded_number_of_objects_before_they_are_indexed(parts: Engine) -> None:
    with ObjectWriter(parts.store) as writer:
        first = writer.put_chunk(b"0")
        for number in range(1, UNINDEXED_OBJECTS_MAX + 5 * BLOCK_OBJECTS_MAX):
            writer.put_chunk(b"%d" % number)
        assert parts.store.has(first)


def test_objects_are_written_in_order_however_long_they_take_to_compress(parts: Engine) -> None:
    noise = random.Random(7)
    plains = [noise.randbytes(40) * (noise.randrange(1, 200_000) // 40) for _ in range(200)]
    ids = put_all(parts, plains)
    places = parts.index.lookup_many(ids)
    assert all(place is not None for place in places)
    at = [(place.pack, place.offset) for place in places if place is not None]
    assert at == sorted(at)


def test_an_object_beyond_the_limit_is_refused(parts: Engine) -> None:
    with ObjectWriter(parts.store) as writer:
        for put in (writer.put_chunk, lambda plain: writer.prepare_chunks([plain])):
            with pytest.raises(TooLarge):
                put(bytes(OBJECT_BYTES_MAX + 1))


@pytest.mark.parametrize("count", [3, 100])
def test_what_finding_a_file_in_a_directory_needs_mostly_arrives_with_one_read(parts: Engine, count: int) -> None:
    """Entries and the root of the tiny map, also where the entries are a large node; few tiny bytes with them."""
    made: list[Directory] = []
    with ObjectWriter(parts.store) as writer:
        for seed in range(20):
            edits = {}
            for number in range(count):
                name, data = b"document%06d" % (1000 * seed + number), random.Random(number).randbytes(1_000)
                edits[name] = (Entry(name, Kind.FILE, 0o644, 0, 0, 1, 1_000, chunk_id(data), Form.TINY), data)
            made.append(edit_directory(writer, None, edits))
        writer.flush()
    together_with = 0
    for directory in made:
        content, tiny = parts.index.lookup_many([directory.content, directory.tiny])
        assert content is not None
        assert tiny is not None
        assert content.block_bytes < 2 * PackKind.TREE.group_bytes
        together_with += content.offset == tiny.offset
    assert together_with >= 15


def test_neighbours_arrive_with_one_read(parts: Engine) -> None:
    ids = put_all(parts, chunks(20, 1000))
    store = fresh(parts)
    assert store.cached(ids[7]) is None
    store.get_chunk(ids[3])
    assert all(store.cached(key) is not None for key in ids)


def test_prefetched_chunks_are_cached_and_damage_is_left_for_the_reader(parts: Engine, tmp_path: Path) -> None:
    plains = [*chunks(90, 60_000), *chunks(30, 900, 2), b"text " * 10_000, b"text " * 11_000]
    ids = put_all(parts, plains)
    store = fresh(parts)
    store.prefetch([ids[3], *ids[5:], chunk_id(b"absent")])
    assert [bytes(store.cached(key) or b"") for key in ids[5:]] == plains[5:]
    assert [store.cached(key) is None for key in ids[:5]] == [True, True, True, False, True]
    store.prefetch(ids)
    assert [bytes(store.cached(key) or b"") for key in ids] == plains
    path = pack_file(parts, tmp_path)
    data = bytearray(path.read_bytes())
    data[data.find(plains[1]) + 7] ^= 1
    data[16] ^= 1
    path.write_bytes(data)
    store = fresh(parts)
    store.prefetch(ids)
    for number in (0, 1):
        with pytest.raises(DamagedObject):
            store.get_chunk(ids[number])
    assert [store.get_chunk(key) for key in ids[2:]] == plains[2:]
    path.unlink()
    parts.backend.close()
    fresh(parts).prefetch(ids)


def test_chunks_are_read_past_the_cache_checked_and_as_far_as_the_buffer_goes(parts: Engine, tmp_path: Path) -> None:
    plains = [*chunks(6, 60_000), *chunks(30, 900, 2), b"text " * 10_000]
    ids = put_all(parts, plains)
    expected = dict(zip(ids, plains, strict=True))
    buffer = bytearray(500_000)
    store = fresh(parts)
    store.get_chunk(ids[2])
    found = store.read_chunks([*ids, chunk_id(b"absent")], buffer)
    assert {key: bytes(view) for key, view in found.items()} == expected
    assert all(store.cached(key) is None for number, key in enumerate(ids) if number != 2)
    assert set(fresh(parts).read_chunks(ids[:2], bytearray(60_000))) == set()
    path = pack_file(parts, tmp_path)
    data = bytearray(path.read_bytes())
    data[data.find(plains[1]) + 7] ^= 1
    path.write_bytes(data)
    found = fresh(parts).read_chunks(ids, buffer)
    assert ids[1] not in found
    assert all(bytes(view) == expected[key] for key, view in found.items())
    path.unlink()
    parts.backend.close()
    assert not fresh(parts).read_chunks(ids, buffer)


def test_the_caches_keep_their_bound(tmp_path: Path) -> None:
    with engine(tmp_path / "repo", cache_bytes_max=1 << 20) as parts:
        ids = put_all(parts, chunks(40, 100_000))
        for key in ids * 2:
            parts.store.get_chunk(key)
        assert 0 < parts.store.chunk_cache.bytes_held <= (1 << 20) * 5 // 8


def test_ids_of_one_kind_do_not_pass_for_another(parts: Engine) -> None:
    with ObjectWriter(parts.store) as writer:
        chunk = writer.put_chunk(b"\x01\x00\x90")
        commit = writer.put_commit(Commit(1, (), ROOT_ENTRY, b"", 5, "a", "m"))
        writer.flush()
    with pytest.raises(DamagedObject, match="is no node"):
        parts.store.get_node(NodeId(chunk))
    with pytest.raises(DamagedObject, match="is no chunk"):
        parts.store.get_chunk(ChunkId(commit))
    with pytest.raises(DamagedObject, match="is no commit"):
        parts.store.get_commit(CommitId(chunk))


def test_a_flipped_bit_is_an_error_on_exactly_what_it_hit(parts: Engine, tmp_path: Path) -> None:
    plains = chunks(6, 50_000)
    ids = put_all(parts, plains)
    path = pack_file(parts, tmp_path)
    data = bytearray(path.read_bytes())
    data[data.find(plains[2]) + 777] ^= 4
    path.write_bytes(data)
    store = fresh(parts)
    for number, key in enumerate(ids):
        if number == 2:
            with pytest.raises(DamagedObject, match=path.name) as caught:
                store.get_chunk(key)
            assert caught.value.object_id == key
            assert caught.value.errno == errno.EIO
        else:
            assert store.get_chunk(key) == plains[number]


def test_a_damaged_node_is_an_error_when_it_is_asked_for_and_none_to_its_neighbours(
    parts: Engine, tmp_path: Path
) -> None:
    # Ids do not compress, so a flipped bit hits one node and not the frame of all.
    refs = [[ChunkRef(key, 32) for key in chunks(20, 32, seed)] for seed in range(3)]
    with ObjectWriter(parts.store) as writer:
        ids = [writer.put_node(NodeKind.CHUNKS, 0, items) for items in refs]
        writer.flush()
    path = pack_file(parts, tmp_path, PackKind.TREE)
    data = bytearray(path.read_bytes())
    data[data.find(refs[1][5].id) + 3] ^= 1
    path.write_bytes(data)
    for first in (0, 1):
        store = fresh(parts)
        for number in (first, 1, 2, 0, 1):
            if number == 1:
                with pytest.raises(DamagedObject, match="do not match the id") as caught:
                    store.get_node(ids[1])
                assert caught.value.object_id == ids[1]
            else:
                assert list(store.get_node(ids[number]).items) == refs[number]
        assert store.tree_cache.holds(ids[2])


def test_a_pack_that_is_cut_missing_or_replaced_is_an_error_never_wrong_bytes(parts: Engine, tmp_path: Path) -> None:
    ids = put_all(parts, chunks(3, 50_000))
    path = pack_file(parts, tmp_path)
    whole = path.read_bytes()
    for data in (whole[: len(whole) // 2], b"", bytes(len(whole)), whole[100:] + whole[:100], None):
        parts.backend.close()
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(DamagedObject) as caught:
            fresh(parts).get_chunk(ids[2])
        assert caught.value.errno == errno.EIO
    path.write_bytes(whole)
    parts.backend.close()
    assert len(fresh(parts).get_chunk(ids[2])) == 50_000


def test_an_index_that_points_at_another_block_says_how_to_mend_it(parts: Engine) -> None:
    first, second, third = put_all(parts, chunks(3, 50_000))
    row, far = parts.tables.get("objects", second), parts.tables.get("objects", third)
    assert row is not None
    assert far is not None
    with parts.tables.write() as batch:
        batch.put("objects", first, row)
        batch.put("objects", second, far[:8] + (1 << 31).to_bytes(4, "little") + far[12:])
    for key in (first, second):
        with pytest.raises(DamagedObject) as caught:
            fresh(parts).get_chunk(key)
        assert "rebuild-index" in hint_text(caught.value.hint)
    assert fresh(parts).get_chunk(third)
    parts.index.rebuild(parts.backend, parts.store.compression)
    assert fresh(parts).get_chunk(first)
    assert fresh(parts).get_chunk(second)


def test_threads_read_together(parts: Engine) -> None:
    plains = chunks(40, 20_000)
    ids = put_all(parts, plains)
    store = ObjectStore(parts.backend, parts.index, cache_bytes_max=1 << 20)

    def work(seed: int) -> None:
        noise = random.Random(seed)
        for _ in range(300):
            number = noise.randrange(40)
            assert store.get_chunk(ids[number]) == plains[number]

    together(4, work)


@pytest.mark.parametrize("where", ["fsync packs/data", "rename packs/data", "fsync packs/tree", "commit index"])
def test_a_full_disk_while_sealing_loses_nothing_and_ends_the_writer(tmp_path: Path, where: str) -> None:
    full = False

    def step(name: str) -> None:
        if full and name.startswith(where):
            raise OSError(errno.ENOSPC, "full")

    with engine(tmp_path / "repo", on_step=step) as parts:
        old = put_all(parts, chunks(2, 40_000))
        full = True
        with ObjectWriter(parts.store) as writer:
            chunk = writer.put_chunk(b"new")
            node = writer.put_node(NodeKind.CHUNKS, 0, [ChunkRef(chunk, 3)])
            with pytest.raises(OSError) as caught:
                writer.flush()
            assert caught.value.errno == errno.ENOSPC
            with pytest.raises(ValueError, match="failed"):
                writer.put_chunk(b"more")
        full = False
        assert not parts.store.has(node)
        assert not parts.store.has(chunk)
        assert all(len(fresh(parts).get_chunk(key)) == 40_000 for key in old)
        assert os.listdir(tmp_path / "repo" / "tmp") == []
        assert put_all(parts, [b"new"]) == [chunk]


def test_a_scratch_sink_gives_the_ids_and_stores_nothing(parts: Engine) -> None:
    stored = put_all(parts, [b"stored"])[0]
    scratch = DryRunSink(parts.store)
    chunk = scratch.put_chunk(b"only hashed")
    node = scratch.put_node(NodeKind.CHUNKS, 0, [ChunkRef(chunk, 11)])
    commit = scratch.put_commit(Commit(1, (), ROOT_ENTRY, b"", 5, "a", "m"))
    assert list(scratch.get_node(node).items) == [ChunkRef(chunk, 11)]
    assert scratch.get_commit(commit).author == "a"
    assert bytes(scratch.get_chunk(stored)) == b"stored"
    assert scratch.has(node)
    assert scratch.has(stored)
    assert not scratch.has(chunk)
    with pytest.raises(Corrupt):
        scratch.get_chunk(chunk)
    with ObjectWriter(parts.store) as writer:
        assert writer.put_node(NodeKind.CHUNKS, 0, [ChunkRef(chunk, 11)]) == node
    assert not parts.store.has(node)
