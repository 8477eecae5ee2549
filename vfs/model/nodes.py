"""Tree nodes: how items are grouped, encoded and checked. One mechanism for directories and chunk lists.

Items stand in order: by name in maps, by position in chunk lists. A leaf ends after an item whose rank is above 0, an
inner node of level L after a child whose rank is above L; the rank comes from the hash of the item's key alone, so a
changed value never moves a boundary and the same items give the same nodes whatever their history. Limits on items
and weight cut what the hash does not, counted from the node's start, which keeps the rule a function of the items.
Layout and reasons: docs/format.md, "Nodes".
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from vfs.errors import Corrupt
from vfs.model.decoding import UNDECODABLE
from vfs.model.ids import ID_BYTES, digest64
from vfs.model.objects import ChildRef, ChunkRef, Commit, Entry, Kind, LinkItem, TinyItem
from vfs.model.validation import children_fault, entries_fault, is_path, links_fault, runs_fault

Item = Entry | TinyItem | ChunkRef | LinkItem
AnyItem = Item | ChildRef
ItemT = TypeVar("ItemT", bound=AnyItem)
MapItem = Entry | TinyItem | LinkItem
MapItemT = TypeVar("MapItemT", bound=MapItem)


class NodeKind(IntEnum):
    """What a tree's leaves hold."""

    ENTRIES = 1
    TINY = 2
    CHUNKS = 3
    LINKS = 4


LEAF_FANOUT = {NodeKind.ENTRIES: 128, NodeKind.TINY: 16, NodeKind.CHUNKS: 256, NodeKind.LINKS: 128}
"""Mean number of items in a leaf."""
INNER_FANOUT = 128
"""Mean number of children of an inner node."""
ITEMS_MAX = 2048
"""A node ends after this many items at the latest."""
WEIGHT_MAX = 256 * 1024
"""A node ends after the item with which its weight reaches this."""
RANK_MAX = 8
"""No item ends more levels than this, so that even a list of equal chunks comes to one root."""
LEVEL_MAX = 24
NODE_BYTES_MIN = 3
NODE_BYTES_MAX = 1024 * 1024
"""No encoded node is larger: WEIGHT_MAX plus the largest single item, with room to spare."""


class Node(NamedTuple):
    """A decoded node; shared between readers, so its items are never changed."""

    kind: NodeKind
    level: int
    items: Sequence[AnyItem]

    @property
    def children(self) -> Sequence[ChildRef]:
        """The items of an inner node: decoding has checked that a level above 0 holds nothing else."""
        return self.items  # type: ignore[return-value]

    @property
    def runs(self) -> Sequence[ChunkRef]:
        """The items of a leaf of a chunk list."""
        return self.items  # type: ignore[return-value]


class MapKind(Generic[MapItemT]):
    """A kind of map by the type of its items, so that functions on maps return that type: ENTRIES, TINY, LINKS."""

    __slots__ = ("node",)

    def __init__(self, node: NodeKind) -> None:
        self.node = node

    def leaf(self, node: Node) -> Sequence[MapItemT]:
        """Returns the items of a leaf of this kind."""
        return node.items  # type: ignore[return-value]


ENTRIES: Final[MapKind[Entry]] = MapKind(NodeKind.ENTRIES)
TINY: Final[MapKind[TinyItem]] = MapKind(NodeKind.TINY)
LINKS: Final[MapKind[LinkItem]] = MapKind(NodeKind.LINKS)


def leaf_key(item: AnyItem) -> bytes:
    """Returns what an item is ranked by (and, in maps, found by)."""
    if isinstance(item, ChunkRef):
        return item.id[:8]
    if isinstance(item, ChildRef):
        return item.key
    return item.name


def weight(item: AnyItem) -> int:
    """Returns an item's share of WEIGHT_MAX: its variable bytes plus 48 for the rest."""
    if isinstance(item, Entry):
        total = 48 + len(item.name) + len(item.content) + len(item.tiny)
        return total + sum(len(name) + len(value) for name, value in item.xattrs) if item.xattrs else total
    if isinstance(item, TinyItem):
        return 48 + len(item.name) + len(item.data)
    if isinstance(item, LinkItem):
        return 48 + len(item.name) + len(item.leader) + sum(map(len, item.members))
    return 80


class NodeCutter:
    """Decides where nodes end, fed with a level's items in order."""

    def __init__(self, kind: NodeKind, level: int) -> None:
        self._is_of_chunks = kind == NodeKind.CHUNKS
        self._every = LEAF_FANOUT[kind] * INNER_FANOUT**level if level < RANK_MAX else 0
        self._items = 0
        self._weight = 0

    def ends_after(self, item: AnyItem) -> bool:
        """Adds an item to the current node. Returns True if the node ends with it; the next one starts anew."""
        self._items += 1
        self._weight += weight(item)
        ends = self._items >= ITEMS_MAX or self._weight >= WEIGHT_MAX or self.ends_by(leaf_key(item))
        if ends:
            self._items = self._weight = 0
        return ends

    def ends_by(self, key: bytes) -> bool:
        """Returns True if the node ends after an item of this key however many are in it: the key's rank is higher."""
        if self._is_of_chunks:
            # A chunk's id is a hash already. Holes have no id and never end a node by themselves.
            return bool(key and self._every) and int.from_bytes(key, "little") % self._every == 0
        return bool(self._every) and digest64(key) % self._every == 0


def cut_nodes(kind: NodeKind, level: int, items: Iterable[ItemT]) -> Iterator[list[ItemT]]:
    """Yields the items of each node of one level; the last group may lack an end."""
    cutter = NodeCutter(kind, level)
    group: list[ItemT] = []
    for item in items:
        group.append(item)
        if cutter.ends_after(item):
            yield group
            group = []
    if group:
        yield group


