"""Virtual inodes: directories that are computed from versions on demand, and symbolic links whose target changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from pyfuse3 import EntryAttributes

from vfs.fuse.inodes import LINK_BITS, VIRTUAL_BITS, Inode
from vfs.fuse.view.version_inodes import Held


class VirtualInode(ABC):
    """An inode outside of versions. `key`: its number is derived from it, and no other inode of its range has it."""

    bits: ClassVar[int]

    def __init__(self, key: bytes) -> None:
        self.ino = 0
        self.lookups = 0
        self.key = key

    def same_as(self, other: Inode) -> bool:
        """Returns True if both have the same type and key."""
        return type(other) is type(self) and self.key == other.key

    @abstractmethod
    def attributes(self) -> EntryAttributes:
        """Returns its attributes as they are now. Raises FUSEError(ENOENT) if it no longer exists."""


class VirtualSymlink(VirtualInode):
    """A symbolic link whose target is computed when it is read."""

    bits = LINK_BITS

    @abstractmethod
    def target(self) -> bytes:
        """Returns its target now. Raises FUSEError(ENOENT) if it has none any more."""


class VirtualDirectory(VirtualInode):
    """A directory whose entries are computed when it is listed or a name is looked up."""

    bits = VIRTUAL_BITS

    @property
    @abstractmethod
    def lasting(self) -> bool:
        """True if its names never change, so that the kernel may cache absent names too."""

    @abstractmethod
    def child(self, name: bytes) -> tuple[Held, EntryAttributes] | None:
        """Returns the inode of a name, admitted and not yet held, and its attributes; None if there is no such name."""

    @abstractmethod
    def entries(self, after: bytes | None) -> Iterator[tuple[bytes, Any]]:
        """Yields (name, an item for `listed`), from the first name behind `after` (None: from the start).

        The order of the names never changes.
        """

    @abstractmethod
    def listed(self, name: bytes, item: Any) -> tuple[Held, EntryAttributes] | None:
        """Returns what `child` would for an entry that was listed just now."""

    def prepare(self) -> None:
        """Computes what listing needs, if that may take long; runs in a worker thread."""
