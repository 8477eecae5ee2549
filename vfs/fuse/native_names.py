"""Names that the native session layer answers: leaves of directories, and attributes of what is in them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from vfs.fuse.inodes import FILE_BITS, InodeTable
from vfs.fuse.native_file_inodes import NativeFiles
from vfs.fuse.native_leaves import NativeLeaves
from vfs.fuse.prefetch.prefetch_policy import PrefetchPolicy
from vfs.fuse.view.version_inodes import VersionDirectory, VersionFile, VersionInodes, encode_entry
from vfs.native.session import NativeSession

Told = Callable[[int, int, bytes], None]
"""Called when the kernel is told of a directory natively, at a name in another."""


class NativeNames:
    """Hands the native layer what it answers from. Used by the event loop's thread.

    No method raises: the request handler meets the same error, and has its error boundary.
    """

    def __init__(
        self,
        table: InodeTable,
        files: NativeFiles[Any],
        leaves: NativeLeaves,
        versions: VersionInodes,
        policy: PrefetchPolicy,
        native: NativeSession,
        told: Told,
    ) -> None:
        self._table = table
        self._leaves = leaves
        self._versions = versions
        self._policy = policy
        self._native = native
        self._told = told
        self.known_files = files.table
        files.table.are_derived(are_derived=table.numbers_are_derived)
        files.table.take_forgets(are_taken=True)
        table.on_first_probe(lambda: files.table.are_derived(are_derived=False))

    def open_leaf(self, directory: int, name: bytes) -> bool:
        """Hands over the leaf that a name belongs in; returns False where the request handler has to answer."""
        with suppress(Exception):
            inode = self._table.find(directory)
            return isinstance(inode, VersionDirectory) and self._leaves.hand_over(inode, name)
        return False

    def open_leaf_at(self, directory: int, position: int) -> int:
        """Does so for the leaf that a position is in; BEHIND if the directory has fewer entries."""
        with suppress(Exception):
            inode = self._table.find(directory)
            return self._leaves.hand_over_at(inode, position) if isinstance(inode, VersionDirectory) else False
        return False

    def admit_directory(self, directory: int, position: int, encoded: bytes) -> int:
        """Counts a look-up of a directory; returns the inode's number, 0 where the request handler has to answer."""
        with suppress(Exception):
            parent = self._table.find(directory)
            if isinstance(parent, VersionDirectory):
                inode = self._versions.admit_directory(parent, position, encoded)
                # It is counted: what fails now must not have it counted again.
                with suppress(Exception):
                    self._told(inode.ino, directory, inode.entry.name)
                return inode.ino
        return 0

    def admitted(self, ino: int, prepared: int) -> None:
        """Has what will be read next prefetched, once the look-up is answered."""
        with suppress(Exception):
            if ino >> FILE_BITS == 1:
                file = self._versions.file(ino)
                if file is not None:
                    self._policy.prepare(file, prepared)
            elif isinstance(inode := self._table.find(ino), VersionDirectory):
                self._policy.entered(inode)

    def find_attributes(self, ino: int) -> bool:
        """Hands over an inode's attributes; returns False where the request handler has to answer."""
        with suppress(Exception):
            inode = self._versions.file(ino) if ino >> FILE_BITS == 1 else self._table.find(ino)
            if isinstance(inode, VersionFile):
                return self._native.keep_attributes(ino, inode.nlink, inode.encoded)
            if isinstance(inode, VersionDirectory):
                return self._native.keep_attributes(ino, inode.nlink, encode_entry(inode.entry))
        return False
