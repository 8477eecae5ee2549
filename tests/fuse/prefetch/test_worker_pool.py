"""Prefetch workers: their results are right, jobs not started are cancelled, and no request depends on them."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.descriptors import open_paths
from support.ended import have_ended, watched
from support.engine import Engine, engine
from support.pushed import PushedFiles
from support.waiting import wait_until
from vfs.backend.storage import LocalRecipe
from vfs.fuse.prefetch import worker
from vfs.fuse.prefetch.worker import SLOTS
from vfs.fuse.prefetch.worker_pool import UNUSED_S, WorkerPool
from vfs.model.chunking import IngestParams
from vfs.model.ids import ChunkId, chunk_id
from vfs.store.object_store import ObjectStore
from vfs.store.object_writer import ObjectWriter
from vfs.store.sequential_readahead import JOB_BYTES_MAX
from vfs.store.trees.content_writer import ContentWriter
from vfs.store.trees.file_reader import FileReader

MIB = 1024 * 1024
PIECE = 128 * 1024


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Engine]:
    with engine(tmp_path / "repo") as opened:
        yield opened


@pytest.fixture
def kernel() -> Iterator[PushedFiles]:
    with PushedFiles() as pushed:
        yield pushed


@pytest.fixture
def pool(tmp_path: Path, kernel: PushedFiles) -> Iterator[WorkerPool]:
    """Processes over the repository of `parts`, started."""
    made = WorkerPool(LocalRecipe(os.fsencode(tmp_path / "repo")))
    made.fork()
    made.start(kernel.connection)
    try:
        yield made
    finally:
        assert made.close()


def put_chunks(parts: Engine, plains: list[bytes]) -> list[ChunkId]:
    with ObjectWriter(parts.store) as writer:
        ids = [writer.put_chunk(plain) for plain in plains]
        writer.flush()
    return ids


def fresh(parts: Engine, pool: WorkerPool) -> ObjectStore:
    store = ObjectStore(parts.backend, parts.index)
    store.set_prefetcher(pool)
    return store


def damage(directory: Path, plain: bytes) -> None:
    """Flips a bit of a chunk in the one pack."""
    (pack,) = (directory / "repo").rglob("*.pack")
    data = bytearray(pack.read_bytes())
    data[data.find(plain) + 7] ^= 1
    pack.write_bytes(data)


def random_chunks(count: int, size: int, seed: int = 1) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(size) for _ in range(count)]


def test_a_file_read_in_sequence_is_prefetched_correctly(parts: Engine, pool: WorkerPool) -> None:
    data = random.Random(5).randbytes(4 * MIB) + b"words and numbers, 12.5\n" * (4 * MIB // 24)
    with ObjectWriter(parts.store) as writer:
        content = ContentWriter(writer, IngestParams()).from_bytes(data)
        writer.flush()
    reader = FileReader(fresh(parts, pool), content)
    ids = [ChunkId(ref.id) for _, ref in reader.refs()]
    assert reader.read(0, MIB) == data[:MIB]
    pool.wait_idle()
    prefetched = [pool.holds(key) for key in ids]
    # As much as was read, from where the read ended, and no more.
    assert True in prefetched
    assert not any(prefetched[len(prefetched) // 2 :])
    assert b"".join(reader.read(at, PIECE) for at in range(0, len(data), PIECE)) == data


def test_what_arrives_needs_no_disk_and_is_no_copy(parts: Engine, pool: WorkerPool, tmp_path: Path) -> None:
    plains = [*random_chunks(5, 60_000), b"text " * 10_000, *random_chunks(40, 900, 2)]
    ids = put_chunks(parts, plains)
    store = fresh(parts, pool)
    store.start_prefetch(ids)
    pool.wait_idle()
    parts.backend.close()
    for pack in (tmp_path / "repo").rglob("*.pack"):
        pack.unlink()
    assert [bytes(store.get_chunk(key)) for key in ids] == plains
    assert store.get_chunk(ids[0]).obj is store.get_chunk(ids[1]).obj
    assert store.get_chunk(ids[0]).readonly


def test_damage_is_left_to_the_reader_and_neighbours_arrive(parts: Engine, pool: WorkerPool, tmp_path: Path) -> None:
    plains = random_chunks(8, 60_000)
    ids = put_chunks(parts, plains)
    damage(tmp_path, plains[3])
    store = fresh(parts, pool)
    store.start_prefetch([*ids, chunk_id(b"absent")])
    pool.wait_idle()
    assert [pool.holds(key) for key in ids] == [number != 3 for number in range(8)]


def test_memory_is_bounded_and_reused_when_no_view_is_left(parts: Engine, pool: WorkerPool) -> None:
    each = JOB_BYTES_MAX // 4
    plains = random_chunks(4 * (SLOTS + 4), each)
    ids = put_chunks(parts, plains)
    store = fresh(parts, pool)

    def prefetch(keys: list[ChunkId]) -> list[ChunkId]:
        for at in range(0, len(keys), 4):
            store.start_prefetch(keys[at : at + 4])
            pool.wait_idle()
        return [key for key in ids if pool.holds(key)]

    # Chunks that no request has used stay: later ones find no room.
    assert prefetch(ids) == ids[: 4 * SLOTS]
    views = [store.get_chunk(key) for key in ids[: 4 * SLOTS]]
    # Used chunks make room, except for those that a view still holds.
    assert prefetch(ids[4 * SLOTS :]) == []
    assert [bytes(view) for view in views] == plains[: 4 * SLOTS]
    del views[8:]
    assert prefetch(ids[4 * SLOTS :]) == ids[4 * SLOTS :]
    assert [bytes(view) for view in views] == plains[:8]


def test_unused_prefetched_chunks_are_evicted_after_a_while(
    parts: Engine, pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plains = random_chunks(2 * SLOTS, JOB_BYTES_MAX // 4)
    ids = put_chunks(parts, plains)
    store = fresh(parts, pool)
    for key in ids[:SLOTS]:
        store.start_prefetch([key])
        pool.wait_idle()
    store.start_prefetch([ids[-1]])
    assert not pool.holds(ids[-1])
    later = time.monotonic() + UNUSED_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    store.start_prefetch([ids[-1]])
    assert pool.holds(ids[-1])
    assert not pool.holds(ids[0])
    assert pool.holds(ids[1])


def test_the_shared_memory_is_freed_with_its_last_view_after_closing(parts: Engine, pool: WorkerPool) -> None:
    gc.collect()
    (plain,) = random_chunks(1, 60_000)
    ids = put_chunks(parts, [plain])
    store = fresh(parts, pool)
    store.start_prefetch(ids)
    pool.wait_idle()
    view = store.get_chunk(ids[0])
    shared = open_memory()
    assert pool.close()
    assert open_memory() == shared
    assert view == plain
    del view
    assert open_memory() == shared - 1


def open_memory() -> int:
    return sum(path.startswith("/memfd:") for path in open_paths())


def test_a_chunk_that_arrives_twice_is_kept_once(parts: Engine, pool: WorkerPool) -> None:
    ids = put_chunks(parts, random_chunks(SLOTS + 1, JOB_BYTES_MAX // 4))
    store = fresh(parts, pool)
    # The second job has nothing new, the third has one chunk that is there: together they take one slot.
    for chunks in ([ids[0]], [ids[0]], [ids[0], ids[1]], *([key] for key in ids[2:])):
        pool.prefetch(chunks, store.extents(chunks))
        pool.wait_idle()
    assert [pool.holds(key) for key in ids] == [True] * SLOTS + [False]
    for key in ids[:2]:
        assert pool.get(key) is not None
    pool.prefetch(ids[-1:], store.extents(ids[-1:]))
    assert [pool.holds(key) for key in ids] == [False] + [True] * SLOTS


def test_a_queued_job_is_cancelled_and_done_at_once(parts: Engine, pool: WorkerPool, kernel: PushedFiles) -> None:
    plains = random_chunks(24, 200_000)
    ids = put_chunks(parts, plains)
    store = fresh(parts, pool)
    for pid in pool.processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        for at in range(0, len(ids), 4):
            store.start_prefetch(ids[at : at + 4])
        assert all(pool.holds(key) for key in ids)
        assert [bytes(store.get_chunk(key)) for key in ids] == plains
        assert not any(pool.holds(key) for key in ids)
        (request_id,) = pool.push([(77, ids[:2])], store.extents(ids[:2]))
        assert pool.cancel(request_id)
    finally:
        for pid in pool.processes:
            os.kill(pid, signal.SIGCONT)
    pool.wait_idle()
    assert not kernel.taken()


def test_files_are_pushed_whole_or_not_at_all(
    parts: Engine, pool: WorkerPool, kernel: PushedFiles, tmp_path: Path
) -> None:
    plains = [*random_chunks(4, 60_000), b"text " * 10_000]
    ids = put_chunks(parts, plains)
    damage(tmp_path, plains[3])
    store = fresh(parts, pool)
    files = [(11, [ids[0]]), (12, [ids[1], ids[2]]), (13, [ids[2], ids[3]]), (14, [ids[4]])]
    request_ids = pool.push(files, store.extents(ids))
    pool.wait_idle()
    assert kernel.taken() == {11: plains[0], 12: plains[1] + plains[2], 14: plains[4]}
    assert not any(pool.cancel(request_id) for request_id in request_ids)


def test_workers_that_die_cause_no_error(parts: Engine, pool: WorkerPool, kernel: PushedFiles) -> None:
    plains = random_chunks(24, 200_000)
    ids = put_chunks(parts, plains)
    store = fresh(parts, pool)
    for pid in pool.processes:
        os.kill(pid, signal.SIGSTOP)
    store.start_prefetch(ids)
    (request_id,) = pool.push([(5, ids[:2])], store.extents(ids[:2]))
    for pid in pool.processes:
        os.kill(pid, signal.SIGKILL)
    pool.wait_idle()
    assert not pool.processes
    assert pool.cancel(request_id)
    assert [bytes(store.get_chunk(key)) for key in ids] == plains
    store.start_prefetch(ids)
    assert not pool.push([(6, ids[:1])], store.extents(ids[:1]))
    assert not any(pool.holds(key) for key in ids)


def test_the_others_do_what_one_that_died_idle_does_not(parts: Engine, pool: WorkerPool, kernel: PushedFiles) -> None:
    (key,) = put_chunks(parts, random_chunks(1, 50_000))
    store = fresh(parts, pool)
    first = pool.processes[0]
    with watched([first]) as descriptors:
        os.kill(first, signal.SIGKILL)
        assert have_ended(descriptors)
    left = pool.processes[1:]
    for ino in (11, 12):
        assert bool(pool.push([(ino, [key])], store.extents([key]))) == bool(left)
        pool.wait_idle()
    assert pool.processes == left
    assert sorted(kernel.taken()) == ([11, 12] if left else [])


def test_a_worker_keeps_open_nothing_that_its_parent_has(tmp_path: Path, kernel: PushedFiles) -> None:
    with (tmp_path / "lock").open("wb"):
        made = WorkerPool(LocalRecipe(os.fsencode(tmp_path)))
        made.fork()
        made.start(kernel.connection)
        assert made.processes
        # A worker closes what is not its own when it begins.
        for process in made.processes:
            wait_until(lambda process=process: not any(str(tmp_path) in path for path in open_paths(process)))  # type: ignore[misc]
        assert made.close()


def test_a_process_that_has_nothing_to_do_closes_removed_packs(
    parts: Engine, tmp_path: Path, kernel: PushedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_CLOSE_REMOVED_MS", 1)
    pool = WorkerPool(LocalRecipe(os.fsencode(tmp_path / "repo")))
    pool.fork()
    pool.start(kernel.connection)

    def packs() -> list[str]:
        return [path for process in pool.processes for path in open_paths(process) if ".pack" in path]

    ids = put_chunks(parts, random_chunks(8, PIECE))
    fresh(parts, pool).start_prefetch(ids)
    pool.wait_idle()
    assert packs()
    for pack in (tmp_path / "repo").rglob("*.pack"):
        pack.unlink()
    wait_until(lambda: not packs())
    assert pool.close()


def test_a_pool_ends_where_the_kernel_reaps_its_processes(tmp_path: Path, kernel: PushedFiles) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        made = WorkerPool(LocalRecipe(os.fsencode(tmp_path)))
        made.fork()
        made.start(kernel.connection)
        assert made.close()
    finally:
        signal.signal(signal.SIGCHLD, before)


_EMPLOYER = """
import os, sys, time
from vfs.backend.storage import LocalRecipe
from vfs.store.object_writer import ObjectWriter
from vfs.fuse.prefetch.worker_pool import UNUSED_S, WorkerPool
made = WorkerPool(LocalRecipe(os.fsencode(sys.argv[1])))
made.fork()
made.start(os.open(os.devnull, os.O_WRONLY))
print(*made.processes, flush=True)
time.sleep(600)
"""


def test_processes_end_with_an_employer_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _EMPLOYER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as employer:
        assert employer.stdout is not None
        with watched([int(pid) for pid in employer.stdout.readline().split()]) as processes:
            assert processes
            employer.kill()
            assert have_ended(processes)
