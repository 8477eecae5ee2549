"""Repositories that this process has open: one for each directory, and a new one after a fork."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from weakref import WeakValueDictionary

from vfs.python.hints import hint_text
from vfs.repo.repository import Repository

log = logging.getLogger("vfs")


class SharedRepository:
    """A repository's directory, opened when it is used; a process can open one only once, so all users share it.

    `generation` changes where what was opened before must not be used any more.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self._lock = threading.Lock()
        self._opened: Repository | None = None

    def opened(self) -> Repository:
        """Returns the open repository. Raises NotFound, Unsupported, Corrupt, Busy."""
        opened = self._opened
        if opened is not None:
            return opened
        with self._lock:
            if self._opened is None:
                self._opened = Repository.open(self.path)
                for notice in self._opened.notices:
                    log.warning("%s: %s", self.path, ". ".join(filter(None, (notice.text, hint_text(notice.hint)))))
            return self._opened

    def close(self) -> None:
        """Closes the repository; the next use opens it again."""
        with self._lock:
            opened, self._opened = self._opened, None
            self.generation += 1
        if opened is not None:
            opened.close()

    def forget(self) -> None:
        """Drops, in a forked child, what the parent has open: threads that are not here may have held its locks."""
        self._lock = threading.Lock()
        self._opened = None
        self.generation += 1

    def __del__(self) -> None:
        if getattr(self, "_opened", None) is not None:
            self.close()


_shared: WeakValueDictionary[str, SharedRepository] = WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_repository(path: Path) -> SharedRepository:
    """Returns what this process shares of a repository's directory."""
    name = os.path.realpath(path)
    with _shared_lock:
        found = _shared.get(name)
        if found is None:
            found = _shared[name] = SharedRepository(Path(name))
        return found


def _after_in_child() -> None:
    global _shared_lock  # noqa: PLW0603  The parent's may be held by a thread that is not here.
    _shared_lock = threading.Lock()
    for shared in list(_shared.values()):
        shared.forget()


os.register_at_fork(after_in_child=_after_in_child)
