"""Inodes that are made when somebody looks: directories computed from versions, and links that lead to what moves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from pyfuse3 import EntryAttributes

from vfs.fuse.inodes import DIRECTORY_BITS, LINK_BITS, Inode


class Made(ABC):
    """An inode outside of versions. `key` is what its number is derived from and names it among all of its range."""

    bits: ClassVar[int]

    def __init__(self, key: bytes) -> None:
        self.ino = 0
        self.lookups = 0
        self.key = key

    def same_as(self, other: Inode) -> bool:
        """Whether both are the same, as their keys say."""
        return type(other) is type(self) and self.key == other.key

    @abstractmethod
    def attributes(self) -> EntryAttributes:
        """Returns its attributes as they are now. Raises FUSEError(ENOENT) for what is not there any more."""


class MadeLink(Made):
    """A symbolic link whose target is worked out when it is read."""

    bits = LINK_BITS

    @abstractmethod
    def target(self) -> bytes:
        """Returns where it leads now. Raises FUSEError(ENOENT) where that is nowhere any more."""


class MadeDirectory(Made):
    """A directory whose entries are worked out when they are asked for."""

    bits = DIRECTORY_BITS

    @property
    @abstractmethod
    def lasting(self) -> bool:
        """Whether its names never change, so that the kernel may remember also those that are absent."""

    @abstractmethod
    def child(self, name: bytes) -> tuple[Inode, EntryAttributes] | None:
        """Returns what a name stands for: an inode, admitted and not yet held, and its attributes; None for nothing."""

    @abstractmethod
    def entries(self, after: bytes | None) -> Iterator[tuple[bytes, Any]]:
        """Yields (name, what `listed` takes with it), from the one behind `after` (None: from the start).

        Names come in one order that holds for good.
        """

    @abstractmethod
    def listed(self, name: bytes, item: Any) -> tuple[Inode, EntryAttributes] | None:
        """Returns what `child` would for an entry that was listed just now."""

    def prepare(self) -> None:
        """Does what listing it takes, where that may be long; runs in a worker thread."""
