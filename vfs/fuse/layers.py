"""The branches of a writable mount: one working layer in its root, any other at `@/branches/NAME`, opened when needed.

The branch in the root of a mount that follows the current one changes with it. A layer that is open is this process's:
its lock is held, and its socket answers commands. One below `@/branches` is closed again when the kernel has forgotten
its directory and everything below it; until then the kernel may remember names in it, also absent ones, which nobody
else must change.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from typing import Any, cast

import trio
from pyfuse3 import EntryAttributes, FUSEError

from vfs.errors import Busy
from vfs.fuse import attributes
from vfs.fuse.background_compaction import keep_compact
from vfs.fuse.committed import Committed, Placed
from vfs.fuse.control_server import ControlServer
from vfs.fuse.inodes import BRANCH_BITS, BRANCHES_DIRECTORY, ROOT, Inode, InodeTable
from vfs.fuse.invalidation import drop_caches
from vfs.fuse.shared_inode_numbers import SharedNumbers
from vfs.fuse.view.version_names import Names
from vfs.fuse.working_layer import Working
from vfs.overlay.overlay import Overlay
from vfs.overlay.state import Invalidation
from vfs.repo.repository import Repository

log = logging.getLogger(__name__)

_DEPTH = 3
"""How deep `@/branches/NAME` is below the mount's root."""

MakeServer = Callable[["Layer", Working], ControlServer]
"""Puts a layer's socket together."""


class Layer:
    """One branch in a mount: the inode of `@/branches/NAME`, and its working layer while that is open."""

    def __init__(self, branch: str) -> None:
        self.ino = 0
        self.lookups = 0
        self.branch = branch
        self.working: Working | None = None
        self.control: ControlServer | None = None
        self.is_coming = False
        """Whether it is about to be the one in the mount's root."""
        self.changing = trio.Lock()
        """Held while the layer is opened or closed."""

    def same_as(self, other: Inode) -> bool:
        """Whether both are the same branch's directory."""
        return isinstance(other, Layer) and self.branch == other.branch

    @property
    def is_needed(self) -> bool:
        """Whether the kernel, or somebody who asked on the socket, refers to anything in it."""
        is_known = self.lookups > 0 or (self.working is not None and self.working.known_inodes > 0)
        return is_known or self.is_coming or (self.control is not None and self.control.is_talking)