def sums(items: Iterable[AnyItem]) -> tuple[int, int, int]:
    """Returns (items, files, size) over all leaf items at or below these."""
    count = files = size = 0
    for item in items:
        if isinstance(item, ChildRef):
            count += item.items
            files += item.files
            size += item.size
            continue
        count += 1
        if isinstance(item, Entry):
            if item.kind == Kind.DIR:
                files += item.files
                size += item.size
            else:
                files += 1
                size += item.size if item.kind == Kind.FILE else 0
        elif isinstance(item, ChunkRef):
            size += item.size
        elif isinstance(item, TinyItem):
            size += len(item.data)
    return count, files, size


_key_of_child = operator.attrgetter("key")
_key_of_item = operator.attrgetter("name")
_encode = msgspec.msgpack.Encoder().encode
_LEAF_ITEMS: dict[NodeKind, type[AnyItem]] = {
    NodeKind.ENTRIES: Entry,
    NodeKind.TINY: TinyItem,
    NodeKind.CHUNKS: ChunkRef,
    NodeKind.LINKS: LinkItem,
}


class _Decoders(dict[type[AnyItem], Callable[[memoryview], Sequence[AnyItem]]]):
    """Decoders by the type of a node's items, each made at its first node: short commands decode none."""

    def __missing__(self, item: type[AnyItem]) -> Callable[[memoryview], Sequence[AnyItem]]:
        decode = self[item] = msgspec.msgpack.Decoder(tuple[item, ...]).decode  # type: ignore[valid-type]
        return decode


_DECODERS = _Decoders()
_COMMIT_DECODER = msgspec.msgpack.Decoder(Commit)
_COMMIT_TAG = b"\x01"


def encode_node(kind: NodeKind, level: int, items: Sequence[AnyItem]) -> bytes:
    """Returns a node's canonical bytes: kind, level, then the items as one MessagePack array."""
    return bytes((kind, level)) + _encode(items)


def item_count(encoded: bytes | memoryview) -> int:
    """Returns how many items a node has, which is not decoded: a damaged one has any number."""
    head = encoded[2]
    if head >> 4 == 0x9:
        return head & 0xF
    return int.from_bytes(encoded[3 : 5 if head == 0xDC else 7], "big")


def decode_node(encoded: bytes | memoryview) -> Node:
    """Returns the node, checked as far as one node can be: names, their order and the ranges of all fields.

    Raises Corrupt. An id is always checked on the stored bytes, never on a re-encoding.
    """
    data = memoryview(encoded)
    is_size = NODE_BYTES_MIN <= len(data) <= NODE_BYTES_MAX
    if not is_size or data[0] not in NodeKind._value2member_map_ or data[1] > LEVEL_MAX:
        raise Corrupt("a tree node has no valid head")
    kind, level = NodeKind(data[0]), data[1]
    decode = _DECODERS[ChildRef if level else _LEAF_ITEMS[kind]]
    try:
        items = decode(data[2:])
    except UNDECODABLE as error:
        raise Corrupt(f"a tree node cannot be decoded: {error}") from error
    if not items:
        raise Corrupt("a tree node has no items")
    if kind != NodeKind.CHUNKS:
        keys = list(map(_key_of_child if level else _key_of_item, items))
        _check_order(keys)
        if kind != NodeKind.LINKS:
            _check_names(keys)
        elif not all(map(is_path, keys)):
            raise Corrupt("a tree node holds a path that no file can have")
    node = Node(kind, level, items)
    fault = _fault(node)
    if fault:
        raise Corrupt(f"a tree node holds what cannot be: {fault}")
    return node


def _fault(node: Node) -> str:
    if node.level:
        return children_fault(node.children)
    if node.kind == NodeKind.ENTRIES:
        return entries_fault(ENTRIES.leaf(node))
    if node.kind == NodeKind.CHUNKS:
        return runs_fault(node.runs)
    return links_fault(LINKS.leaf(node)) if node.kind == NodeKind.LINKS else ""


def _check_order(keys: list[bytes]) -> None:
    if not all(map(operator.lt, keys, keys[1:])):
        raise Corrupt("a tree node's names are out of order")


def _check_names(names: list[bytes]) -> None:
    """Refuses names that no directory can hold, so that no layer above meets `..` or a slash."""
    joined = b"\0".join(names)
    if (
        b"/" in joined
        or joined.count(b"\0") != len(names) - 1
        or not names[0]
        or max(map(len, names)) > 255
        or b"." in names
        or b".." in names
    ):
        raise Corrupt("a tree node holds a name that no directory can have")


def encode_commit(commit: Commit) -> bytes:
    """Returns a commit's canonical bytes."""
    return _COMMIT_TAG + _encode(commit)


def decode_commit(encoded: bytes | memoryview) -> Commit:
    """Returns the commit; raises Corrupt."""
    data = bytes(encoded)
    if data[:1] != _COMMIT_TAG:
        raise Corrupt("a commit has no valid head")
    try:
        commit = _COMMIT_DECODER.decode(data[1:])
    except UNDECODABLE as error:
        raise Corrupt(f"a commit cannot be decoded: {error}") from error
    if commit.root.kind != Kind.DIR or commit.root.name or commit.number < 1:
        raise Corrupt("a commit has no directory for its root")
    fault = entries_fault([commit.root])
    if fault or len(commit.links) not in (0, ID_BYTES):
        raise Corrupt(f"a commit holds what cannot be: {fault or 'its link map has no valid id'}")
    return commit
