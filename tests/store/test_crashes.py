"""Crashes of the engine: at every durable step of a flush, and a real process killed at any moment.

Goal: whatever the index names is complete, down to the last chunk, and what was acknowledged is there.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from support.engine import ROOT_ENTRY, Crash, Engine, StopAfter, engine, move
from vfs.model.ids import ChunkId, CommitId, NodeId
from vfs.model.nodes import NodeKind
from vfs.model.objects import ChunkRef, Commit, TinyItem
from vfs.store.object_store import ObjectStore
from vfs.store.object_writer import ObjectWriter
from vfs.store.packs.blocks import ObjectType


def write_all(parts: Engine, seed: int) -> NodeId:
    """Stores chunks of several sizes under two levels of nodes, in two flushes."""
    noise = random.Random(seed)
    with ObjectWriter(parts.store) as writer:
        ids = [writer.put_chunk(noise.randbytes(size)) for size in (10, 40_000, 500, 70_000)]
        leaf = writer.put_node(NodeKind.CHUNKS, 0, [ChunkRef(key, 1) for key in ids])
        writer.flush()
        more = writer.put_chunk(noise.randbytes(300))
        top = writer.put_node(NodeKind.CHUNKS, 0, [ChunkRef(more, 1), ChunkRef(leaf, 1)])
        writer.flush()
    return top


def check_complete(parts: Engine) -> set[bytes]:
    """Checks that every indexed object can be read, and what a node names is there; returns the ids."""
    store = ObjectStore(parts.backend, parts.index)
    ids = set()
    for key, location in parts.index.locations():
        ids.add(key)
        if location.type == ObjectType.CHUNK:
            store.get_chunk(ChunkId(key))
        elif location.type == ObjectType.NODE:
            for item in store.get_node(NodeId(key)).items:
                assert not isinstance(item, ChunkRef) or store.has(item.id)
    return ids


def test_a_crash_at_every_durable_step_of_a_flush_leaves_only_complete_trees(tmp_path: Path) -> None:
    stopped: list[str] = []
    for steps in range(60):
        directory = tmp_path / f"repo{steps}"
        with engine(directory) as parts:
            old = write_all(parts, 1)
            before = check_complete(parts)
        stop = StopAfter(steps)
        with engine(directory, on_step=stop) as parts:
            try:
                write_all(parts, 2)
            except Crash:
                stopped.append(stop.stopped_at.split("/")[0])
        with engine(directory) as parts:
            assert check_complete(parts) >= before
            assert parts.store.get_node(old)
            assert parts.backend.clear_unfinished() == 0
            again = write_all(parts, 2)
            assert len(check_complete(parts)) == 2 * len(before)
            assert not parts.index.rebuild(parts.backend, parts.store.compression, deep=True).damage
            assert parts.store.has(again)
        if not stop.stopped_at:
            break
    pack = ["fsync packs", "rename packs", "fsync directory of packs"]
    assert stopped == [*pack, *pack, "commit index"] * 2


def test_a_tree_pack_that_fills_up_takes_the_data_it_names_with_it(tmp_path: Path) -> None:
    noise = random.Random(3)
    with engine(tmp_path / "repo") as parts:
        with ObjectWriter(parts.store) as writer:
            chunk = writer.put_chunk(b"a small chunk that waits for neighbours")
            node = writer.put_node(NodeKind.CHUNKS, 0, [ChunkRef(chunk, 1)])
            while not writer.statistics.packs:
                items = [TinyItem(b"%04d" % number, noise.randbytes(60_000)) for number in range(16)]
                writer.put_node(NodeKind.TINY, 0, items)
            # The process ends here: nothing is flushed, and what was sealed is not indexed yet.
        assert not parts.index.rebuild(parts.backend, parts.store.compression).damage
        assert parts.store.has(node)
        assert bytes(parts.store.get_chunk(chunk)).startswith(b"a small chunk")
        check_complete(parts)


_WORK = """
import sys
from pathlib import Path
from support.engine import ROOT_ENTRY, engine, move
from vfs.model.nodes import NodeKind
from vfs.store.object_writer import ObjectWriter
from vfs.model.objects import ChunkRef, Commit

with engine(Path(sys.argv[1])) as parts:
    head = parts.refs.get("branches/main") or b""
    for number in range(parts.refs.version_count("main") + 1, 100_000):
        with ObjectWriter(parts.store) as writer:
            chunk = writer.put_chunk(b"%d " % number * 5000)
            node = writer.put_node(NodeKind.CHUNKS, 0, [ChunkRef(chunk, 1)])
            parents = (head,) if head else ()
            made = writer.put_commit(Commit(number, parents, ROOT_ENTRY, node, number, "a", "m"))
            writer.flush()
        parts.refs.move(move("branches/main", head, made))
        head = made
        print(number, flush=True)
"""


def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    acknowledged = 0
    for lines in (1, 7, 20):
        command = [sys.executable, "-c", _WORK, str(tmp_path / "repo")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            for _ in range(lines):
                acknowledged = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
        with engine(tmp_path / "repo") as parts:
            count = parts.refs.version_count("main")
            assert count >= acknowledged
            assert not parts.refs.damage
            for number in range(1, count + 1):
                commit_id = parts.refs.version("main", number)
                assert commit_id is not None
                commit = parts.store.get_commit(commit_id)
                [ref] = parts.store.get_node(NodeId(commit.links)).items
                assert isinstance(ref, ChunkRef)
                assert parts.store.get_chunk(ChunkId(ref.id)) == b"%d " % number * 5000
            check_complete(parts)


def test_a_crash_between_the_packs_and_the_log_leaves_the_old_version(tmp_path: Path) -> None:
    with engine(tmp_path / "repo") as parts:
        first = parts.commit(1)
        parts.refs.move(move("branches/main", b"", first))
        with ObjectWriter(parts.store) as writer:
            second: CommitId = writer.put_commit(Commit(2, (first,), ROOT_ENTRY, b"", 2, "a", "m"))
            writer.flush()
    with engine(tmp_path / "repo") as parts:
        assert parts.refs.get("branches/main") == first
        assert parts.refs.version_count("main") == 1
        # The same commit made again finds its objects and needs no pack.
        parts.refs.move(move("branches/main", first, second))
        assert parts.refs.version("main", 2) == second