class Layers:
    """The working layers of one mount. Used by the event loop's thread, but for what says otherwise.

    `follows`: the root shows the repository's current branch, whichever that is.
    """

    def __init__(
        self,
        repo: Repository,
        committed: Committed,
        root: Overlay,
        table: InodeTable,
        numbers: SharedNumbers[Working],
        *,
        follows: bool = False,
    ) -> None:
        self._repo = repo
        self._table = table
        self._numbers = numbers
        self._committed = committed
        self._layers: dict[str, Layer] = {}
        self._nursery: trio.Nursery | None = None
        self._serve: MakeServer | None = None
        self.follows = follows
        self.has_access_lists = False
        self.is_shared = False
        """Whether numbers have to be asked whose they are."""
        self._root = self._take(self.layer(root.branch), self._working_of(root, ROOT), None)
        self.root = cast("Working", self._root.working)
        self.root.remembers_absent = follows

    def layer(self, branch: str) -> Layer:
        """Returns a branch's layer, open or not, with its number; it is to be held, or was."""
        layer = self._layers.get(branch)
        if layer is None:
            layer = self._layers[branch] = Layer(branch)
        if not layer.lookups:
            self._table.admit(layer, b"b" + branch.encode(), BRANCH_BITS)
        return layer

    @property
    def root_branch(self) -> str:
        """The branch in the mount's root."""
        return self._root.branch

    @property
    def known_inodes(self) -> int:
        """How many inodes of working layers the kernel knows."""
        return sum(layer.working.known_inodes for layer in self._layers.values() if layer.working is not None)

    def enforce_access_lists(self, are_enforced: bool) -> None:
        """Says, before serving, whether the kernel enforces access lists."""
        self.has_access_lists = self.root.has_access_lists = are_enforced

    # From numbers to layers.

    def find(self, number: int) -> tuple[Working, int]:
        """Returns the layer of an inode and the overlay's number for it. Raises OSError(ESTALE)."""
        return self._numbers.find(number) if self.is_shared else (self.root, number)

    def find_root(self, number: int) -> Working | None:
        """Returns the layer whose directory has a number, None where it is not open. Raises OSError(ESTALE)."""
        return self.at(number).working

    def at(self, number: int) -> Layer:
        """Returns the branch whose directory has a number."""
        layer = self._table.find(number)
        if not isinstance(layer, Layer):
            raise FUSEError(errno.ESTALE)
        return layer

    def place(self, number: int) -> Placed | None:
        """Returns where a directory of a working layer is; None for a number of another kind."""
        if number == ROOT:
            return Placed(self.root.names, 0, b"")
        layer = self._table.find(number)
        if isinstance(layer, Layer):
            return Placed(Names(self._repo.refs, self._repo.store, layer.branch), _DEPTH, b"")
        if layer is not None:
            return None
        working, ino = self.find(number)
        path = working.overlay.path_of(ino)
        depth = 0 if working is self.root else _DEPTH
        return Placed(working.names, depth + path.count(b"/") + 1, path)

    def attributes(self, layer: Any) -> EntryAttributes:
        """Returns the attributes of a branch's directory; where it is not open, those of its newest version."""
        working: Working | None = layer.working
        if working is not None:
            return working.getattr(ROOT)
        head = self._repo.head(layer.branch)
        if head is None:
            return attributes.of_listing(layer.ino, 0, (os.getuid(), os.getgid()))
        return attributes.of_entry(head.commit.root, layer.ino, timeout_s=0)

    # Opening and closing.

    async def open(self, layer: Layer) -> Working:
        """Returns a branch's working layer, opened if it was not. Raises Busy where another process has it."""
        async with layer.changing:
            if layer.working is None:
                overlay = await trio.to_thread.run_sync(self._open, layer.branch)
                working = self._working_of(overlay, layer.ino)
                try:
                    control = await self._listen(layer, working)
                except BaseException:
                    await self._close_overlay(overlay)
                    raise
                self._take(layer, working, control)
                log.info("opened the working layer of %s", layer.branch)
            return cast("Working", layer.working)

    def _open(self, branch: str) -> Overlay:
        self._repo.anchor.require_in_place()
        try:
            overlay = self._repo.open_overlay(branch)
        except Busy as error:
            raise Busy(
                f"the working layer of {branch!r} is in use by another mount or command",
                hint="Unmount it there, or wait for the command.",
            ) from error
        log_recovery(overlay)
        return overlay

    def _working_of(self, overlay: Overlay, root: int) -> Working:
        working = Working(overlay, self._committed, Names(self._repo.refs, self._repo.store, overlay.branch), root)
        working.has_access_lists = self.has_access_lists
        return working

    def _take(self, layer: Layer, working: Working, control: ControlServer | None) -> Layer:
        """Gives requests a layer that is open and listens; nothing can fail from here on."""
        layer.working, layer.control = working, control
        opened = [each.working for each in self._layers.values() if each.working is not None]
        if len(opened) > 1 or self._numbers.has_given:
            self.is_shared = True
            for working in opened:
                working.share(self._numbers)
        return layer

    async def serve(self, nursery: trio.Nursery, make_server: MakeServer) -> None:
        """Lets commands talk to the layers that are open, and to those that will be; layers are closed from now on."""
        self._nursery, self._serve = nursery, make_server
        self._root.control = await self._listen(self._root, self.root)

    async def _listen(self, layer: Layer, working: Working) -> ControlServer | None:
        if self._nursery is None or self._serve is None:
            return None
        control = self._serve(layer, working)
        await self._nursery.start(control.run)
        self._nursery.start_soon(keep_compact, working.overlay, self._repo.anchor)
        return control

    def forgotten(self, layer: Layer) -> None:
        """Closes a layer that nobody needs any more."""
        if self._nursery is not None and layer is not self._root and layer.working is not None and not layer.is_needed:
            self._nursery.start_soon(self._close, layer)

    def forget(self, number: int, lookups: int) -> None:
        """Takes lookups of a branch's directory back."""
        layer = self.at(number)
        self._table.forget(number, lookups)
        self.forgotten(layer)

    def forget_in(self, number: int, lookups: int) -> None:
        """Takes lookups of an inode in a working layer back."""
        working, ino = self.find(number)
        working.forget(number, ino, lookups)
        if working is not self.root and not working.known_inodes:
            self.forgotten(self._layers[working.overlay.branch])

    async def _close(self, layer: Layer) -> None:
        async with layer.changing:
            if layer.working is not None and layer is not self._root and not layer.is_needed:
                await self._let_go(layer)

    async def _let_go(self, layer: Layer) -> None:
        """Closes a layer; the caller holds `changing`, and nothing has been awaited since the layer was not needed.

        Requests that come from now on find it closed and wait until it can be opened again: one that still got it
        would leave the kernel with a file open in a layer that is about to be closed.
        """
        working, control = cast("Working", layer.working), layer.control
        layer.working = layer.control = None
        if control is not None:
            with trio.CancelScope(shield=True):
                await control.stop()
        await self._close_overlay(working.overlay)
        log.info("closed the working layer of %s", layer.branch)

    async def _close_overlay(self, overlay: Overlay) -> None:
        """Closes a layer that nothing else knows any more: the end of the mount waits for the flush of the disk."""
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._close_now, overlay)
        except OSError as error:
            # Its lock is free, and its journals are what they were; the mount's other layers go on.
            log.error("%s: closing the working layer failed: %s", overlay.branch, error)

    # Another branch in the root.

    def switch(self, branch: str, change: Callable[[], bool]) -> bool:
        """Brings another branch to the mount's root, if the mount follows the current one; for a worker thread.

        `change` makes the branch the current one, and returns False where it is already. It is called when the branch's
        working layer is open, which raises Busy where another process has it; then nothing has happened. On return the
        kernel has forgotten what it knew of the root's names.
        """
        if not self.follows or branch == self.root_branch:
            return change()
        layer, left = trio.from_thread.run(self._expect, branch), self.root
        try:
            done = change()
            # Before and after: what is in the root until the moment when it is another branch's.
            names = set(left.overlay.names(ROOT))
            stale = trio.from_thread.run_sync(self._bring, layer)
            names.update(left.overlay.names(ROOT))
        finally:
            trio.from_thread.run_sync(self._arrived, layer)
        drop_caches([*stale, *(Invalidation(ROOT, name, 0) for name in names)])
        return done

    async def _expect(self, branch: str) -> Layer:
        layer = self.layer(branch)
        layer.is_coming = True
        try:
            await self.open(layer)
        except BaseException:
            self._arrived(layer)
            raise
        return layer

    def _arrived(self, layer: Layer) -> None:
        layer.is_coming = False
        self.forgotten(layer)

    def _bring(self, layer: Layer) -> list[Invalidation]:
        """Makes a layer that is open the one in the root; returns names that the kernel must look up again."""
        left, come = self._root, cast("Working", layer.working)
        stale = [*self._committed.names_to_forget(), *(Invalidation(ROOT, name, 0) for name in self.root.absent)]
        stale += [Invalidation(BRANCHES_DIRECTORY, each.branch.encode(), each.ino) for each in (left, layer)]
        self.root.root = self.layer(left.branch).ino
        self.root.remembers_absent = False
        self.root.absent = set()
        come.root = ROOT
        come.remembers_absent = True
        self._root, self.root = layer, come
        self._committed.see_from(come.names)
        log.info("the root shows the branch %s now", layer.branch)
        return stale

    @property
    def is_busy(self) -> bool:
        """Whether an operation of a command is running or waits to."""
        return any(layer.control is not None and layer.control.is_busy for layer in self._layers.values())

    async def finish(self) -> None:
        """Takes no more operations and returns when the running ones are done."""
        for layer in list(self._layers.values()):
            if layer.control is not None:
                await layer.control.finish()

    def call_off_compactions(self) -> None:
        """Ends what layers do on their own, so that nobody waits for it."""
        for layer in self._layers.values():
            if layer.working is not None:
                layer.working.overlay.compactor.cancel()

    def close(self) -> None:
        """Closes all working layers, the mount's root last. Nothing may use them any more."""
        for layer in self._layers.values():
            if layer.working is not None and layer is not self._root:
                self._close_now(layer.working.overlay)
        self._close_now(self.root.overlay)

    def _close_now(self, overlay: Overlay) -> None:
        # Compacting makes and removes files by their paths, where another repository may lie by now.
        overlay.close(compacts=self._repo.anchor.is_in_place)


def log_recovery(overlay: Overlay) -> None:
    """Says what opening a working layer had to make good."""
    for words in overlay.recovery.notices():
        log.warning("%s: %s", overlay.branch, words)
