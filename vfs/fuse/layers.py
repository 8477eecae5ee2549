"""The working layers of a writable mount: the one in its root, and others at `@/branches/NAME`, opened on first use.

The branch in the root of a mount that follows the current one changes with it. An open layer belongs to this process:
its lock is held, and its socket answers commands. A layer below `@/branches` is closed when the kernel has forgotten
its directory and everything below it. Until then the kernel may have names in its cache, also absent ones, so no other
process may change the layer.
"""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Callable

import trio
from pyfuse3 import EntryAttributes

from vfs.errors import Busy
from vfs.fuse.background_compaction import compact_in_background
from vfs.fuse.control_server import ControlServer
from vfs.fuse.inodes import BRANCHES_DIRECTORY, ROOT
from vfs.fuse.invalidation import drop_caches
from vfs.fuse.known_inode_count import KnownNames
from vfs.fuse.read_only_tree import ReadOnlyTree
from vfs.fuse.view.branch_directories import BranchDirectories, BranchDirectory
from vfs.fuse.view.root_view import RootView
from vfs.fuse.working_tree import WorkingTree
from vfs.overlay.overlay import Overlay
from vfs.overlay.state import Invalidation
from vfs.repo.repository import Repository

log = logging.getLogger(__name__)

MakeServer = Callable[["Layer", WorkingTree], ControlServer]
"""Makes the control server of a layer."""


class Layer:
    """One branch in a mount: its directory, and its working layer and control server while that is open."""

    def __init__(self, directory: BranchDirectory) -> None:
        self.directory = directory
        self.branch = directory.branch
        self.working: WorkingTree | None = None
        self.control: ControlServer | None = None
        self.is_switch_target = False
        """True while a switch to it is under way."""
        self.changing = trio.Lock()
        """Held while the layer is opened or closed."""

    @property
    def is_needed(self) -> bool:
        """True if the kernel or a client of the socket refers to anything in it."""
        is_known = self.directory.lookups > 0 or (self.working is not None and self.working.known_inodes > 0)
        return is_known or self.is_switch_target or (self.control is not None and self.control.is_connected)

    def opened(self) -> WorkingTree:
        """Returns the working layer, which is open."""
        if self.working is None:
            raise ValueError(f"the working layer of {self.branch} is not open")
        return self.working

    def attach(self, working: WorkingTree, control: ControlServer | None) -> None:
        """Makes an open working layer the one that requests get."""
        self.working, self.control = working, control
        self.directory.overlay = working.overlay

    def detach(self) -> tuple[WorkingTree, ControlServer | None]:
        """Takes the working layer, which is open, from further requests and returns it, still open."""
        working, control = self.opened(), self.control
        self.working = self.control = self.directory.overlay = None
        return working, control


