"""Object sinks for tests of what stands on them: one in memory, and one that counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vfs.errors import NotFound
from vfs.model.ids import Buffer, ChunkId, CommitId, NodeId, chunk_id, commit_id, node_id
from vfs.model.nodes import AnyItem, Node, NodeKind, decode_commit, decode_node, encode_commit, encode_node
from vfs.model.objects import Commit
from vfs.store.object_store import ObjectSink


class MemorySink:
    """An ObjectSink of dicts: objects are encoded, hashed and decoded as in a repository, and lie in no pack."""

    def __init__(self) -> None:
        self.objects: dict[bytes, bytes] = {}

    def put_chunk(self, plain: Buffer) -> ChunkId:
        found = chunk_id(plain)
        if found not in self.objects:
            self.objects[found] = bytes(plain)
        return found

    def put_node(self, kind: NodeKind, level: int, items: Sequence[AnyItem]) -> NodeId:
        encoded = encode_node(kind, level, items)
        found = node_id(encoded)
        self.objects[found] = encoded
        return found

    def put_commit(self, commit: Commit) -> CommitId:
        encoded = encode_commit(commit)
        found = commit_id(encoded)
        self.objects[found] = encoded
        return found

    def get_chunk(self, object_id: ChunkId) -> memoryview:
        return memoryview(self._get(object_id))

    def get_node(self, object_id: NodeId) -> Node:
        return decode_node(self._get(object_id))

    def get_commit(self, object_id: CommitId) -> Commit:
        return decode_commit(self._get(object_id))

    def has(self, object_id: bytes) -> bool:
        return object_id in self.objects

    def prefetch(self, object_ids: Iterable[ChunkId]) -> None:
        """Everything is at hand."""

    def start_prefetch(self, object_ids: Sequence[ChunkId]) -> None:
        """Everything is at hand."""

    def _get(self, object_id: bytes) -> bytes:
        if object_id not in self.objects:
            raise NotFound(f"no object {object_id.hex()}")
        return self.objects[object_id]


class CountingSink:
    """Counts what passes on its way to another sink."""

    def __init__(self, inner: ObjectSink) -> None:
        self._inner = inner
        self.nodes_got = 0
        self.nodes_put = 0
        self.chunk_bytes_new = 0

    def reset(self) -> None:
        self.nodes_got = self.nodes_put = self.chunk_bytes_new = 0

    def put_chunk(self, plain: Buffer) -> ChunkId:
        if not self._inner.has(chunk_id(plain)):
            self.chunk_bytes_new += len(plain)
        return self._inner.put_chunk(plain)

    def put_node(self, kind: NodeKind, level: int, items: Sequence[AnyItem]) -> NodeId:
        self.nodes_put += 1
        return self._inner.put_node(kind, level, items)

    def put_commit(self, commit: Commit) -> CommitId:
        return self._inner.put_commit(commit)

    def get_chunk(self, object_id: ChunkId) -> memoryview:
        return self._inner.get_chunk(object_id)

    def get_node(self, object_id: NodeId) -> Node:
        self.nodes_got += 1
        return self._inner.get_node(object_id)

    def get_commit(self, object_id: CommitId) -> Commit:
        return self._inner.get_commit(object_id)

    def has(self, object_id: bytes) -> bool:
        return self._inner.has(object_id)

    def prefetch(self, object_ids: Iterable[ChunkId]) -> None:
        self._inner.prefetch(object_ids)

    def start_prefetch(self, object_ids: Sequence[ChunkId]) -> None:
        self._inner.start_prefetch(object_ids)
