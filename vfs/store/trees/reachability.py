"""Which objects are still reachable: every distinct node is walked once, however many versions share it.

Memory: 25 bytes for each indexed object, whatever the number of versions.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple

from vfs.model.ids import CommitId, NodeId
from vfs.model.nodes import Node, NodeKind
from vfs.model.objects import ChildRef, ChunkRef, Commit, Entry, Form, Kind
from vfs.store.object_store import ObjectSource
from vfs.store.packs.blocks import ObjectType
from vfs.store.packs.index import Index
from vfs.store.packs.pack_file import PackInfo

_HALVES = struct.Struct(">QQ")
"""The first 16 bytes of an id, which identify objects here: a collision in 128 bits is out of reach."""


class PackUse(NamedTuple):
    """What of a pack is in use: objects that the index finds there, those of them that are marked, and their bytes."""

    objects: int
    marked: int
    bytes: int
    bytes_marked: int


class Marks:
    """The objects of an index at one moment, each marked or not; what was indexed later is told apart by `is_known`."""

    def __init__(self, index: Index) -> None:
        self._high = array("Q")
        self._low = array("Q")
        self._packs = array("I")
        self._sizes = array("I")
        unpack = _HALVES.unpack_from
        for object_id, location in index.locations():
            high, low = unpack(object_id)
            self._high.append(high)
            self._low.append(low)
            self._packs.append(location.pack)
            self._sizes.append(location.size)
        self._marked = bytearray(len(self._high))
        self._late: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._marked)

    def mark(self, object_id: bytes) -> bool:
        """Marks an object. Returns True if it was not marked before."""
        at = self._find(object_id)
        if at < 0:
            before = len(self._late)
            self._late.add(object_id)
            return len(self._late) > before
        if self._marked[at]:
            return False
        self._marked[at] = 1
        return True

    def is_marked(self, object_id: bytes) -> bool:
        """True if an object was marked."""
        at = self._find(object_id)
        return bool(self._marked[at]) if at >= 0 else object_id in self._late

    def uses(self) -> dict[int, PackUse]:
        """Returns by pack number what is in use; a pack in which the index finds nothing is not there."""
        found: dict[int, list[int]] = {}
        for pack, size, marked in zip(self._packs, self._sizes, self._marked, strict=True):
            use = found.setdefault(pack, [0, 0, 0, 0])
            use[0] += 1
            use[1] += marked
            use[2] += size
            use[3] += size * marked
        return {pack: PackUse(*use) for pack, use in found.items()}

    def _find(self, object_id: bytes) -> int:
        high, low = _HALVES.unpack_from(object_id)
        at = bisect_left(self._high, high)
        while at < len(self._high) and self._high[at] == high:
            if self._low[at] == low:
                return at
            at += 1
        return -1


class Visits(Marks):
    """Marks that remember by whose number (`visitor`, from 1) each object was marked first."""

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        self.visitor = 1
        self._first = array("I", bytes(4 * len(self)))

    def mark(self, object_id: bytes) -> bool:
        """Marks an object for the visitor. Returns True if no visitor has before."""
        at = self._find(object_id)
        if at < 0:
            return super().mark(object_id)
        if self._first[at]:
            return False
        self._first[at] = self.visitor
        return True

    def start_again(self) -> array[int]:
        """Returns the visitors by object, 0 for none, in the order of `objects`, and forgets them."""
        found, self._first = self._first, array("I", bytes(4 * len(self)))
        self._late.clear()
        return found

    def objects(self) -> Iterator[tuple[int, int]]:
        """Yields each object's (pack number, bytes)."""
        return zip(self._packs, self._sizes, strict=True)


class Marker:
    """Marks what trees, entries and packs lead to. Raises Corrupt for what cannot be read: then it is unknown."""

    def __init__(self, source: ObjectSource, marks: Marks, is_forgotten: Callable[[CommitId], bool]) -> None:
        """`is_forgotten` says of which commits nothing but the record is kept."""
        self._source = source
        self._marks = marks
        self._is_forgotten = is_forgotten

    def commit(self, commit_id: CommitId, commit: Commit) -> None:
        """Marks a commit and, unless it was forgotten, its tree."""
        if self._marks.mark(commit_id) and not self._is_forgotten(commit_id):
            self.entry(commit.root)
            self._walk([commit.links])

    def entry(self, entry: Entry) -> None:
        """Marks what an entry names and everything below it."""
        self._walk(list(self._named_by(entry)))

    def tree(self, root: bytes) -> None:
        """Marks a tree, given its root, which is empty for an empty one."""
        self._walk([root])

    def pack(self, info: PackInfo) -> None:
        """Marks everything that a pack holds, and what its nodes name."""
        for block in info.blocks:
            for stored in block.objects:
                if stored.type == ObjectType.NODE:
                    self._walk([stored.id])
                elif stored.type == ObjectType.COMMIT:
                    self.commit(CommitId(stored.id), self._source.get_commit(CommitId(stored.id)))
                else:
                    self._marks.mark(stored.id)

    def _walk(self, stack: list[bytes]) -> None:
        mark, get_node = self._marks.mark, self._source.get_node
        while stack:
            object_id = stack.pop()
            if object_id and mark(object_id):
                stack.extend(self._below(get_node(NodeId(object_id))))

    def _below(self, node: Node) -> Iterator[bytes]:
        """Yields the nodes to walk from a node; marks the chunks, and the leaves that name nothing."""
        for item in node.items:
            if isinstance(item, ChildRef):
                if node.level == 1 and node.kind in (NodeKind.TINY, NodeKind.LINKS):
                    self._marks.mark(item.id)
                else:
                    yield item.id
            elif isinstance(item, Entry):
                yield from self._named_by(item)
            elif isinstance(item, ChunkRef) and item.id:
                self._marks.mark(item.id)

    def _named_by(self, entry: Entry) -> Iterator[bytes]:
        if entry.kind == Kind.DIR:
            yield entry.content
            yield entry.tiny
        elif entry.kind == Kind.FILE and entry.form == Form.LIST:
            yield entry.content
        elif entry.kind == Kind.FILE and entry.form == Form.CHUNK:
            self._marks.mark(entry.content)
