"""A working layer of a live mount as services use it (vfs/control/services.py): what the kernel takes part in.

Services run in worker threads. After one that changed the working layer, the kernel's caches are invalidated from its
worker thread, with no lock held.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from vfs.control.messages import PingResult
from vfs.control.mount_table import MountLocation, is_mounted_at, mount_locations
from vfs.control.run_recorder import RunRecorder
from vfs.control.services import LayerHost
from vfs.errors import Busy, NotFound
from vfs.fuse.inodes import BRANCHES_DIRECTORY
from vfs.fuse.invalidation import drop_caches
from vfs.fuse.mapped_pages import sync_files
from vfs.fuse.working_tree import WorkingTree
from vfs.model.layout import branch_path
from vfs.model.names import join_path
from vfs.overlay.overlay import Overlay
from vfs.overlay.state import Invalidation
from vfs.repo.repository import Repository


class MountedLayer(LayerHost):
    """One working layer of a mount.

    `device` is the mount's `MAJOR:MINOR`. `writers` returns the inodes of an overlay that are open for writing.
    `switch` is Layers.switch.
    """

    def __init__(
        self,
        repository: Repository,
        working: WorkingTree,
        mountpoint: Path,
        device: str,
        writers: Callable[[Overlay], set[int]],
        switch: Callable[[str, Callable[[], bool]], bool],
        recorder: RunRecorder | None = None,
    ) -> None:
        super().__init__(repository, working.overlay.branch)
        self._working = working
        self._mountpoint = mountpoint
        self._device = device
        self._writers = writers
        self._switch = switch
        self._recorder = recorder

    @property
    def overlay(self) -> Overlay:
        """The working layer."""
        return self._working.overlay

    @property
    def recorder(self) -> RunRecorder | None:
        """What records runs in the mount."""
        return self._recorder

    def describe(self) -> PingResult:
        """Returns the mount and the layer's place in it."""
        return PingResult(os.getpid(), self.branch, os.fsencode(self._mountpoint), self._device, self._top())

    def _top(self) -> bytes:
        """Returns the path of the layer's root in the mount."""
        return b"" if self._working.is_root else branch_path(self.branch)

    def switch_root(self, branch: str, change: Callable[[], bool]) -> bool:
        """Shows a branch in the mount's root, if the mount follows the current branch (see LayerHost)."""
        return self._switch(branch, change)

    def release(self) -> None:
        """Makes the kernel forget the layer's inodes, after which the mount closes it. Raises Busy for the root's."""
        if self._working.is_root:
            if is_mounted_at(self._mountpoint, self._device):
                raise Busy(f"the branch {self.branch!r} is mounted at {self._mountpoint}", hint="Unmount it first.")
            raise Busy(
                f"the branch {self.branch!r} was mounted at {self._mountpoint}, and its mount has not ended",
                hint="\n  ".join(("End what still shows it:", *map(str, mount_locations(self._device)))),
            )
        drop_caches([Invalidation(BRANCHES_DIRECTORY, self.branch.encode(), self._working.root)])

    def write_back_mapped_pages(self) -> None:
        """Makes the kernel write what programs changed through shared mappings, and waits for the writes.

        A mapping keeps its file open, so only files that are open for writing matter. `syncfs` does not help: on
        this kind of filesystem it starts the writes and does not wait for them.
        """
        writers = self._writers(self.overlay)
        if not writers:
            return
        places = [MountLocation(self._mountpoint, b"")]
        if not is_mounted_at(self._mountpoint, self._device):
            # Unmounted here, but a container or a bind mount still shows it.
            places = mount_locations(self._device)
        paths = []
        for ino in writers:
            with contextlib.suppress(NotFound):
                path = join_path(self._top(), self.overlay.path_of(ino))
                paths += [found for place in places if (found := place.path_to(path)) is not None][:1]
        sync_files(paths)

    def invalidate(self, stale: Sequence[Invalidation]) -> None:
        """Makes the kernel look up again what a service changed, by the mount's inode numbers."""
        number = self._working.number
        drop_caches(Invalidation(number(parent), name, number(ino) if ino else 0) for parent, name, ino in stale)
