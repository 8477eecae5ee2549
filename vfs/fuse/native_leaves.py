"""Leaves of versions' directories that the native session layer gets: names are looked up and listed from them."""

from __future__ import annotations

from typing import Any

from vfs.fuse.inodes import Inode, InodeTable
from vfs.fuse.native_file_inodes import NativeFiles
from vfs.fuse.view.version_inodes import VersionDirectory
from vfs.native.session import BEHIND, NativeSession
from vfs.store.object_store import ObjectStore
from vfs.store.trees.directories import leaf_at, leaf_of
from vfs.store.trees.maps import EncodedLeaf


class NativeLeaves:
    """Hands over leaves of the directories that the kernel knows. Used by the event loop's thread.

    Methods raise NotLocal, Corrupt.
    """

    def __init__(self, store: ObjectStore, table: InodeTable, files: NativeFiles[Any], native: NativeSession) -> None:
        self._store = store
        self._table = table
        self._files = files
        self._native = native
        table.on_directory_forgotten = self._forgotten

    def hand_over(self, directory: VersionDirectory, name: bytes) -> bool:
        """Hands over the leaf that a name belongs in; returns False if it is not kept."""
        leaf = leaf_of(self._store, directory.entry, name)
        return leaf is not None and self._keep(directory, leaf)

    def hand_over_at(self, directory: VersionDirectory, position: int) -> int:
        """Hands over the leaf that a position is in; returns 0 if it is not kept, BEHIND if none is there."""
        leaf = leaf_at(self._store, directory.entry, position)
        return BEHIND if leaf is None else self._keep(directory, leaf)

    def _keep(self, directory: VersionDirectory, leaf: EncodedLeaf) -> bool:
        # A number that the kernel has forgotten may be given to another directory.
        if self._table.find(directory.ino) is not directory:
            return False
        slot = self._files.hold_directory(directory)
        node = bytes(leaf.encoded)
        return self._native.keep_leaf(directory.ino, slot, leaf.first, directory.prefix, node, is_last=leaf.is_last)

    def _forgotten(self, directory: Inode) -> None:
        self._native.drop_leaves(directory.ino)
        if isinstance(directory, VersionDirectory):
            self._files.release_directory(directory)
