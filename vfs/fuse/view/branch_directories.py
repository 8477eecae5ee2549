"""The directories `@/branches/NAME` of a writable mount, and where in the mount a directory of a working layer is."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from pyfuse3 import EntryAttributes, FUSEError

from vfs.fuse import attributes
from vfs.fuse.inodes import BRANCH_BITS, ROOT, Inode, InodeTable
from vfs.fuse.shared_inode_numbers import RemappedNumbers
from vfs.fuse.view.root_view import RootView
from vfs.fuse.view.version_names import Names
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.overlay.overlay import Overlay
from vfs.store.object_store import ObjectSource
from vfs.store.refs.refs import Refs

DEPTH = 3
"""How deep `@/branches/NAME` is below the mount's root."""


class Placed(NamedTuple):
    """Where a directory is: whose names are found there, how deep below the mount's root, and its path in the data."""

    names: Names
    depth: int
    path: bytes


class BranchDirectory:
    """The inode of `@/branches/NAME`. `overlay` is the branch's working layer while that is open in this mount."""

    def __init__(self, names: Names) -> None:
        self.ino = 0
        self.lookups = 0
        self.names = names
        self.branch = names.branch
        self.overlay: Overlay | None = None

    def same_as(self, other: Inode) -> bool:
        """Returns True if both are the same branch's directory."""
        return isinstance(other, BranchDirectory) and self.branch == other.branch

    def is_root(self, view: RootView) -> bool:
        """Returns True if the mount's root shows the branch."""
        return view.branch == self.branch


class BranchDirectories:
    """The branches of a writable mount by name and by inode number. Used on the event loop.

    `numbers`: which branch's working layer has which inode number, once `share` was called.
    """

    def __init__(
        self,
        refs: Refs,
        source: ObjectSource,
        table: InodeTable,
        numbers: RemappedNumbers[BranchDirectory],
        view: RootView,
    ) -> None:
        self._refs = refs
        self._source = source
        self._table = table
        self._view = view
        self._directories: dict[str, BranchDirectory] = {}
        self.numbers = numbers
        self.is_shared = False
        """True if more than one layer has been open, so that a number alone does not say whose it is."""

    def directory(self, branch: str) -> BranchDirectory:
        """Returns a branch's directory, admitted to the inode table; the caller holds it."""
        directory = self._directories.get(branch)
        if directory is None:
            directory = self._directories[branch] = BranchDirectory(Names(self._refs, self._source, branch))
        if not directory.lookups:
            self._table.admit(directory, b"b" + branch.encode(), BRANCH_BITS)
        return directory

    def at(self, number: int) -> BranchDirectory:
        """Returns the branch whose directory has a number. Raises FUSEError(ESTALE)."""
        directory = self._table.find(number)
        if not isinstance(directory, BranchDirectory):
            raise FUSEError(errno.ESTALE)
        return directory

    def forget(self, number: int, lookups: int) -> BranchDirectory:
        """Decrements the lookup count of a branch's directory and returns it. Raises FUSEError(ESTALE)."""
        directory = self.at(number)
        self._table.forget(number, lookups)
        return directory

    def share(self) -> bool:
        """Returns True if inodes of the open layers need numbers that no two of them share, now and from now on."""
        opened = [directory for directory in self._directories.values() if directory.overlay is not None]
        self.is_shared = self.is_shared or len(opened) > 1 or self.numbers.has_given
        return self.is_shared

    def place(self, number: int) -> Placed | None:
        """Returns where a directory of a working layer is; None for an inode of another kind."""
        inode = self._table.find(number)
        if isinstance(inode, BranchDirectory):
            return Placed(inode.names, DEPTH, b"")
        if inode is not None:
            return None
        directory, ino = self.numbers.find(number) if self.is_shared else (self._directories[self._view.branch], number)
        if directory.overlay is None:
            return None
        path = directory.overlay.path_of(ino)
        depth = 0 if directory.is_root(self._view) else DEPTH
        return Placed(directory.names, depth + path.count(b"/") + 1, path)

    def attributes(self, directory: BranchDirectory) -> EntryAttributes:
        """Returns the attributes of a branch's directory; while it is not open, those of its newest version."""
        if directory.overlay is not None:
            attr = attributes.of_working(directory.overlay.getattr(ROOT_INO))
            attr.st_ino = ROOT if directory.is_root(self._view) else directory.ino
            return attr
        head = directory.names.head()
        if head is None:
            return attributes.of_listing(directory.ino, 0, (os.getuid(), os.getgid()))
        return attributes.of_entry(head.commit.root, directory.ino, timeout_s=0)
