"""Index: made again from the packs it is the same, whatever a crash has left unindexed."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from support.engine import Crash, Engine, StopAfter, engine
from vfs.model.ids import ChunkId, chunk_id
from vfs.model.nodes import NodeKind
from vfs.model.objects import ChunkRef
from vfs.store.lmdb_tables import discard
from vfs.store.object_store import ObjectStore
from vfs.store.object_writer import ObjectWriter
from vfs.store.packs.index import Location
from vfs.store.packs.pack_file import PackName, read_info

ROW = struct.Struct("<4xIIIIB")


def fill(parts: Engine, turns: int = 3) -> dict[bytes, bytes]:
    noise = random.Random(5)
    plains = [noise.randbytes(noise.choice([10, 2000, 50_000])) for _ in range(20 * turns)]
    for turn in range(turns):
        with ObjectWriter(parts.store) as writer:
            ids = [writer.put_chunk(plain) for plain in plains[turn * 20 : turn * 20 + 20]]
            writer.put_node(NodeKind.CHUNKS, 0, [ChunkRef(key, 1) for key in ids])
            writer.flush()
    return {chunk_id(plain): plain for plain in plains}


def places(parts: Engine) -> dict[bytes, tuple[PackName, Location]]:
    """Returns where each object is, with packs by name: numbers depend on the order of indexing."""
    return {
        key: (parts.index.pack_name(location.pack), location._replace(pack=0))
        for key, location in parts.index.locations()
    }


def test_a_rebuilt_index_equals_the_one_that_grew(tmp_path: Path) -> None:
    with engine(tmp_path / "repo") as parts:
        objects = fill(parts)
        grown = places(parts)
        assert len(grown) == len(objects) + 3
        for deep in (False, True):
            steps: list[tuple[str, int, int | None]] = []

            def note(
                stage: str, done: int, total: int | None, steps: list[tuple[str, int, int | None]] = steps
            ) -> None:
                steps.append((stage, done, total))

            result = parts.index.rebuild(parts.backend, parts.store.compression, note, deep=deep)
            assert (result.packs, list(result.damage)) == (6, [])
            assert steps == [("rebuilding the index", number, 6) for number in range(1, 7)]
            assert places(parts) == grown
        numbers = [row.number for row in parts.index.packs()]
        assert numbers == list(range(13, 19))
    discard(tmp_path / "repo" / "index")
    with engine(tmp_path / "repo") as parts:
        assert [parts.index.is_complete] == [False]
        assert parts.index.rebuild(parts.backend, parts.store.compression).packs == 6
        assert [parts.index.is_complete] == [True]
        assert places(parts) == grown
        assert all(parts.store.get_chunk(ChunkId(key)) == plain for key, plain in objects.items())


def test_a_crash_during_a_rebuild_leaves_the_old_index(tmp_path: Path) -> None:
    with engine(tmp_path / "repo") as parts:
        fill(parts)
        grown = places(parts)
    stop = StopAfter(0)
    with engine(tmp_path / "repo", on_step=stop) as parts, pytest.raises(Crash):
        parts.index.rebuild(parts.backend, parts.store.compression)
    with engine(tmp_path / "repo") as parts:
        assert places(parts) == grown


def test_packs_that_a_crash_left_unindexed_do_no_harm(tmp_path: Path) -> None:
    stop = StopAfter(1_000_000)
    with engine(tmp_path / "repo", on_step=stop) as parts:
        objects = fill(parts, 1)
        with ObjectWriter(parts.store) as writer:
            lost = writer.put_chunk(b"not yet indexed" * 100)
            stop.left = 3
            with pytest.raises(Crash):
                writer.flush()
        assert stop.stopped_at == "commit index"
    with engine(tmp_path / "repo") as parts:
        assert not parts.store.has(lost)
        with ObjectWriter(parts.store) as writer:
            assert writer.put_chunk(b"not yet indexed" * 100) == lost
            writer.flush()
        for _ in range(2):
            assert parts.store.get_chunk(lost) == b"not yet indexed" * 100
            assert all(parts.store.has(key) for key in objects)
            assert parts.index.rebuild(parts.backend, parts.store.compression).packs == 3


def test_damaged_packs_are_reported_by_name(tmp_path: Path) -> None:
    with engine(tmp_path / "repo") as parts:
        fill(parts, 2)
        rows = list(parts.index.packs())
        parts.backend.delete(rows[0].name.key)
        key = rows[2].name.key
        data = bytearray(parts.backend.read(key))
        data[-1] ^= 1
        data[20] ^= 1
        parts.backend.put(key, data)
        result = parts.index.rebuild(parts.backend, parts.store.compression)
        assert result.packs == 3
        assert {name for name, _ in result.damage} == {rows[2].name}
        store = ObjectStore(parts.backend, parts.index)
        assert all(store.has(key) for key, _ in parts.index.locations())


def test_files_that_are_no_packs_are_skipped(tmp_path: Path) -> None:
    with engine(tmp_path / "repo") as parts:
        parts.backend.put("packs/data/00/readme.txt", b"x")
        parts.backend.put("packs/" + "0" * 32 + ".pack", b"x")
        assert parts.index.rebuild(parts.backend, parts.store.compression).packs == 0


def test_a_pack_indexed_twice_changes_nothing(tmp_path: Path) -> None:
    with engine(tmp_path / "one") as parts:
        fill(parts, 1)
        grown = places(parts)
    with engine(tmp_path / "one") as parts:
        # Another process may index a pack between the listing and the transaction.
        [name] = {row.name for row in parts.index.packs() if row.name.kind == 1}
        parts.index.add_packs([read_info(parts.backend, name, parts.backend.size(name.key))])
        assert places(parts) == grown
        assert len(list(parts.index.packs())) == 2


def test_rows_are_those_that_look_ups_read(tmp_path: Path) -> None:
    with engine(tmp_path) as parts:
        keys = [bytes(32), *fill(parts)]
        rows, packs = parts.index.rows(keys)
        found = [Location(*ROW.unpack_from(rows, at * ROW.size)) for at in range(len(keys))]
        assert found[0] == Location(0, 0, 0, 0, 0)
        assert found[1:] == parts.index.lookup_many(keys[1:])
        assert packs == {location.pack for location in found[1:]}
        assert len(packs) == 3
