"""DryRunSink: gives every object its id and stores none, or in the end only the wanted ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vfs.model.ids import Buffer, ChunkId, CommitId, NodeId, chunk_id, commit_id, node_id
from vfs.model.nodes import AnyItem, Node, NodeKind, encode_commit, encode_node
from vfs.model.objects import ChildRef, Commit, Entry, Form, Kind
from vfs.store.object_store import ObjectSink, ObjectSource


class DryRunSink:
    """An ObjectSink over a source: nodes and commits stay in memory, chunks are hashed and forgotten. One thread."""

    def __init__(self, source: ObjectSource) -> None:
        self._source = source
        self._nodes: dict[bytes, Node] = {}
        self._commits: dict[bytes, Commit] = {}

    def put_chunk(self, plain: Buffer) -> ChunkId:
        """Returns the chunk's id; its bytes can be read only if they are stored already."""
        return chunk_id(plain)

    def put_node(self, kind: NodeKind, level: int, items: Sequence[AnyItem]) -> NodeId:
        """Keeps a node and returns its id."""
        found = node_id(encode_node(kind, level, items))
        self._nodes[found] = Node(kind, level, tuple(items))
        return found

    def put_commit(self, commit: Commit) -> CommitId:
        """Keeps a commit and returns its id."""
        found = commit_id(encode_commit(commit))
        self._commits[found] = commit
        return found

    def get_chunk(self, object_id: ChunkId) -> memoryview:
        """Returns a stored chunk's bytes."""
        return self._source.get_chunk(object_id)

    def get_node(self, object_id: NodeId) -> Node:
        """Returns a node, kept or stored."""
        return self._nodes.get(object_id) or self._source.get_node(object_id)

    def get_commit(self, object_id: CommitId) -> Commit:
        """Returns a commit, kept or stored."""
        return self._commits.get(object_id) or self._source.get_commit(object_id)

    def has(self, object_id: bytes) -> bool:
        """Returns True if an object is kept or stored."""
        return object_id in self._nodes or object_id in self._commits or self._source.has(object_id)

    def prefetch(self, object_ids: Iterable[ChunkId]) -> None:
        """Loads stored chunks; chunks put here are not kept."""
        self._source.prefetch(object_ids)

    def start_prefetch(self, object_ids: Sequence[ChunkId]) -> None:
        """Has stored chunks readied."""
        self._source.start_prefetch(object_ids)

    def store(self, sink: ObjectSink, *roots: bytes) -> None:
        """Puts trees that are kept here into another sink, children first; what the source has is skipped.

        Chunks are not kept here: the caller has put them there already.
        """
        todo = [(root, False) for root in roots]
        while todo:
            found, is_ready = todo.pop()
            node = self._nodes.get(found)
            if node is None or self._source.has(found):
                continue
            if is_ready:
                sink.put_node(node.kind, node.level, node.items)
                continue
            todo.append((found, True))
            todo.extend((child, False) for item in node.items for child in _trees_of(item))


def _trees_of(item: AnyItem) -> tuple[bytes, ...]:
    """Returns the nodes that an item of a node names."""
    if isinstance(item, ChildRef):
        return (item.id,)
    if isinstance(item, Entry):
        if item.kind == Kind.DIR:
            return item.content, item.tiny
        return (item.content,) if item.form == Form.LIST else ()
    return ()
