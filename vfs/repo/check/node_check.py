"""The structure of trees, checked: every node, every entry, against everything that must agree with it.

A node is looked at once, however many versions share it; an entry is looked at in the first version that has it. What
is equal to the parent's was found right there. Memory: some 400 bytes for each distinct tree node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, cast

from vfs.errors import Corrupt
from vfs.model.ids import ChunkId, NodeId, chunk_id
from vfs.model.nodes import Item, Node, NodeCutter, NodeKind, leaf_key, sums
from vfs.model.objects import XATTR_BYTES_MAX, ChunkRef, Entry, Form, Kind, TinyItem
from vfs.store.object_store import ObjectStore
from vfs.store.packs.blocks import ObjectType

_ID_RANGE = 1 << 32


class NodeFacts(NamedTuple):
    """What a node's parent needs to know of it.

    `ends`: its last item is one after which nodes end. `hole_bytes`: of a chunk list, how many of its bytes are holes.
    """

    kind: NodeKind
    level: int
    items: int
    files: int
    size: int
    first: bytes
    last: bytes
    ends: bool
    hole_bytes: int = 0


class NodeChecker:
    """Checks trees node by node. `bad` maps the ids of objects that are missing or wrong to the reason, and grows."""

    def __init__(self, store: ObjectStore, bad: dict[bytes, str]) -> None:
        self._store = store
        self.bad = bad
        self.nodes = 0
        self.chunks = 0
        self._facts: dict[bytes, NodeFacts] = {}

    def check_tree(self, kind: NodeKind, root: bytes) -> NodeFacts | None:
        """Checks a tree as far as it was not before; None where something in it is wrong.

        `bad` has the reason, unless the root is a node of another kind (`is_foreign`).
        """
        if not root:
            return NodeFacts(kind, 0, 0, 0, 0, b"", b"", ends=True)
        facts = self._check(kind, None, root)
        if facts is not None and facts.level and len(self._store.get_node(NodeId(root)).items) == 1:
            self._mark_damaged(root, "a root with a single child is not how trees are made")
            return None
        return facts

    def is_foreign(self, kind: NodeKind, root: bytes) -> bool:
        """Returns True if a root is a node of a tree of another kind."""
        facts = self._facts.get(root)
        return facts is not None and facts.kind != kind

    def leaves(self, kind: NodeKind, root: bytes) -> Iterator[Sequence[Item]]:
        """Yields the items of the leaves that can be read, in order."""
        node = self._read(root) if root else None
        if node is None or node.kind != kind:
            return
        if not node.level:
            yield cast("Sequence[Item]", node.items)
            return
        for child in node.children:
            yield from self.leaves(kind, child.id)

    def check_chunk(self, wanted: bytes, size: int) -> bool:
        """Checks that a chunk is indexed with the size that its chunk list has."""
        self.chunks += 1
        if wanted in self.bad:
            return False
        place = self._store.index.lookup(wanted)
        if place is None:
            self._mark_damaged(wanted, "the chunk is missing")
            return False
        if place.type != ObjectType.CHUNK or place.size != size:
            self._mark_damaged(wanted, f"the chunk is not one of {size} bytes")
            return False
        return True

    def _check(self, kind: NodeKind, level: int | None, node_id: bytes) -> NodeFacts | None:
        facts = self._facts.get(node_id)
        if facts is None:
            node = self._read(node_id)
            facts = self._facts_of(node_id, node) if node is not None else None
            if facts is None:
                return None
            self._facts[node_id] = facts
        if facts.kind != kind or (level is not None and facts.level != level):
            # The node may be right for another place; the reference to it is wrong here.
            return None
        return facts

    def _read(self, node_id: bytes) -> Node | None:
        if node_id in self.bad:
            return None
        try:
            return self._store.get_node(NodeId(node_id))
        except Corrupt as error:
            self.bad[node_id] = error.message
            return None

    def _facts_of(self, node_id: bytes, node: Node) -> NodeFacts | None:
        self.nodes += 1
        cutter = NodeCutter(node.kind, node.level)
        ends = [cutter.ends_after(item) for item in node.runs]
        if any(ends[:-1]):
            self._mark_damaged(node_id, "the tree node goes on where its items say that it ends")
            return None
        first = leaf_key(node.items[0])
        holes = 0
        if node.level:
            below = self._check_children(node_id, node)
            if below is None:
                return None
            first = below[0].first
            holes = sum(facts.hole_bytes for facts in below)
        elif node.kind == NodeKind.CHUNKS:
            # All of them, so that each missing one is named.
            found = [self._check_run(item) for item in node.runs]
            if not all(found):
                return None
            ids = [item.id for item in node.runs]
            if any(not left and not right for left, right in pairwise(ids)):
                self._mark_damaged(node_id, "the chunk list has two holes that follow each other")
                return None
            holes = sum(item.size for item in node.runs if not item.id)
        return NodeFacts(node.kind, node.level, *sums(node.items), first, leaf_key(node.items[-1]), ends[-1], holes)

    def _check_run(self, ref: ChunkRef) -> bool:
        if not ref.id:
            return ref.size > 0
        return self.check_chunk(ref.id, ref.size)

    def _check_children(self, node_id: bytes, node: Node) -> list[NodeFacts] | None:
        """Checks a node's children against their references; returns their facts, None for a fault."""
        children = node.children
        facts = [self._check(node.kind, node.level - 1, child.id) for child in children]
        before: NodeFacts | None = None
        checked: list[NodeFacts] = []
        for child, found in zip(children, facts, strict=True):
            if found is None:
                if child.id in self._facts:
                    self._mark_damaged(node_id, "the tree node has a child of another kind or level")
                return None
            said = (child.items, child.files, child.size, child.key)
            if said != (found.items, found.files, found.size, found.last):
                self._mark_damaged(node_id, "the tree node's sums or keys are not those of its children")
                return None
            if before is not None and not before.ends:
                self._mark_damaged(node_id, "the tree node has a child that is too short")
                return None
            if before is not None and node.kind != NodeKind.CHUNKS and before.last >= found.first:
                self._mark_damaged(node_id, "the tree node's children overlap")
                return None
            before = found
            checked.append(found)
        return checked

    def _mark_damaged(self, object_id: bytes, reason: str) -> None:
        self.bad.setdefault(object_id, reason)


