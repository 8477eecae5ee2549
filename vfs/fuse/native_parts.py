"""The parts of a mount that the native session layer answers from, put together."""

from __future__ import annotations

from vfs.fuse.inodes import CollisionTable, InodeTable
from vfs.fuse.native_file_inodes import NativeFiles
from vfs.fuse.native_leaves import NativeLeaves
from vfs.fuse.native_names import NativeNames, Told
from vfs.fuse.native_reads import NativeReads
from vfs.fuse.prefetch.chunk_places import ChunkPlaces
from vfs.fuse.prefetch.leaf_places import LeafPlaces
from vfs.fuse.prefetch.prefetch_policy import PrefetchPolicy
from vfs.fuse.prefetch.tiny_contents import TinyContents
from vfs.fuse.request_handlers import VfsOperations
from vfs.fuse.view.version_inodes import VersionDirectory, VersionInodes
from vfs.native.session import NativeSession
from vfs.store.object_store import ObjectStore


class NativeParts:
    """The inodes of versions of one mount, and where what the kernel asks of them lies."""

    def __init__(self, native: NativeSession, store: ObjectStore, probed: CollisionTable, *, hash_bits: int) -> None:
        self._native = native
        self.files: NativeFiles[VersionDirectory] = NativeFiles(native)
        self.table = InodeTable(probed, self.files, hash_bits=hash_bits)
        self.versions = VersionInodes(store, self.table, native.find_entry)
        self.leaves = NativeLeaves(store, self.table, self.files, native)
        self.places = ChunkPlaces(store, native.prepare, LeafPlaces(store, native, self.leaves))
        self.contents = TinyContents(store, native.give)

    def reads(self, policy: PrefetchPolicy) -> NativeReads:
        """Returns what tells the layer where files lie."""
        return NativeReads(self.places, self.contents, self.versions, policy, self._native)

    def names(self, policy: PrefetchPolicy, told: Told) -> NativeNames:
        """Returns what hands directories to the layer; `told` is called when the kernel is told of one."""
        return NativeNames(self.table, self.files, self.leaves, self.versions, policy, self._native, told)

    def serve(self, operations: VfsOperations, policy: PrefetchPolicy) -> None:
        """Sets what the layer is to answer from while these handlers serve."""
        operations.native_reads = reads = self.reads(policy)
        operations.drop_places = reads.drop
        operations.native_names = self.names(policy, operations.told)
