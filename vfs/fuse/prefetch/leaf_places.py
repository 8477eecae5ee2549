"""Where all small files of a directory's leaf lie, given to the native session layer at once.

A program that reads some files of a leaf in no order, as training does that shuffles, mostly reads the others too; to
look all of them up takes 3 microseconds each, and one alone a hundred.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress

from vfs.backend.protocol import MissingKey, OnDisk
from vfs.errors import VfsError
from vfs.fuse.native_leaves import NativeLeaves
from vfs.fuse.view.version_inodes import VersionDirectory, VersionFile
from vfs.model.ids import NodeId
from vfs.model.nodes import AnyItem, Node, NodeKind, decode_node, encode_node
from vfs.model.objects import Entry
from vfs.native.leaf_source import NodeBlock
from vfs.native.session import Found, FoundFile, NativeSession, Prepared
from vfs.store.object_store import ObjectStore
from vfs.store.packs.blocks import ObjectType
from vfs.store.packs.tree_blocks import TreeBlock
from vfs.store.trees.maps import child_node

INDEX_BYTES_MAX = 64 * 1024 * 1024
"""Of an index that is larger, a mount reads only a part into memory, and each look-up may wait for the disk."""
_RUNS_MAX = 65
"""One more than the chunks that a file may have which is read natively."""
_BLOCK_COST_MAX = 256 * 1024
"""A larger block of nodes is left alone: no writer makes one of small files' lists."""
_READS_MAX = 4
"""Where many versions have changed a directory, each list may lie in another block, and one file waits for all."""
_BLOCKS_MAX = 64
_FAILURES_MAX = 4
"""Of a leaf's lists so many blocks are searched, and so many are tried that cannot be read."""
_CHUNKS = bytes((NodeKind.CHUNKS,))


class LeafPlaces:
    """Prepares files whose leaf the native layer keeps. Used by one thread."""

    def __init__(self, store: ObjectStore, native: NativeSession, leaves: NativeLeaves) -> None:
        self._store = store
        self._native = native
        self._leaves = leaves
        self._is_used = store.remote is None and store.index.bytes_used() <= INDEX_BYTES_MAX

    def prepare(self, file: VersionFile, prepared: int) -> bool:
        """Locates the files of a leaf where `prepared` says that it is time; returns whether this one is prepared."""
        directory, position = file.directory.ino, file.position
        if prepared == Prepared.WORTH_LOCATING and self._is_used and self._locate(directory, position, _READS_MAX):
            prepared = self._native.prepare_at(directory, position, file.ino)
        return prepared == Prepared.YES

    def find(self, directory: VersionDirectory, entries: Sequence[tuple[int, Entry]]) -> list[FoundFile]:
        """Returns what is known of files, given with their positions; the places of their leaves are looked up."""
        positions = [position for position, _ in entries]
        while self._is_used:
            found = self._native.find_files(directory.ino, positions)
            missing = next((at for at, file in enumerate(found) if file.found == Found.NOT_LOCATED), None)
            if missing is None or not self._open(directory, *entries[missing]):
                return found
        return []

    def _open(self, directory: VersionDirectory, position: int, entry: Entry) -> bool:
        """Hands over the leaf of a position, located; returns False where it is not kept. Raises NotLocal, Corrupt."""
        if not self._leaves.hand_over(directory, entry.name):
            return False
        # All of them are read next.
        self._locate(directory.ino, position, sys.maxsize)
        return all(file.found != Found.NOT_LOCATED for file in self._native.find_files(directory.ino, [position]))

    def _locate(self, directory: int, position: int, reads_max: int) -> bool:
        with suppress(VfsError, OSError):
            return self._native.locate_leaf(directory, position, _StoredLeaf(self._store, reads_max))
        return False


class _StoredLeaf:
    """The LeafSource of a leaf whose objects a store has.

    Of what is damaged nothing is given: the request that reads the file reports it.
    """

    def __init__(self, store: ObjectStore, reads_max: int) -> None:
        """`reads_max`: how many blocks are read from packs, beside those in memory."""
        self._store = store
        self._reads_left = reads_max
        self._blocks_left = _BLOCKS_MAX
        self._failures = 0
        self._block: TreeBlock | None = None
        self.is_partial = False
        # The descriptors of packs have to stay open until the native layer has its own.
        self._opened: list[OnDisk] = []

    def read_block(self, list_id: bytes) -> NodeBlock | None:
        self._block = None
        if not self._may_read(list_id):
            return None
        try:
            block = self._store.block_of(NodeId(list_id))
        except (VfsError, OSError):
            self._failures += 1
            return None
        if block.cost > _BLOCK_COST_MAX:
            return None
        self._block = block
        ids, ends, plain = block.packed()
        return NodeBlock(ids, ends, len(block.ids), plain, len(plain))

    def _may_read(self, list_id: bytes) -> bool:
        """Counts a block that is read next; returns False if there were too many, or too many of them damaged."""
        if self._failures == _FAILURES_MAX or not self._blocks_left:
            return False
        if not self._store.tree_cache.holds(list_id):
            if not self._reads_left:
                self.is_partial = True
                return False
            self._reads_left -= 1
        self._blocks_left -= 1
        return True

    def read_list(self, list_id: bytes) -> bytes:
        encoded = self._block.get(list_id, ObjectType.NODE) if self._block is not None else None
        with suppress(VfsError, OSError):
            if encoded is not None and encoded[:1] == _CHUNKS:
                return bytes(encoded) if not encoded[1] else self._joined(decode_node(encoded))
        return b""

    def _joined(self, node: Node) -> bytes:
        """Returns a list of two levels, which a few have, as one leaf; nothing for one of more levels."""
        runs: list[AnyItem] = []
        for child in node.children if node.level == 1 else ():
            if len(runs) >= _RUNS_MAX or not self._may_read(child.id):
                return b""
            runs += child_node(self._store, node, child).items
        return encode_node(NodeKind.CHUNKS, 0, runs)

    def find(self, ids: list[bytes]) -> tuple[bytes, Sequence[tuple[int, int]]]:
        store = self._store
        rows, packs = store.index.rows(ids)
        descriptors = []
        for number in packs:
            with suppress(VfsError, MissingKey, OSError):
                on_disk = store.backend.on_disk(store.index.pack_key(number), 0, 0)
                if on_disk is not None:
                    self._opened.append(on_disk)
                    descriptors.append((number, on_disk[0].descriptor))
        return rows, descriptors