class Layers:
    """The working layers of one mount. Used by the event loop's thread; a method that any thread may call says so.

    `overlay` is the open working layer in the mount's root, which is what `view` shows.
    """

    def __init__(
        self,
        repo: Repository,
        read_only: ReadOnlyTree,
        overlay: Overlay,
        directories: BranchDirectories,
        view: RootView,
    ) -> None:
        self._repo = repo
        self._read_only = read_only
        self._directories = directories
        self._view = view
        self._layers: dict[str, Layer] = {}
        self._nursery: trio.Nursery | None = None
        self._serve: MakeServer | None = None
        self._has_access_lists = False
        self.names = KnownNames()
        self._root = self.layer(overlay.branch)
        self.root = self._working_of(overlay, self._root)
        self._take(self._root, self.root, None)

    def layer(self, branch: str) -> Layer:
        """Returns a branch's layer, open or not, with its directory admitted; the caller holds that."""
        return self._layer(self._directories.directory(branch))

    def _layer(self, directory: BranchDirectory) -> Layer:
        layer = self._layers.get(directory.branch)
        if layer is None:
            layer = self._layers[directory.branch] = Layer(directory)
        return layer

    @property
    def known_inodes(self) -> int:
        """How many inodes of working layers the kernel knows."""
        return self.names.count

    def oldest(self, count: int) -> list[int]:
        """Returns about so many inodes: of each working layer its share, those that the kernel has known longest."""
        found: list[int] = []
        for layer in self._layers.values():
            if layer.working is not None and layer.working.known_inodes:
                found += layer.working.oldest(math.ceil(count * layer.working.known_inodes / self.known_inodes))
        return found

    def enforce_access_lists(self, are_enforced: bool) -> None:
        """Sets, before serving, if the kernel enforces access lists."""
        self._has_access_lists = are_enforced
        self.root.enforce_access_lists(are_enforced)

    # From numbers to layers.

    def find(self, number: int) -> tuple[WorkingTree, int]:
        """Returns the layer of an inode and the overlay's number for it. Raises OSError(ESTALE)."""
        if not self._directories.is_shared:
            return self.root, number
        directory, ino = self._directories.numbers.find(number)
        working = self._layers[directory.branch].working
        if working is None:
            raise OSError(errno.ESTALE, "the working layer of this inode is closed")
        return working, ino

    def at(self, number: int) -> Layer:
        """Returns the branch whose directory has a number. Raises FUSEError(ESTALE)."""
        return self._layer(self._directories.at(number))

    def attributes(self, number: int) -> EntryAttributes:
        """Returns the attributes of a branch's directory; opens nothing. Raises FUSEError(ESTALE)."""
        return self._directories.attributes(self._directories.at(number))

    # Opening and closing.

    async def open(self, layer: Layer) -> WorkingTree:
        """Returns a branch's working layer, opened if it was not. Raises Busy where another process has it."""
        async with layer.changing:
            if layer.working is None:
                overlay = await trio.to_thread.run_sync(self._open, layer.branch)
                working = self._working_of(overlay, layer)
                try:
                    control = await self._listen(layer, working)
                except BaseException:
                    await self._close_overlay(overlay)
                    raise
                self._take(layer, working, control)
                log.info("opened the working layer of %s", layer.branch)
            return layer.opened()

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

    def _working_of(self, overlay: Overlay, layer: Layer) -> WorkingTree:
        return WorkingTree(
            overlay,
            self._read_only,
            layer.directory,
            self._view,
            names=self.names,
            has_access_lists=self._has_access_lists,
        )

    def _take(self, layer: Layer, working: WorkingTree, control: ControlServer | None) -> None:
        """Lets requests use a layer that is open and listens; nothing can fail from here on."""
        layer.attach(working, control)
        if self._directories.share():
            for each in self._layers.values():
                if each.working is not None:
                    each.working.share(self._directories.numbers)

    async def serve(self, nursery: trio.Nursery, make_server: MakeServer) -> None:
        """Starts the control servers of layers that are open or will be; from now on unneeded layers are closed."""
        self._nursery, self._serve = nursery, make_server
        self._root.control = await self._listen(self._root, self.root)

    async def _listen(self, layer: Layer, working: WorkingTree) -> ControlServer | None:
        if self._nursery is None or self._serve is None:
            return None
        control = self._serve(layer, working)
        await self._nursery.start(control.run)
        self._nursery.start_soon(compact_in_background, working.overlay, self._repo.anchor)
        return control

    def close_unneeded(self, layer: Layer) -> None:
        """Closes a layer that is open and no longer needed."""
        if self._nursery is not None and layer is not self._root and layer.working is not None and not layer.is_needed:
            self._nursery.start_soon(self._close, layer)

    def forget(self, number: int, lookups: int) -> None:
        """Decrements the lookup count of a branch's directory. Raises FUSEError(ESTALE)."""
        self.close_unneeded(self._layer(self._directories.forget(number, lookups)))

    def forget_in(self, number: int, lookups: int) -> None:
        """Decrements the lookup count of an inode in a working layer. Raises OSError(ESTALE)."""
        working, ino = self.find(number)
        working.forget(number, ino, lookups)
        if working is not self.root and not working.known_inodes:
            self.close_unneeded(self._layers[working.overlay.branch])

    async def _close(self, layer: Layer) -> None:
        async with layer.changing:
            if layer.working is not None and layer is not self._root and not layer.is_needed:
                await self._close_layer(layer)

    async def _close_layer(self, layer: Layer) -> None:
        """Closes a layer; the caller holds `changing`, and has not awaited since it found the layer not needed.

        Later requests find it closed and wait until it can be opened again: a request that still got it would leave
        the kernel with an open file in a layer that is about to be closed.
        """
        working, control = layer.detach()
        if control is not None:
            with trio.CancelScope(shield=True):
                await control.stop()
        await self._close_overlay(working.overlay)
        log.info("closed the working layer of %s", layer.branch)

    async def _close_overlay(self, overlay: Overlay) -> None:
        """Closes a layer that nothing else refers to; the end of the mount waits for the disk."""
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._close_now, overlay)
        except OSError as error:
            # Its lock is released and its journals are unchanged; the mount's other layers go on.
            log.error("%s: closing the working layer failed: %s", overlay.branch, error)

    # Another branch in the root.

    def switch(self, branch: str, change: Callable[[], bool]) -> bool:
        """Shows another branch in the mount's root, if the mount follows the current one; for a worker thread.

        `change` makes the branch the current one, and returns False if it is already. It is called after the branch's
        working layer was opened, which raises Busy if another process has it; then nothing has changed. On return the
        kernel's caches of the root's names are invalidated.
        """
        if not self._view.follows or branch == self._view.branch:
            return change()
        layer, left = trio.from_thread.run(self._open_for_switch, branch), self.root
        try:
            done = change()
            # Before and after: names may be added until the moment when the root is another branch's.
            names = set(left.overlay.names(ROOT))
            stale = trio.from_thread.run_sync(self._show, layer)
            names.update(left.overlay.names(ROOT))
        finally:
            trio.from_thread.run_sync(self._end_switch, layer)
        drop_caches([*stale, *(Invalidation(ROOT, name, 0) for name in names)])
        return done

    async def _open_for_switch(self, branch: str) -> Layer:
        layer = self.layer(branch)
        layer.is_switch_target = True
        try:
            await self.open(layer)
        except BaseException:
            self._end_switch(layer)
            raise
        return layer

    def _end_switch(self, layer: Layer) -> None:
        layer.is_switch_target = False
        self.close_unneeded(layer)

    def _show(self, layer: Layer) -> list[Invalidation]:
        """Shows an open layer in the root. Returns what the kernel must look up again."""
        left, working = self._root, layer.opened()
        stale = list(self._read_only.invalidations())
        stale += [Invalidation(BRANCHES_DIRECTORY, each.branch.encode(), each.directory.ino) for each in (left, layer)]
        # From now on the branch that leaves is known by the number of its directory, which may have to be made.
        self._directories.directory(left.branch)
        absent = self._view.show(layer.directory.names, working.overlay)
        self._root, self.root = layer, working
        log.info("the root shows the branch %s now", layer.branch)
        return [*stale, *(Invalidation(ROOT, name, 0) for name in absent)]

    @property
    def is_busy(self) -> bool:
        """True while an operation of a command runs or waits to."""
        return any(layer.control is not None and layer.control.is_busy for layer in self._layers.values())

    async def finish(self) -> None:
        """Refuses further operations and returns when the running ones are done."""
        for layer in list(self._layers.values()):
            if layer.control is not None:
                await layer.control.finish()

    def cancel_compactions(self) -> None:
        """Cancels background compactions, so that the end of the mount need not wait for them."""
        for layer in self._layers.values():
            if layer.working is not None:
                layer.working.overlay.compactor.cancel()

    def close(self) -> None:
        """Closes all working layers, the mount's root last. The caller uses them no more."""
        for layer in self._layers.values():
            if layer.working is not None and layer is not self._root:
                self._close_now(layer.working.overlay)
        self._close_now(self.root.overlay)

    def _close_now(self, overlay: Overlay) -> None:
        # Compaction creates and removes files by their paths, where another repository may be by now.
        overlay.close(compacts=self._repo.anchor.is_in_place)


def log_recovery(overlay: Overlay) -> None:
    """Logs what recovery did when a working layer was opened."""
    for words in overlay.recovery.warnings():
        log.warning("%s: %s", overlay.branch, words)
