"""ObjectWriter: puts new objects into packs, in the order that a crash may interrupt anywhere.

Deduplication: an object whose id is in the index, or was put before, is not stored again.

Order, here and nowhere else for objects: data pack durable, then tree pack durable, then both in the index
(docs/durability.md, rules 3 to 5).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from vfs.errors import TooLarge
from vfs.model.ids import Buffer, ChunkId, CommitId, NodeId, chunk_id, commit_id, node_id
from vfs.model.nodes import AnyItem, Node, NodeKind, decode_commit, decode_node, encode_commit, encode_node
from vfs.model.objects import Commit
from vfs.store.object_store import ObjectStore
from vfs.store.packs.blocks import (
    OBJECT_BYTES_MAX,
    Block,
    ObjectType,
    StoredObject,
    encode_chunk_blocks,
)
from vfs.store.packs.pack_file import PackInfo, PackKind
from vfs.store.packs.pack_pipeline import Group, PackPipeline

_SENT_BYTES_MAX = 4 * 1024 * 1024
"""What waits for compression in each pipeline; more than the threads work on gains nothing."""
_TASK_BYTES = 1024 * 1024
"""What a thread is given at once: waking one costs as much as compressing some chunks. Less than this wakes none."""
_THREADS_MAX = 4
_WRITTEN_BLOCKS_MAX = 256
"""Blocks in one system call, which takes 1,024 pieces: two of each block."""
UNINDEXED_OBJECTS_MAX = 65536
"""A transaction writes most pages of the index whatever it adds (ids are random): packs are indexed together."""


class Statistics(msgspec.Struct):
    """What a writer was given and what that cost; `new` counts what was not stored before."""

    objects_put: int = 0
    objects_new: int = 0
    bytes_put: int = 0
    bytes_new: int = 0
    bytes_stored: int = 0
    packs: int = 0


class PreparedBatch(NamedTuple):
    """Chunks hashed and compressed by `prepare_chunks`, ready for the writer's thread.

    `ids` has one id for each buffer, in order. The buffers must never change.
    """

    ids: list[ChunkId]
    blocks: list[Block]
    bytes_put: int


class ObjectWriter:
    """An ObjectSink over a store; a context manager that drops what is not flushed. Several may be open.

    From the first look-up until a ref names what was put, the caller holds the repository's write lock or keeps a sweep
    out in another way (docs/durability.md, G2).
    One thread puts, gets and flushes; `prepare_chunks` may run in any number of others meanwhile. What was put is
    compressed by threads of the writer's own and written in the order in which it was put. It is found by this writer
    at once and by all readers after `flush`, though packs that fill up may be indexed earlier. Memory is bounded by the
    lists of objects of two packs, and some MiB on the way. After an error from `flush`, or from a put that sealed a
    pack, the writer is of no more use (rule 4); after any other OSError (a full disk) the put may be tried again.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._compression = store.compression
        self._data = PackPipeline(PackKind.DATA, store.backend, self._compression)
        self._tree = PackPipeline(PackKind.TREE, store.backend, self._compression)
        self._unindexed: list[PackInfo] = []
        self._threads: ThreadPoolExecutor | None = None
        self.statistics = Statistics()
        self._is_over = False

    def put_chunk(self, plain: Buffer) -> ChunkId:
        """Stores a chunk and returns its id; `plain` is not kept."""
        found = chunk_id(plain)
        self._put(self._data, ObjectType.CHUNK, found, plain)
        return found

    def put_node(self, kind: NodeKind, level: int, items: Sequence[AnyItem]) -> NodeId:
        """Stores a tree node, after everything that it names."""
        encoded = encode_node(kind, level, items)
        found = node_id(encoded)
        self._put(self._tree, ObjectType.NODE, found, encoded)
        return found

    def put_commit(self, commit: Commit) -> CommitId:
        """Stores a commit, after everything that it names."""
        encoded = encode_commit(commit)
        found = commit_id(encoded)
        self._put(self._tree, ObjectType.COMMIT, found, encoded)
        return found

    def prepare_chunks(self, plains: Sequence[Buffer]) -> PreparedBatch:
        """Hashes, deduplicates, groups and compresses chunks; changes nothing, runs in any thread."""
        for plain in plains:
            _check_object(plain)
        ids = list(map(chunk_id, plains))
        fresh = {found: plain for found, plain in zip(ids, plains, strict=True) if not self._data.holds(found)}
        stored_ids = self._store.stored(list(fresh))
        groups: list[tuple[Sequence[StoredObject], Sequence[Buffer]]] = []
        group = Group(PackKind.DATA)
        for found, plain in fresh.items():
            if found in stored_ids:
                continue
            stored = StoredObject(ObjectType.CHUNK, len(plain), found)
            if group.is_too_large(len(plain)):
                groups.append(([stored], [plain]))
            elif group.add(stored, plain):
                groups.append(group.members())
                group = Group(PackKind.DATA)
        if group.pending:
            groups.append(group.members())
        return PreparedBatch(ids, encode_chunk_blocks(groups, self._compression), sum(map(len, plains)))

    def add_prepared(self, batch: PreparedBatch) -> list[ChunkId]:
        """Stores what was prepared and returns the ids of the chunks, in the order they were given."""
        self._check_usable()
        self.statistics.objects_put += len(batch.ids)
        self.statistics.bytes_put += batch.bytes_put
        # Another batch may have stored the same chunks since the preparation.
        fresh = self._data.without_held(batch.blocks)
        self._add_blocks(self._data, fresh)
        self._count_new(list(chain.from_iterable(block.objects for block in fresh)))
        return batch.ids

    def get_chunk(self, object_id: ChunkId) -> memoryview:
        """Returns a chunk's bytes, read-only, whether flushed or not."""
        view = self._data.get(object_id)
        return self._store.get_chunk(object_id) if view is None else view

    def get_node(self, object_id: NodeId) -> Node:
        """Returns a decoded node, whether flushed or not."""
        view = self._tree.get(object_id)
        return self._store.get_node(object_id) if view is None else decode_node(view)

    def get_commit(self, object_id: CommitId) -> Commit:
        """Returns a commit, whether flushed or not."""
        view = self._tree.get(object_id)
        return self._store.get_commit(object_id) if view is None else decode_commit(view)

    def has(self, object_id: bytes) -> bool:
        """Returns True if an object is stored or was put."""
        return self._data.holds(object_id) or self._tree.holds(object_id) or self._store.has(object_id)

    def prefetch(self, object_ids: Iterable[ChunkId]) -> None:
        """Loads stored chunks; those that were only put are in memory."""
        self._store.prefetch(object_ids)

    def start_prefetch(self, object_ids: Sequence[ChunkId]) -> None:
        """Starts to prefetch stored chunks."""
        self._store.start_prefetch(object_ids)

    def flush(self) -> None:
        """Makes everything that was put durable and found by all; the writer can be used further."""
        self._check_usable()
        self._drain(self._data)
        self._drain(self._tree)
        self._seal(self._data, self._tree, is_last=True)

    def abort(self) -> None:
        """Drops what is not flushed and ends the writer; packs that filled up meanwhile stay, unreferenced."""
        self._is_over = True
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=True, cancel_futures=True)
        self._data.abort()
        self._tree.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _put(self, pipeline: PackPipeline, kind: ObjectType, found: bytes, plain: Buffer) -> None:
        self._check_usable()
        _check_object(plain)
        size = len(plain)
        self.statistics.objects_put += 1
        self.statistics.bytes_put += size
        if pipeline.holds(found) or self._store.has(found):
            return
        stored = StoredObject(kind, size, found)
        if pipeline.group.ends_before(plain):
            self._close(pipeline)
        if pipeline.group.add(stored, bytes(plain)):
            self._close(pipeline)
        self._count_new([stored])

    def _close(self, pipeline: PackPipeline) -> None:
        """Ends a pipeline's pending group; has closed ones compressed and writes the oldest, where they are many."""
        pipeline.close_group()
        if pipeline.closed_bytes < _TASK_BYTES:
            return
        if self._threads is None:
            threads = min(len(os.sched_getaffinity(0)), _THREADS_MAX)
            self._threads = ThreadPoolExecutor(threads, thread_name_prefix="compress")
        pipeline.send(self._threads)
        while pipeline.sent_bytes > _SENT_BYTES_MAX:
            self._write_oldest(pipeline)

    def _drain(self, pipeline: PackPipeline) -> None:
        """Writes all that is pending in a pipeline."""
        while pipeline.sent:
            self._write_oldest(pipeline)
        pipeline.close_group()
        while pipeline.closed:
            self._write(pipeline, pipeline.closed[0], pipeline.closed[0].encode(self._compression))
            pipeline.closed_bytes -= pipeline.closed.popleft().memory_bytes

    def _write_oldest(self, pipeline: PackPipeline) -> None:
        groups, blocks = pipeline.sent[0]
        for block in blocks.result()[-len(groups) :]:
            self._write(pipeline, groups[0], block)
            pipeline.sent_bytes -= groups.popleft().memory_bytes
        pipeline.sent.popleft()

    def _write(self, pipeline: PackPipeline, group: Group, block: Block) -> None:
        """Writes a group and removes it from the pipeline."""
        self._add_blocks(pipeline, [block])
        pipeline.forget_group(group)

    def _add_blocks(self, pipeline: PackPipeline, blocks: Sequence[Block]) -> None:
        while blocks:
            added = pipeline.add(blocks[:_WRITTEN_BLOCKS_MAX])
            self.statistics.bytes_stored += sum(block.block_bytes for block in blocks[:added])
            blocks = blocks[added:]
            if added:
                continue
            if pipeline is self._tree:
                # Its nodes name chunks that may not be durable yet: the data goes with it (rule 3).
                self._drain(self._data)
                self._seal(self._data, self._tree)
            else:
                self._seal(self._data)

    def _seal(self, *pipelines: PackPipeline, is_last: bool = False) -> None:
        """Makes the open packs durable, data before tree (rule 3), then found (rule 5), if need be with later ones."""
        # A pack that cannot be sealed is lost, while what was put since may name what it held.
        self._is_over = True
        packs = [info for info in [pipeline.seal() for pipeline in pipelines] if info is not None]
        self.statistics.packs += len(packs)
        self._unindexed += packs
        if is_last or self._data.sealed_objects + self._tree.sealed_objects >= UNINDEXED_OBJECTS_MAX:
            self._store.index.add_packs(self._unindexed)
            self._unindexed = []
            self._data.forget_sealed()
            self._tree.forget_sealed()
        self._is_over = False

    def _check_usable(self) -> None:
        if self._is_over:
            raise ValueError("the writer was aborted or has failed")

    def _count_new(self, objects: Sequence[StoredObject]) -> None:
        self.statistics.objects_new += len(objects)
        self.statistics.bytes_new += sum(stored.size for stored in objects)


def _check_object(plain: Buffer) -> None:
    if len(plain) > OBJECT_BYTES_MAX:
        raise TooLarge(f"an object has {len(plain)} bytes; {OBJECT_BYTES_MAX} is the most")
