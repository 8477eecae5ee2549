"""What the mount's root shows: one branch, and its working layer where the mount is writable.

Made before the parts of a mount that ask it. A switch to another branch changes this object alone, and with it the
names, the ranges and the working layer that the root shows.
"""

from __future__ import annotations

from vfs.fuse.view.version_names import Names
from vfs.overlay.overlay import Overlay

ABSENT_MAX = 4096
"""The names that a mount records as absent from its root, at most. The kernel caches no further ones."""


class RootView:
    """The branch in the mount's root. Changed on the event loop; `names` and `overlay` any thread may read.

    `names`: the names of versions, seen from the branch. `overlay`: its working layer, None for a read-only mount.
    `follows`: the root shows the repository's current branch, so `show` may be called.
    """

    def __init__(self, names: Names, overlay: Overlay | None = None, *, follows: bool = False) -> None:
        self.follows = follows
        self._names = names
        self._overlay = overlay
        self._absent: set[bytes] = set()

    @property
    def names(self) -> Names:
        """The names of versions, seen from the branch in the root."""
        return self._names

    @property
    def overlay(self) -> Overlay | None:
        """The working layer in the root; None for a read-only mount."""
        return self._overlay

    @property
    def branch(self) -> str:
        """The branch in the root."""
        return self._names.branch

    def record_absent(self, name: bytes) -> bool:
        """Record that a name is absent from the root. Returns True if the kernel may cache that.

        A switch must invalidate what the kernel has cached, so it may cache only as many names as are recorded here.
        """
        if not self.follows or name in self._absent:
            return True
        if len(self._absent) >= ABSENT_MAX:
            return False
        self._absent.add(name)
        return True

    def show(self, names: Names, overlay: Overlay) -> set[bytes]:
        """Shows another branch. Returns the names that the kernel may have cached as absent from the root."""
        absent, self._absent = self._absent, set()
        self._names, self._overlay = names, overlay
        return absent
