"""File handles: the numbers that `open` and `opendir` return, and the open files and directories behind them."""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vfs.fuse.listings import Listing
from vfs.overlay.overlay import Overlay
from vfs.store.trees.file_reader import FileReader

_READERS_MAX = 64


@dataclass(slots=True)
class WorkingFile:
    """An open file of a working layer; `writes` if it, or a mapping of it, may be written to."""

    overlay: Overlay
    ino: int
    writes: bool


@dataclass(slots=True)
class OpenDirectory:
    """An open directory, and the part of the mount that lists it."""

    side: Any
    listing: Listing[Any, Any]


@dataclass(slots=True)
class VersionReader:
    """An open file of a version; version and path are those of its first lookup."""

    reader: FileReader
    version: str
    path: bytes


class KeptReaders:
    """Readers of files of versions that the kernel reads without having opened them here."""

    def __init__(self) -> None:
        self._readers: OrderedDict[int, VersionReader] = OrderedDict()

    def get(self, ino: int, make: Callable[[], VersionReader]) -> VersionReader:
        """Returns the reader of an inode, made if it is not kept."""
        reader = self._readers.get(ino)
        if reader is None:
            reader = self._readers[ino] = make()
            if len(self._readers) > _READERS_MAX:
                self._readers.popitem(last=False)
        self._readers.move_to_end(ino)
        return reader


class Handles:
    """The open files and directories of a mount, by number."""

    def __init__(self) -> None:
        self._open: dict[int, object] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, handle: object) -> int:
        """Returns a number for a handle; a number is never used again."""
        self._last += 1
        self._open[self._last] = handle
        return self._last

    def continue_after(self, last: int) -> None:
        """Begins with numbers above one that another daemon may have given out."""
        self._last = max(self._last, last)

    def restore(self, fh: int, handle: object) -> None:
        """Puts a handle under the number that another daemon gave it."""
        self._open[fh] = handle

    def writers(self, overlay: Overlay) -> set[int]:
        """Returns the inodes of a working layer that are open for writing; may be called from any thread."""
        return {
            handle.ino
            for handle in list(self._open.values())
            if isinstance(handle, WorkingFile) and handle.writes and handle.overlay is overlay
        }

    def get(self, fh: int) -> object:
        """Returns an open handle. Raises OSError(EBADF)."""
        try:
            return self._open[fh]
        except KeyError:
            raise OSError(errno.EBADF, "no such handle") from None

    def remove(self, fh: int) -> object:
        """Removes a handle and returns it. Raises OSError(EBADF)."""
        try:
            return self._open.pop(fh)
        except KeyError:
            raise OSError(errno.EBADF, "no such handle") from None
