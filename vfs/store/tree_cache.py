"""TreeCache: blocks of nodes and commits, bounded by their bytes, with eviction of the least recently used."""

from __future__ import annotations

import threading
from collections import OrderedDict

from vfs.store.packs.tree_blocks import TreeBlock


class TreeCache:
    """Finds the block that has an object; thread-safe, and never locked while an object is checked.

    A block is evicted whole, since its objects share memory.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_held = 0
        self._block_of: dict[bytes, TreeBlock] = {}
        self._blocks: OrderedDict[TreeBlock, None] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, object_id: bytes, kind: int) -> memoryview | None:
        """Returns an object of a type, checked, and marks its block as used; None if it is not there, or damaged."""
        block = self.block_of(object_id)
        return None if block is None else block.get(object_id, kind)

    def block_of(self, object_id: bytes) -> TreeBlock | None:
        """Returns the block that has an object, which may be damaged, and marks it as used; None if it is not there."""
        with self._lock:
            block = self._block_of.get(object_id)
            if block is not None:
                self._blocks.move_to_end(block)
        return block

    def holds(self, object_id: bytes) -> bool:
        """Returns True if an object is there, without marking it as used."""
        return object_id in self._block_of

    def put(self, block: TreeBlock) -> None:
        """Caches a block; not if it is larger than the whole cache."""
        if block.cost > self.bytes_max:
            return
        found = dict.fromkeys(block.ids, block)
        with self._lock:
            self._block_of.update(found)
            self._blocks[block] = None
            self.bytes_held += block.cost
            while self.bytes_held > self.bytes_max:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        block, _ = self._blocks.popitem(last=False)
        self.bytes_held -= block.cost
        for object_id in block.ids:
            # A later block may have the same object, or this one it twice.
            if self._block_of.get(object_id) is block:
                del self._block_of[object_id]

    def clear(self) -> None:
        """Evicts everything."""
        with self._lock:
            self._block_of.clear()
            self._blocks.clear()
            self.bytes_held = 0
