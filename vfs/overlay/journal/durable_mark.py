"""The durable mark: a file beside the journals with the position up to which the newest journal is durable.

A missing journal, or an older state of one, shows no damage of its own: only a second file can reveal it. The mark is
written after the bytes are durable, so it never claims too much, and it needs no sync: an older mark claims less.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from typing import TYPE_CHECKING, NamedTuple

from vfs.backend.rooted_path import RootedPath
from vfs.errors import Corrupt
from vfs.overlay.journal.checksums import quick64

if TYPE_CHECKING:
    from vfs.overlay.journal.journal import Journal

MARK_NAME = "durable"
_MAGIC = b"VFSDURA\x01"
_MARK = struct.Struct("<8sQQQ")
_SUM = struct.Struct("<Q")


class Mark(NamedTuple):
    """The journal of `generation` with this `salt` was durable up to `position`."""

    generation: int
    position: int
    salt: int

    def lost_bytes(self, journal: Journal) -> int:
        """Returns how many durable bytes of a journal are missing."""
        is_same = (self.generation, self.salt) == (journal.generation, journal.heading.salt)
        return max(0, self.position - journal.end) if is_same else 0


def read_mark(directory: RootedPath, branch: str) -> Mark | None:
    """Returns the mark of a working layer; None if there is none, or it is damaged or another layer's."""
    try:
        data = (directory / MARK_NAME).read_bytes()
    except (OSError, Corrupt):
        return None
    if len(data) != _MARK.size + _SUM.size or data != _sealed(data[: _MARK.size], branch):
        return None
    magic, generation, position, salt = _MARK.unpack(data[: _MARK.size])
    return Mark(generation, position, salt) if magic == _MAGIC else None


def forget_mark(directory: RootedPath) -> None:
    """Removes the mark, durably; call it before a journal that it may refer to is quarantined."""
    (directory / MARK_NAME).unlink(missing_ok=True)
    directory.sync()


def _sealed(mark: bytes, branch: str) -> bytes:
    return mark + _SUM.pack(quick64(mark + branch.encode()))


class DurableMark:
    """Writes the mark of a working layer.

    The file stays open: a repository that is moved meanwhile keeps its mark, and what takes its place gets none.
    """

    def __init__(self, directory: RootedPath, branch: str) -> None:
        self._path = directory / MARK_NAME
        self._branch = branch
        self._written = (0, 0)
        self._writing = threading.Lock()
        self._descriptor = -1

    def note(self, journal: Journal) -> None:
        """Records up to where a journal is durable. If the disk fails or is full, the older mark stays."""
        with self._writing:
            reached = journal.generation, journal.durable
            if reached <= self._written:
                return
            mark = _MARK.pack(_MAGIC, *reached, journal.heading.salt)
            with contextlib.suppress(OSError, Corrupt):
                os.pwrite(self._opened(), _sealed(mark, self._branch), 0)
                self._written = reached

    def close(self) -> None:
        """Closes the file; idempotent. A later `note` opens it again."""
        with self._writing:
            self._close()

    def _opened(self) -> int:
        if self._descriptor >= 0 and not os.fstat(self._descriptor).st_nlink:
            # The mark was removed: see `forget_mark`.
            self._close()
        if self._descriptor < 0:
            self._descriptor = self._path.open(os.O_WRONLY | os.O_CREAT)
        return self._descriptor

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
