"""Look-ups and attributes that the native session layer answers: leaves of directories, and the counts of look-ups."""

from __future__ import annotations

from contextlib import suppress

from vfs.fuse.inodes import FILE_BITS, InodeTable
from vfs.fuse.prefetch.prefetch_policy import PrefetchPolicy
from vfs.fuse.request_handlers import VfsOperations
from vfs.fuse.view.version_inodes import VersionDirectory, VersionFile, VersionInodes, encode_entry
from vfs.native.session import NativeSession
from vfs.store.object_store import ObjectStore
from vfs.store.trees.directories import leaf_of


class NativeNames:
    """Hands the native layer what it answers from. Used by the event loop's thread.

    No method raises: the request handler meets the same error, and has its error boundary.
    """

    def __init__(
        self,
        store: ObjectStore,
        table: InodeTable,
        versions: VersionInodes,
        policy: PrefetchPolicy,
        native: NativeSession,
        operations: VfsOperations,
    ) -> None:
        self._store = store
        self._table = table
        self._versions = versions
        self._policy = policy
        self._native = native
        self._told = operations.told
        self._admitted: VersionDirectory | VersionFile | None = None

    def open_leaf(self, directory: int, name: bytes) -> bool:
        """Hands over the leaf that a name belongs in; returns False where the request handler has to answer."""
        with suppress(Exception):
            inode = self._table.find(directory)
            if isinstance(inode, VersionDirectory):
                leaf = leaf_of(self._store, inode.entry, name)
                return leaf is not None and self._native.keep_leaf(directory, leaf[0], inode.prefix, bytes(leaf[1]))
        return False

    def admit(self, directory: int, position: int, ino: int, check: int, name: bytes, encoded: bytes) -> int:
        """Counts a look-up; returns the inode's number, 0 where the request handler has to answer."""
        try:
            parent = self._table.find(directory)
            if isinstance(parent, VersionDirectory):
                inode = self._admitted = self._versions.admit_found(parent, position, encoded, ino, check)
                if inode is not None:
                    self._told(inode.ino, directory, name)
                    return inode.ino
        except Exception:  # noqa: BLE001 - the request handler meets the same, and has its error boundary
            self._admitted = None
        return 0

    def admitted(self, prepared: int) -> None:
        """Has what will be read next prefetched, once the look-up is answered."""
        inode, self._admitted = self._admitted, None
        with suppress(Exception):
            if not isinstance(inode, VersionFile):
                if inode is not None:
                    self._policy.entered(inode)
            else:
                self._policy.prepare(inode, prepared)

    def find_attributes(self, ino: int) -> bool:
        """Hands over an inode's attributes; returns False where the request handler has to answer."""
        with suppress(Exception):
            inode = self._versions.file(ino) if ino >> FILE_BITS == 1 else self._table.find(ino)
            if isinstance(inode, VersionFile):
                return self._native.keep_attributes(ino, inode.nlink, inode.encoded)
            if isinstance(inode, VersionDirectory):
                return self._native.keep_attributes(ino, inode.nlink, encode_entry(inode.entry))
        return False
