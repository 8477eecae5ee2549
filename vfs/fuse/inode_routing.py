"""Which part of a mount answers for an inode, an open file or an open directory.

The inode number decides: a `WorkingTree`, which knows the inode by its overlay's number, or the `ReadOnlyTree`. A layer
over a remote store is locked from the first look at it until the handler returns (vfs/fuse/fetching.py).
"""

from __future__ import annotations

import errno
import functools

from pyfuse3 import FUSEError

from vfs.fuse.fetching import Fetching
from vfs.fuse.handles import Handles, OpenDirectory, WorkingFile
from vfs.fuse.inodes import BRANCHES_START, ROOT, WORKING_START
from vfs.fuse.layers import Layers
from vfs.fuse.read_only_tree import ReadOnlyTree
from vfs.fuse.working_tree import WorkingTree
from vfs.native.session import HANDLE
from vfs.overlay.event_loop_lock import LayerBusy

Side = WorkingTree | ReadOnlyTree


class InodeRouting:
    """Finds the part that answers. `layers` is None for a read-only mount."""

    def __init__(self, read_only: ReadOnlyTree, layers: Layers | None, handles: Handles, fetching: Fetching) -> None:
        self._read_only = read_only
        self._layers = layers
        self._handles = handles
        self._fetching = fetching

    def find(self, ino: int) -> tuple[Side, int] | None:
        """Returns the part that answers for an inode, and its number there; None for a branch that is not open yet."""
        layers = self._layers
        if layers is not None:
            if WORKING_START <= ino < BRANCHES_START:
                found = layers.find(ino)
            elif ino == ROOT:
                found = layers.root, ROOT
            elif ino >= BRANCHES_START:
                working = layers.at(ino).working
                if working is None:
                    return None
                found = working, ROOT
            else:
                return self._read_only, ino
            if self._fetching.is_remote:
                self._fetching.hold(found[0].overlay)
            return found
        return self._read_only, ino

    def file(self, fh: int) -> object:
        """Returns an open file; holds the lock of a working layer's."""
        if fh & HANDLE:
            return self._read_only.reader(fh ^ HANDLE)
        handle = self._handles.get(fh)
        if self._fetching.is_remote and isinstance(handle, WorkingFile):
            self._fetching.hold(handle.overlay)
        return handle

    def directory(self, fh: int) -> OpenDirectory:
        """Returns an open directory; holds the lock of a working layer's. Raises FUSEError(ENOTDIR)."""
        directory = self._handles.get(fh)
        if not isinstance(directory, OpenDirectory):
            raise FUSEError(errno.ENOTDIR)
        if self._fetching.is_remote and isinstance(directory.side, WorkingTree):
            self._fetching.hold(directory.side.overlay)
        return directory

    def writable_layers(self) -> Layers:
        """Returns the working layers. Raises FUSEError(EROFS) in a read-only mount."""
        if self._layers is None:
            raise FUSEError(errno.EROFS)
        return self._layers

    async def open_branch(self, ino: int) -> tuple[WorkingTree, int]:
        """Opens the working layer of a branch's directory, and returns the root in it. Raises FUSEError(EROFS)."""
        self._fetching.let_go()
        layers = self.writable_layers()
        return await layers.open(layers.at(ino)), ROOT

    async def writable(self, ino: int) -> tuple[WorkingTree, int]:
        """Returns the working layer that an inode is in, and its number there. Raises FUSEError(EROFS)."""
        side, number = self.find(ino) or await self.open_branch(ino)
        if isinstance(side, WorkingTree):
            return side, number
        raise FUSEError(errno.EROFS)

    async def forget(self, ino: int, lookups: int) -> None:
        """Decrements an inode's lookup count."""
        if self._layers is None or ino < WORKING_START:
            self._read_only.forget(ino, lookups)
        elif ino < BRANCHES_START:
            try:
                self._forget_in(self._layers, ino, lookups)
            except LayerBusy as busy:
                # Also while the mount ends: the kernel forgets each inode once.
                await self._fetching.in_turn(busy.lock, functools.partial(self.forget, ino, lookups))
        else:
            self._layers.forget(ino, lookups)

    def _forget_in(self, layers: Layers, ino: int, lookups: int) -> None:
        try:
            self._fetching.hold(layers.find(ino)[0].overlay)
            layers.forget_in(ino, lookups)
        finally:
            self._fetching.let_go()
