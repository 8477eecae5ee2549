"""Blocks of a backend that is not local, alone: threads, single flight, prefetch, failures, limits of memory."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator

import pytest

from support.remote import RemoteBackend
from vfs.backend.memory import MemoryBackend
from vfs.backend.protocol import Buffer, MissingKey
from vfs.store import remote_blocks
from vfs.store.remote_blocks import PREFETCH_THREADS, THREADS, TREE_THREADS, Block, NotLocal, RemoteBlocks
from vfs.store.sequential_readahead import Extent

DATA, TREE = "packs/data/00/a.pack", "packs/tree/00/b.pack"
SIZE = 1000
COUNT = 200
LIMIT_S = 300.0


@pytest.fixture
def backend() -> Iterator[RemoteBackend]:
    memory = MemoryBackend()
    for key in (DATA, TREE):
        memory.put(key, bytes(number % 251 for number in range(SIZE * COUNT)))
    remote = RemoteBackend(memory)
    yield remote
    remote.gate.set()


@pytest.fixture
def blocks(backend: RemoteBackend) -> Iterator[RemoteBlocks]:
    remote = RemoteBlocks(backend)
    yield remote
    backend.gate.set()
    remote.wait_idle()


def at(number: int, pack: str = DATA) -> Block:
    return Block(pack, number * SIZE, SIZE)


def content(number: int) -> bytes:
    return bytes(at % 251 for at in range(number * SIZE, (number + 1) * SIZE))


def close(backend: RemoteBackend) -> None:
    """Closes the gate, and counts from now on."""
    backend.gate.clear()
    backend.arrived = threading.Semaphore(0)


class Reader(threading.Thread):
    """Reads one block in a thread of its own."""

    def __init__(self, blocks: RemoteBlocks, block: Block) -> None:
        super().__init__()
        self._blocks, self._block = blocks, block
        self.result: object = None
        self.start()

    def run(self) -> None:
        try:
            self.result = bytes(self._blocks.read(self._block.pack, self._block.offset, [self._block.size]))
        except (OSError, MissingKey) as error:
            self.result = error

    def answer(self) -> object:
        self.join(LIMIT_S)
        assert not self.is_alive()
        return self.result


def test_many_readers_share_a_bounded_number_of_reads(backend: RemoteBackend, blocks: RemoteBlocks) -> None:
    close(backend)
    # Not side by side: each is a read of its own.
    readers = [Reader(blocks, at(number)) for number in range(0, COUNT, 2)]
    again = [Reader(blocks, at(number)) for number in range(0, COUNT, 2)]
    backend.wait_for_reads(THREADS - TREE_THREADS)
    assert not backend.arrived.acquire(blocking=False)
    backend.gate.set()
    for number, reader in enumerate(readers):
        assert reader.answer() == content(2 * number)
    for number, reader in enumerate(again):
        assert reader.answer() == content(2 * number)
    assert len(backend.reads) <= COUNT


def test_trees_are_read_beside_any_number_of_readers_of_files(backend: RemoteBackend, blocks: RemoteBlocks) -> None:
    close(backend)
    readers = [Reader(blocks, at(number)) for number in range(0, COUNT, 2)]
    backend.wait_for_reads(THREADS - TREE_THREADS)
    trees = [Reader(blocks, at(number, TREE)) for number in range(0, 2 * TREE_THREADS, 2)]
    backend.wait_for_reads(TREE_THREADS)
    assert {key for key, _, _ in backend.reads[-TREE_THREADS:]} == {TREE}
    backend.gate.set()
    assert [tree.answer() for tree in trees] == [content(number) for number in range(0, 2 * TREE_THREADS, 2)]
    assert all(isinstance(reader.answer(), bytes) for reader in readers)


def test_prefetches_leave_threads_to_readers_and_are_bounded(backend: RemoteBackend, blocks: RemoteBlocks) -> None:
    close(backend)
    blocks.prefetch([at(number) for number in range(0, COUNT, 2)])
    backend.wait_for_reads(PREFETCH_THREADS)
    assert not backend.arrived.acquire(blocking=False)
    reader = Reader(blocks, at(1))
    backend.wait_for_reads(1)
    assert backend.reads[-1] == (DATA, SIZE, SIZE)
    backend.gate.set()
    assert reader.answer() == content(1)
    blocks.wait_idle()
    # The queue has a limit, which counts what waits for a thread.
    assert len(backend.reads) <= PREFETCH_THREADS + remote_blocks.PREFETCH_QUEUE_MAX + 1


def test_a_prefetched_block_is_read_once_and_then_given_up(backend: RemoteBackend, blocks: RemoteBlocks) -> None:
    blocks.prefetch_extent(Extent(DATA, 0, [SIZE, SIZE]))
    blocks.wait_idle()
    assert backend.reads == [(DATA, 0, 2 * SIZE)]
    assert bytes(blocks.read(DATA, 0, [SIZE, SIZE])) == content(0) + content(1)
    assert len(backend.reads) == 1
    assert bytes(blocks.read(DATA, 0, [SIZE])) == content(0)
    assert len(backend.reads) == 2


def test_a_reader_overtakes_the_queue_of_prefetches(backend: RemoteBackend, blocks: RemoteBlocks) -> None:
    close(backend)
    blocks.prefetch([at(number) for number in range(0, 60, 2)])
    backend.wait_for_reads(PREFETCH_THREADS)
    reader = Reader(blocks, at(58))
    backend.wait_for_reads(1)
    assert backend.reads[-1] == (DATA, 58 * SIZE, SIZE)
    backend.gate.set()
    assert reader.answer() == content(58)


def test_unused_prefetches_are_evicted(
    backend: RemoteBackend, blocks: RemoteBlocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_blocks, "PREFETCH_BYTES_MAX", 3 * SIZE)
    blocks.prefetch([at(number) for number in range(0, 20, 2)])
    blocks.wait_idle()
    assert blocks.held_blocks == 3
    assert bytes(blocks.read(DATA, 0, [SIZE])) == content(0)


@pytest.mark.parametrize("wrong", [ConnectionResetError("gone"), ValueError("odd"), MemoryError()])
def test_failures_reach_all_who_wait_and_are_forgotten(
    backend: RemoteBackend, blocks: RemoteBlocks, wrong: Exception
) -> None:
    close(backend)
    backend.failure = lambda _key, _offset: wrong
    readers = [Reader(blocks, at(0)) for _ in range(5)]
    backend.wait_for_reads(1)
    backend.gate.set()
    for reader in readers:
        error = reader.answer()
        assert isinstance(error, OSError)
        assert error.errno == errno.EIO
        assert type(wrong).__name__ in str(error)
    backend.failure = lambda _key, _offset: None
    assert Reader(blocks, at(0)).answer() == content(0)
    assert not blocks.pinned_blocks


def test_a_missing_pack_and_a_short_one_are_told_apart(blocks: RemoteBlocks) -> None:
    assert isinstance(Reader(blocks, at(0, "packs/data/00/none.pack")).answer(), MissingKey)
    assert Reader(blocks, Block(DATA, SIZE * COUNT - 10, SIZE)).answer() == content(COUNT - 1)[-10:]


def test_the_event_loop_gets_not_local_with_all_that_is_missing(backend: RemoteBackend, blocks: RemoteBlocks) -> None:
    blocks.serve_from(threading.get_ident())
    with pytest.raises(NotLocal) as caught:
        blocks.require([Extent(DATA, 0, [SIZE, SIZE]), Extent(TREE, 0, [SIZE])])
    assert set(caught.value.blocks) == {at(0), at(1), at(0, TREE)}
    assert not backend.reads
    with blocks.pins() as pins:
        for flight in pins.start(caught.value.blocks):
            assert flight.done.exception(LIMIT_S) is None
        assert bytes(blocks.read(DATA, 0, [SIZE, SIZE])) == content(0) + content(1)
    with pytest.raises(NotLocal):
        blocks.read(DATA, 0, [SIZE])


def test_without_any_thread_requests_fail_and_later_ones_do_not(
    backend: RemoteBackend, blocks: RemoteBlocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        blocks.prefetch([at(4)])
        for _ in range(2):
            with pytest.raises(OSError, match="no thread") as caught:
                blocks.read(DATA, 0, [SIZE])
            assert caught.value.errno == errno.EAGAIN
    assert not backend.reads
    assert bytes(blocks.read(DATA, 0, [SIZE])) == content(0)


def test_a_search_that_is_cancelled_ends_at_once(backend: RemoteBackend, blocks: RemoteBlocks) -> None:
    close(backend)
    ended: list[int | None] = []
    with blocks.pins() as pins:

        def search() -> None:
            with pins.searching():
                try:
                    blocks.read(DATA, 0, [SIZE])
                except OSError as error:
                    ended.append(error.errno)

        thread = threading.Thread(target=search)
        thread.start()
        backend.wait_for_reads(1)
        pins.cancel()
        thread.join(LIMIT_S)
    assert ended == [errno.ECANCELED]


class KeepingBackend(RemoteBackend):
    """A backend with a copy of the first block on this machine."""

    def read_kept(self, key: str, offset: int, size: int) -> Buffer | None:
        return content(0) if (key, offset, size) == at(0) else None


def test_the_event_loop_reads_a_copy_on_this_machine_itself() -> None:
    memory = MemoryBackend()
    memory.put(DATA, bytes(SIZE * COUNT))
    backend = KeepingBackend(memory)
    blocks = RemoteBlocks(backend)
    blocks.serve_from(threading.get_ident())
    blocks.require([Extent(DATA, 0, [SIZE])])
    assert bytes(blocks.read(DATA, 0, [SIZE])) == content(0)
    assert not backend.reads
    with pytest.raises(NotLocal) as missing:
        blocks.require([Extent(DATA, 0, [SIZE, SIZE])])
    assert missing.value.blocks == [at(1)]
    with pytest.raises(NotLocal):
        blocks.read(DATA, 0, [SIZE, SIZE])
