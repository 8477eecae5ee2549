"""Walking a directory to import, side by side with the version that it is compared with.

Everything is reached through open directories, never through paths, so that a link put in the way while the walk goes
on leads nowhere. A directory's own files come before its subdirectories: neighbours are read, and stored, together.
What the ignore rules name is left out, unless the compared version has it (vfs/repo/ignore_rules.py).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from vfs.backend.durable import read_at
from vfs.errors import VfsError
from vfs.model.ids import NodeId
from vfs.model.layout import is_marked
from vfs.model.names import join_path
from vfs.model.objects import Entry, Kind
from vfs.repo.file_metadata import Xattrs, entry_from_status, read_xattrs
from vfs.repo.ignore_rules import RULES_NAME, Rules, check_size
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import Directory, entries

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK
_OPEN_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


class Problem(NamedTuple):
    """A path that could not be imported, and why."""

    path: bytes
    reason: str


class SourceDirectory:
    """A directory being imported. `base` is its entry in the version compared with; None where that has none.

    `edits` collects what differs from `base`, as `edit_directory` takes it. `pending` counts files that are still
    being read through `descriptor`, which the importer closes. `rules` hold inside; where the directory is ignored
    itself (`is_ignored`) everything in it is.
    """

    __slots__ = (
        "base",
        "descriptor",
        "edits",
        "is_ignored",
        "name",
        "parent",
        "path",
        "pending",
        "rules",
        "status",
        "stored",
        "xattrs",
    )

    def __init__(
        self, descriptor: int, path: bytes, name: bytes, parent: SourceDirectory | None, base: Entry | None
    ) -> None:
        self.descriptor = descriptor
        self.path = path
        self.name = name
        self.parent = parent
        self.base = base
        # Its stored contents: those of `base` until an edit.
        self.stored: Entry | None = base
        self.status = os.fstat(descriptor)
        self.xattrs: Xattrs = read_xattrs(descriptor)
        self.edits: dict[bytes, tuple[Entry, bytes] | None] = {}
        self.pending = 0
        self.rules: Rules = parent.rules if parent is not None else Rules()
        self.is_ignored: bool = parent is not None and parent.is_ignored

    def store(self, contents: Directory) -> None:
        """Replaces its contents by what was stored, and drops the edits that led to it."""
        self.stored = self._entry(contents)
        self.edits = {}

    def entry(self) -> Entry:
        """Returns the directory's entry with its stored contents."""
        stored = self.stored
        if stored is None:
            return self._entry(Directory(NodeId(b""), NodeId(b""), 0, 0))
        return self._entry(Directory(NodeId(stored.content), NodeId(stored.tiny), stored.files, stored.size))

    def _entry(self, contents: Directory) -> Entry:
        entry = entry_from_status(self.name, self.status, self.xattrs)
        return msgspec.structs.replace(
            entry, content=contents.content, tiny=contents.tiny, files=contents.files, size=contents.size
        )

    def close(self) -> None:
        """Closes the descriptor; does nothing the second time."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Found(NamedTuple):
    """Anything but a directory; `base` is what the compared version has under the name."""

    directory: SourceDirectory
    name: bytes
    status: os.stat_result
    base: Entry | None


class Left(NamedTuple):
    """All events of a directory and of those below it have come."""

    directory: SourceDirectory


class Scan:
    """One walk. `problems` grows while it goes on; `excluded` has the repository's paths, which are left out.

    `rules` hold in the root, which stands at the path `at` of the version; `ignored` counts the names that they left
    out.
    """

    def __init__(
        self,
        root: Path,
        repository: Path,
        source: ObjectSource,
        base: Entry | None,
        rules: Rules | None = None,
        at: bytes = b"",
    ) -> None:
        self._root = root
        self._rules = rules if rules is not None else Rules()
        self._at = at
        self.ignored = 0
        self._source = source
        self._base = base
        status = repository.stat()
        self._repository = (status.st_dev, status.st_ino)
        self.problems: list[Problem] = []
        self.excluded: list[bytes] = []

    def events(self) -> Iterator[Found | Left]:
        """Yields Found for each file and Left for each directory, the root's last; removed names go to `edits`."""
        top = SourceDirectory(os.open(self._root, _OPEN), b"", b"", None, self._base)
        top.rules = self._rules
        subdirectories: list[tuple[bytes, Entry | None]] = []
        stack: list[tuple[SourceDirectory, Iterator[tuple[bytes, Entry | None]]]] = []
        try:
            yield from self._files(top, subdirectories)
            stack.append((top, iter(subdirectories)))
            while stack:
                directory, rest = stack[-1]
                following = next(rest, None)
                if following is None:
                    stack.pop()
                    yield Left(directory)
                    continue
                child = self._open(directory, *following)
                if child is None:
                    self._drop(directory, *following)
                    continue
                subdirectories = []
                stack.append((child, iter(())))
                yield from self._files(child, subdirectories)
                stack[-1] = (child, iter(subdirectories))
        finally:
            for directory, _ in stack:
                directory.close()

    def _open(self, parent: SourceDirectory, name: bytes, base: Entry | None) -> SourceDirectory | None:
        path = join_path(parent.path, name)
        try:
            descriptor = os.open(name, _OPEN | os.O_NOFOLLOW, dir_fd=parent.descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.problems.append(problem_of(path, error))
            return None
        try:
            old = base if base is not None and base.kind == Kind.DIR else None
            directory = SourceDirectory(descriptor, path, name, parent, old)
        except (OSError, VfsError) as error:
            os.close(descriptor)
            self.problems.append(problem_of(path, error))
            return None
        if (directory.status.st_dev, directory.status.st_ino) == self._repository:
            directory.close()
            self.excluded.append(path)
            return None
        directory.is_ignored |= self._is_ignored(parent, name, is_directory=True)
        return directory

    def _files(self, directory: SourceDirectory, subdirectories: list[tuple[bytes, Entry | None]]) -> Iterator[Found]:
        """Yields a directory's entries; adds its directories to `subdirectories` instead."""
        old = _Lookahead(self._source, directory)
        try:
            names = sorted(map(os.fsencode, os.listdir(directory.descriptor)))
        except OSError as error:
            self.problems.append(problem_of(directory.path, error))
            names = []
        self._take_rules(directory, names)
        for name in names:
            base = old.find(name)
            try:
                status = os.stat(name, dir_fd=directory.descriptor, follow_symlinks=False)
            except OSError as error:
                if not isinstance(error, FileNotFoundError):
                    self.problems.append(problem_of(join_path(directory.path, name), error))
                self._drop(directory, name, base)
                continue
            is_directory = stat.S_ISDIR(status.st_mode)
            is_versioned = base is not None and (base.kind == Kind.DIR) == is_directory
            if not is_versioned and self._is_ignored(directory, name, is_directory=is_directory):
                self.ignored += 1
                self._drop(directory, name, base)
            elif is_marked(name) and not (self._at or directory.parent):
                self.problems.append(Problem(name, "names that start with @ mean versions in the root of a mount"))
                self._drop(directory, name, base)
            elif is_directory:
                subdirectories.append((name, base))
            else:
                yield Found(directory, name, status, base)
        old.drop_rest()

    def _take_rules(self, directory: SourceDirectory, names: list[bytes]) -> None:
        """Adds the patterns of a directory's own `.vfsignore` to the rules inside it."""
        if not directory.rules.reads_files or RULES_NAME not in names:
            return
        path = join_path(directory.path, RULES_NAME)
        try:
            descriptor = os.open(RULES_NAME, _OPEN_FILE, dir_fd=directory.descriptor)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    return
                check_size(path, status.st_size)
                text = read_at(descriptor, 0, status.st_size)
            finally:
                os.close(descriptor)
        except (OSError, VfsError) as error:
            # As in git, a symbolic link is no file of rules.
            if not (isinstance(error, OSError) and error.errno in (errno.ELOOP, errno.ENOENT)):
                self.problems.append(problem_of(path, error))
            return
        directory.rules = directory.rules.inside(self._place(directory), text)

    def _is_ignored(self, directory: SourceDirectory, name: bytes, *, is_directory: bool) -> bool:
        if directory.is_ignored:
            return True
        rules = directory.rules
        # Asked for each file of a large directory: the path is put together where it matters.
        return not rules.is_empty and rules.ignores(self._place(directory), name, is_directory=is_directory)

    def _place(self, directory: SourceDirectory) -> bytes:
        """Returns where a directory stands in the version."""
        return join_path(self._at, directory.path) if directory.path else self._at

    def _drop(self, directory: SourceDirectory, name: bytes, base: Entry | None) -> None:
        if base is not None:
            directory.edits[name] = None


class _Lookahead:
    """The compared version's entries of a directory, asked for in the order of their names; the others are removed."""

    def __init__(self, source: ObjectSource, directory: SourceDirectory) -> None:
        base = directory.base
        self._edits = directory.edits
        self._rest = entries(source, base) if base is not None and base.kind == Kind.DIR else iter(())
        self._next = next(self._rest, None)

    def find(self, name: bytes) -> Entry | None:
        while self._next is not None and self._next.name < name:
            self._edits[self._next.name] = None
            self._next = next(self._rest, None)
        if self._next is None or self._next.name != name:
            return None
        found = self._next
        self._next = next(self._rest, None)
        return found

    def drop_rest(self) -> None:
        while self._next is not None:
            self._edits[self._next.name] = None
            self._next = next(self._rest, None)


def problem_of(path: bytes, error: OSError | VfsError) -> Problem:
    """Returns an error as the problem of a path. Raises it where this process or the machine has no descriptor left:
    the path can be read, and must not be left out."""
    if isinstance(error, VfsError):
        return Problem(path, error.message)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        error.filename = path
        raise error
    return Problem(path, error.strerror or str(error))
