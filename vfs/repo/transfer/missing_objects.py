"""What of some commits a remote lacks: the walk stops at all that it has, so the cost follows the change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from vfs.model.ids import CommitId, NodeId
from vfs.model.nodes import Node, NodeKind
from vfs.model.objects import ChildRef, ChunkRef, Commit, Entry, Form, Kind
from vfs.repo.transfer.object_set import ObjectSet
from vfs.store.object_store import ObjectSource

Has = Callable[[bytes], bool]


class Missing:
    """Objects that are wanted and not there."""

    def __init__(self, source: ObjectSource, has: Has, is_forgotten: Callable[[CommitId], bool], place: Path) -> None:
        """`has`: of what is there, with all that it names. Of a forgotten commit its record alone is wanted.

        `place`: a directory on the disk that takes what memory should not.
        """
        self._source = source
        self._has = has
        self._is_forgotten = is_forgotten
        self.objects = ObjectSet(place)
        self.commits: list[CommitId] = []

    def add(self, head: CommitId) -> None:
        """Walks a commit and what it comes from. Raises Corrupt, with what cannot be read."""
        stack = [head]
        while stack:
            commit_id = stack.pop()
            if not self._take(commit_id):
                continue
            commit = self._source.get_commit(commit_id)
            self.commits.append(commit_id)
            if not self._is_forgotten(commit_id):
                self._walk([*_named_by(commit.root, self._take), commit.links])
            stack.extend(map(CommitId, commit.parents))

    def add_tree(self, commit: Commit) -> None:
        """Walks the tree of a commit alone."""
        self._walk([*_named_by(commit.root, self._take), commit.links])

    def _take(self, object_id: bytes) -> bool:
        """Takes an object in; returns False for one that is there, or was taken before."""
        return not self._has(object_id) and self.objects.add(object_id)

    def _walk(self, stack: list[bytes]) -> None:
        while stack:
            object_id = stack.pop()
            if object_id and self._take(object_id):
                stack.extend(_below(self._source.get_node(NodeId(object_id)), self._take))


def _below(node: Node, take: Callable[[bytes], bool]) -> Iterator[bytes]:
    """Yields the nodes below a node; takes its chunks, and leaves that name nothing, without reading them."""
    for item in node.items:
        if isinstance(item, ChildRef):
            if node.level == 1 and node.kind in (NodeKind.TINY, NodeKind.LINKS):
                take(item.id)
            else:
                yield item.id
        elif isinstance(item, Entry):
            yield from _named_by(item, take)
        elif isinstance(item, ChunkRef) and item.id:
            take(item.id)


def _named_by(entry: Entry, take: Callable[[bytes], bool]) -> Iterator[bytes]:
    if entry.kind == Kind.DIR:
        yield entry.content
        yield entry.tiny
    elif entry.kind == Kind.FILE and entry.form == Form.LIST:
        yield entry.content
    elif entry.kind == Kind.FILE and entry.form == Form.CHUNK:
        take(entry.content)
