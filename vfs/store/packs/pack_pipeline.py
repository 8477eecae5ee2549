"""PackPipeline: the way of new objects into packs, from a pending group to a sealed pack that is not indexed yet.

A pipeline holds the objects of one kind of packs; ObjectWriter, which owns two of them, decides when each goes a step
further (vfs/store/object_writer.py). At every step an object is found by its id.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from vfs.backend.protocol import ObjectBackend
from vfs.model.ids import Buffer
from vfs.model.nodes import NodeKind
from vfs.store.packs.blocks import BLOCK_OBJECTS_MAX, Block, StoredObject, encode_block, find_object
from vfs.store.packs.compression import Compression
from vfs.store.packs.pack_file import PackInfo, PackKind, PackName, PackWriter, PlacedBlock

_OBJECT_BYTES = 300
"""What an object takes in memory beside its bytes."""
NODE_GROUP_BYTES = 192 * 1024
"""What a block of nodes without ids has at most, unless one object has more: a directory of a hundred tiny files."""
_NODE_GROUP_BYTES_MIN = 64 * 1024
_TINY_LEAF = bytes((NodeKind.TINY, 0))


class Group:
    """Small objects that wait to become one block."""

    def __init__(self, kind: PackKind) -> None:
        self.pending: dict[bytes, tuple[StoredObject, Buffer]] = {}
        self.size = 0
        self._size_wanted = kind.group_bytes
        self._is_tree = kind is PackKind.TREE

    def is_too_large(self, size: int) -> bool:
        """Returns True if an object is better off in a block of its own."""
        if size < self._size_wanted // 2:
            return False
        # A large node ends its group: what waits there is mostly of the same directory, and read with it.
        return not (self._is_tree and self.pending and self.size + size <= self._size_wanted)

    def ends_before(self, plain: Buffer) -> bool:
        """Returns True if the group is to become a block before an object is added."""
        # A node must not reach the disk before its children, which may still wait in the group (rule 3).
        return self.is_too_large(len(plain))

    def add(self, stored: StoredObject, plain: Buffer) -> bool:
        """Adds an object. Returns True if the group is now worth a block."""
        self.pending[stored.id] = (stored, plain)
        self.size += stored.size
        ends = stored.size >= self._size_wanted // 2
        return ends or self.size >= self._size_wanted or len(self.pending) >= BLOCK_OBJECTS_MAX

    @property
    def memory_bytes(self) -> int:
        """What the group holds in memory, about."""
        return self.size + _OBJECT_BYTES * len(self.pending)

    def members(self) -> tuple[list[StoredObject], list[Buffer]]:
        """Returns the objects, and the bytes of each."""
        members = self.pending.values()
        return [stored for stored, _ in members], [plain for _, plain in members]

    def encode(self, compression: Compression) -> Block:
        """Returns the group as a block."""
        return encode_block(*self.members(), compression)


class DirectoryGroup(Group):
    """Nodes that wait to become a block without ids: whole directories, whose entries name tiny files before them."""

    def __init__(self) -> None:
        super().__init__(PackKind.TREE)
        self._is_behind_leaf = False

    def ends_before(self, plain: Buffer) -> bool:
        """Returns True before the next directory, or if there is no room."""
        is_next = bytes(plain[:2]) == _TINY_LEAF and not self._is_behind_leaf
        return (is_next and self.size >= _NODE_GROUP_BYTES_MIN) or self.size + len(plain) > NODE_GROUP_BYTES

    def add(self, stored: StoredObject, plain: Buffer) -> bool:
        """Adds an object. Returns True if there is no room for another one."""
        self.pending[stored.id] = (stored, plain)
        self.size += stored.size
        self._is_behind_leaf = bytes(plain[:2]) == _TINY_LEAF
        return self.size >= NODE_GROUP_BYTES or len(self.pending) >= BLOCK_OBJECTS_MAX


class PackPipeline:
    """The new objects of one kind of packs: pending group, closed groups, groups being compressed, packs.

    `holds` is asked by other threads too. An object goes the way from the first of these to the last, then into the
    index, and is found in the next one before it leaves one; so a look-up in this order finds it.
    """

    def __init__(self, kind: PackKind, backend: ObjectBackend, compression: Compression) -> None:
        self.kind = kind
        self._backend = backend
        self._compression = compression
        self._pack: PackWriter | None = None
        self._placed: dict[bytes, PlacedBlock] = {}
        self._sealed: dict[bytes, tuple[PackName, PlacedBlock]] = {}
        self._group_of: dict[bytes, Group] = {}
        self.sent: deque[tuple[deque[Group], Future[list[Block]]]] = deque()
        self.sent_bytes = 0
        self.closed: deque[Group] = deque()
        self.closed_bytes = 0
        self.group = self._new_group()

    def holds(self, object_id: bytes) -> bool:
        """Returns True if an object is in the pipeline."""
        return (
            object_id in self.group.pending
            or object_id in self._group_of
            or object_id in self._placed
            or object_id in self._sealed
        )

    def without_held(self, blocks: Sequence[Block]) -> list[Block]:
        """Returns the blocks with an object that is not in the pipeline."""
        places = (self.group.pending, self._group_of, self._placed, self._sealed)
        known = [place for place in places if place]
        return [
            block for block in blocks if not all(any(each.id in place for place in known) for each in block.objects)
        ]

    def get(self, object_id: bytes) -> memoryview | None:
        """Returns the bytes of an object in the pipeline, read-only; None for another."""
        group = self._group_of.get(object_id, self.group)
        waiting = group.pending.get(object_id)
        if waiting is not None:
            return memoryview(waiting[1]).toreadonly()
        placed = self._placed.get(object_id)
        if placed is not None and self._pack is not None:
            return find_object(self._pack.read(placed), object_id, "an unfinished pack", self._compression)
        sealed = self._sealed.get(object_id)
        if sealed is None:
            return None
        key, (offset, block_bytes, _) = sealed[0].key, sealed[1]
        return find_object(self._backend.read_range(key, offset, block_bytes), object_id, key, self._compression)

    def _new_group(self) -> Group:
        is_of_directories = self.kind is PackKind.TREE and self._compression.node_blocks
        return DirectoryGroup() if is_of_directories else Group(self.kind)

    def close_group(self) -> None:
        """Ends the pending group, if it has any object."""
        group = self.group
        if group.pending:
            self.closed.append(group)
            self.closed_bytes += group.memory_bytes
            self._group_of.update(dict.fromkeys(group.pending, group))
            self.group = self._new_group()

    def send(self, threads: ThreadPoolExecutor) -> None:
        """Has the closed groups compressed by another thread."""
        groups, self.closed = self.closed, deque()
        self.sent.append((groups, threads.submit(_encode, list(groups), self._compression)))
        self.sent_bytes += self.closed_bytes
        self.closed_bytes = 0

    def forget_group(self, group: Group) -> None:
        """Drops a group that is in the pack by now."""
        for object_id in group.pending:
            del self._group_of[object_id]

    def add(self, blocks: Sequence[Block]) -> int:
        """Appends those of the blocks, from the first on, that the open pack has room for; returns how many.

        After an OSError the pipeline is as before.
        """
        if self._pack is None:
            self._pack = PackWriter(self._backend, self.kind)
        count = self._pack.fitting(blocks)
        if count:
            for placed in self._pack.add(*blocks[:count]):
                for stored in placed.objects:
                    self._placed[stored.id] = placed
        return count

    def seal(self) -> PackInfo | None:
        """Makes the open pack durable; its objects stay known until `forget_sealed`, when the index knows them."""
        pack, self._pack = self._pack, None
        if pack is None:
            return None
        info = pack.seal()
        self._sealed.update((object_id, (info.name, placed)) for object_id, placed in self._placed.items())
        self._placed = {}
        return info

    @property
    def sealed_objects(self) -> int:
        """How many objects of sealed packs the index does not know yet."""
        return len(self._sealed)

    def forget_sealed(self) -> None:
        """Drops the objects of sealed packs, which are indexed by now."""
        self._sealed = {}

    def abort(self) -> None:
        """Drops everything; packs that are sealed stay."""
        pack, self._pack = self._pack, None
        if pack is not None:
            pack.abort()
        self._placed, self._sealed, self._group_of, self.group = {}, {}, {}, self._new_group()
        self.sent.clear()
        self.closed.clear()
        self.sent_bytes = self.closed_bytes = 0


def _encode(groups: Sequence[Group], compression: Compression) -> list[Block]:
    return [group.encode(compression) for group in groups]