def entry_fault(entry: Entry, tiny_bytes_max: int) -> str:
    """Returns the fault of an entry by itself; empty where there is none."""
    if entry.mode & ~0o7777 or not (0 <= entry.uid < _ID_RANGE and 0 <= entry.gid < _ID_RANGE):
        return "its mode or owner is out of range"
    names = [name for name, _ in entry.xattrs]
    if names != sorted(set(names)) or sum(len(name) + len(value) for name, value in entry.xattrs) > XATTR_BYTES_MAX:
        return "its extended attributes are out of order or too large"
    if entry.rdev and entry.kind not in (Kind.CHAR, Kind.BLOCK):
        return "it has a device number and is no device"
    if entry.kind == Kind.DIR:
        return "a directory cannot be a hard link" if entry.linked or entry.form or entry.hole_bytes else ""
    if entry.tiny or entry.files:
        return "it has sums of a directory"
    if entry.kind == Kind.FILE:
        return _file_fault(entry, tiny_bytes_max)
    if entry.form or entry.hole_bytes or entry.size != len(entry.content):
        return "its size is not that of its target"
    return "it has a target and is no symbolic link" if entry.kind != Kind.SYMLINK and entry.content else ""


def _file_fault(entry: Entry, tiny_bytes_max: int) -> str:
    if entry.form == Form.EMPTY:
        return "it is empty and has a size or content" if entry.size or entry.content or entry.hole_bytes else ""
    if len(entry.content) != len(chunk_id(b"")) or entry.size <= 0:
        return "its content has no valid id or size"
    if entry.form == Form.TINY:
        return "it is too large for a tiny file" if entry.size > tiny_bytes_max or entry.hole_bytes else ""
    if entry.size <= tiny_bytes_max and not entry.hole_bytes:
        return "it is a tiny file that is not kept as one"
    if entry.form == Form.CHUNK and entry.hole_bytes:
        return "it is one chunk and has a hole"
    return ""


def tiny_fault(entry: Entry, item: TinyItem | None) -> str:
    """Returns the fault between an entry and the tiny item of its name; empty where they agree."""
    if entry.form != Form.TINY or entry.kind != Kind.FILE:
        return "" if item is None else "its directory keeps tiny bytes for it, and it is no tiny file"
    if item is None:
        return "its bytes are missing from its directory"
    if len(item.data) != entry.size or chunk_id(item.data) != ChunkId(entry.content):
        return "its bytes are not those that it names"
    return ""


def content_fault(checker: NodeChecker, entry: Entry) -> str:
    """Checks where a file's bytes are; returns the fault, empty also where `bad` has it."""
    if entry.form == Form.CHUNK:
        checker.check_chunk(entry.content, entry.size)
        return ""
    if entry.form != Form.LIST:
        return ""
    facts = checker.check_tree(NodeKind.CHUNKS, entry.content)
    if facts is None:
        return "its chunk list is a tree of another kind" if checker.is_foreign(NodeKind.CHUNKS, entry.content) else ""
    if facts.size != entry.size:
        return f"its chunks have {facts.size} bytes together and its entry says {entry.size}"
    # A list of one chunk is kept as the chunk itself; a list of one hole has no other way.
    if facts.items == 1 and not entry.hole_bytes:
        return "it is one chunk that is not kept as one"
    holes = facts.hole_bytes
    return "" if holes == entry.hole_bytes else f"it has {holes} bytes of holes and its entry says {entry.hole_bytes}"
