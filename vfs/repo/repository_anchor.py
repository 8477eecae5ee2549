"""Detects that a repository was moved: it is not where it was opened any more.

A daemon finds packs and journals by the repository's path. What is at that path after a move is nothing, or another
repository, in which nothing of this one may be written.
"""

from __future__ import annotations

import os
from pathlib import Path

from vfs.errors import Advice, Conflict, Hint
from vfs.model.names import show_path


class Moved(Conflict):
    """A repository is not where it was when it was opened, or mounted."""

    code = "moved"


class Anchor:
    """A repository's directory, identified also after it was renamed."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        self._descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.identity = _identity(os.fstat(self._descriptor))

    @property
    def is_in_place(self) -> bool:
        """Returns True if the path still leads to it."""
        return identity_of(self._path) == self.identity

    def require_in_place(self) -> None:
        """Raises Moved where the path leads to something else now."""
        if self.is_in_place:
            return
        where = os.fsencode(os.readlink(f"/proc/self/fd/{self._descriptor}"))
        gone = where.endswith(b" (deleted)")
        raise moved(self._path, "was removed" if gone else f"was moved to {show_path(where)}")

    def close(self) -> None:
        """Closes the directory; does nothing the second time."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def identity_of(path: Path) -> bytes:
    """Returns a directory's identity, which does not depend on its path; empty where there is none."""
    try:
        return _identity(os.stat(path))
    except OSError:
        return b""


def _identity(status: os.stat_result) -> bytes:
    return b"%d:%d" % (status.st_dev, status.st_ino)


def moved(path: Path, what: str) -> Moved:
    """Returns the error for a repository that was mounted at a path and is not there."""
    return Moved(
        f"the repository {show_path(os.fsencode(path))} {what} while it was mounted",
        hint=Hint(Advice.MOVE_IT_BACK),
    )
