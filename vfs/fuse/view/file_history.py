"""`labels.csv@@`: the distinct contents of a file's history, as a directory beside it.

In a version it is a directory with one entry for each content, named by the first version that has it and with the
file's extension: `v3.csv`, `v7.csv`. It covers the history up to that version, so it never changes. Beside a file of a
working layer it is a link to the directory in the branch's newest version. A real entry of the same name hides it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any, cast

from pyfuse3 import EntryAttributes, FUSEError

from vfs.fuse import attributes
from vfs.fuse.inodes import Inode, InodeTable
from vfs.fuse.view.root_view import RootView
from vfs.fuse.view.version_inodes import Held, VersionDirectory, VersionInodes
from vfs.fuse.view.virtual import VirtualDirectory, VirtualInode, VirtualSymlink
from vfs.history.path_history import PathFinder, path_contents
from vfs.history.walk import first_parents
from vfs.model.layout import file_of
from vfs.model.names import join_path
from vfs.model.objects import Entry, Kind, Version
from vfs.store.remote_blocks import in_one_search
from vfs.store.trees.directories import find_entry, resolve_path

_PACKED = frozenset((b".gz", b".bz2", b".xz", b".zst"))
_ENDING_BYTES_MAX = 16

Contents = dict[bytes, tuple[VersionDirectory, Entry]]
TargetOf = Callable[[int, bytes], bytes | None]
"""(directory's number, name) to the target of a link of that name now, or None."""


class FileHistories:
    """The histories of files in one mount. Used by one thread, but for `contents`."""

    def __init__(self, view: RootView, versions: VersionInodes, table: InodeTable) -> None:
        self._view = view
        self.versions = versions
        self.owner = (os.getuid(), os.getgid())
        self._table = table

    def directory(self, parent: VersionDirectory, name: bytes) -> tuple[Inode, EntryAttributes] | None:
        """Returns the history of a file in a directory of a version, admitted, or None if there is no such file."""
        file = file_of(name)
        if not self._is_file(parent.entry, file):
            return None
        return self._admitted(HistoryDirectory(self, parent, file))

    def link(self, parent: int, name: bytes, target_of: TargetOf) -> tuple[Inode, EntryAttributes] | None:
        """Returns the link beside a file of a working layer, admitted, or None without a file in the newest version."""
        if target_of(parent, name) is None:
            return None
        return self._admitted(HistoryLink(self, parent, name, target_of))

    def has_file(self, version: Version, directory: bytes, name: bytes) -> bool:
        """Returns True if a version has, in a directory, the file whose history has this name."""
        found = PathFinder(self.versions.source, directory).find(version.commit.root)
        return found is not None and found.kind == Kind.DIR and self._is_file(found, file_of(name))

    def _is_file(self, directory: Entry, name: bytes) -> bool:
        entry = find_entry(self.versions.source, directory, name) if name else None
        return entry is not None and entry.kind == Kind.FILE

    def _admitted(self, virtual: VirtualInode) -> tuple[Inode, EntryAttributes]:
        inode = self._table.admit(virtual, virtual.key, virtual.bits)
        return inode, inode.attributes()

    def contents(self, parent: VersionDirectory, name: bytes) -> Contents:
        """Returns the contents of a file up to a version, by name and oldest first; any thread may call it.

        Each comes with the directory that it is in, in the version that the entry is of.
        """
        source = self.versions.source
        found: Contents = {}
        history = first_parents(source, parent.version.id, leave_out=self._view.names.is_forgotten)
        for step in path_contents(source, history, join_path(parent.path, name)):
            directory = resolve_path(source, step.version.commit.root, parent.path).entry
            place = VersionDirectory(step.version, parent.path, directory, at_head=False)
            found[step.version.name.encode("ascii") + ending_of(name)] = (place, cast("Entry", step.new))
        return found


def ending_of(name: bytes) -> bytes:
    """Returns a file's extension, by which programs know its format: `.csv`, `.tar.gz`, or nothing."""
    stem, ending = os.path.splitext(name)
    if ending in _PACKED:
        ending = os.path.splitext(stem)[1] + ending
    return ending if len(ending) <= _ENDING_BYTES_MAX else b""


class HistoryDirectory(VirtualDirectory):
    """The contents that a file of a version has had up to there."""

    def __init__(self, histories: FileHistories, parent: VersionDirectory, file: bytes) -> None:
        place = b"F" if parent.at_head else b"f"
        super().__init__(place + parent.version.id + join_path(parent.path, file))
        self._histories = histories
        self._parent = parent
        self._file = file
        self._contents: Contents | None = None

    @property
    def lasting(self) -> bool:
        """True: a file's history up to a version never changes."""
        return True

    def prepare(self) -> None:
        """Walks the versions, once while the kernel knows the directory."""
        if self._contents is None:
            self._contents = self._histories.contents(self._parent, self._file)

    def attributes(self) -> EntryAttributes:
        """Returns those of the directory that the file is in; both are read-only."""
        attr = attributes.of_entry(self._parent.entry, self.ino)
        if self._parent.at_head and not self._parent.path:
            attr.entry_timeout = attributes.HEAD_S
        return attr

    def entries(self, after: bytes | None) -> Iterator[tuple[bytes, Any]]:
        """Yields the names with their contents, the oldest first."""
        contents = list(self._read().items())
        names = [name for name, _ in contents]
        return iter(contents if after is None else contents[names.index(after) + 1 :])

    def child(self, name: bytes) -> tuple[Held, EntryAttributes] | None:
        """Returns a content: the same inode as the file in the version that it is named by."""
        found = self._read().get(name)
        return None if found is None else self.listed(name, found)

    def listed(self, name: bytes, item: Any) -> tuple[Held, EntryAttributes] | None:
        """Returns what `child` does for a content."""
        directory, entry = item
        file = self._histories.versions.child(directory, entry)
        return file, attributes.of_entry(entry, file.ino, file.nlink)

    def _read(self) -> Contents:
        in_one_search(self.prepare)
        return cast("Contents", self._contents)


class HistoryLink(VirtualSymlink):
    """The link beside a file of a working layer to its history in the newest version."""

    def __init__(self, histories: FileHistories, parent: int, name: bytes, target_of: TargetOf) -> None:
        super().__init__(b"f" + parent.to_bytes(8, "little") + name)
        self._histories = histories
        self._parent = parent
        self._name = name
        self._target_of = target_of

    def target(self) -> bytes:
        """Returns the way to the directory."""
        target = self._target_of(self._parent, self._name)
        if target is None:
            raise FUSEError(errno.ENOENT)
        return target

    def attributes(self) -> EntryAttributes:
        """Returns those of a link that may lead elsewhere after the next commit."""
        return attributes.of_link(self.ino, self.target(), 0, 0.0, self._histories.owner)
