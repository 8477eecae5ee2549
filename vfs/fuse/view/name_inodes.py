"""The inodes of the `@` names: the directories below `@` that list them, and the links that lead to versions."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from typing import NamedTuple

from pyfuse3 import EntryAttributes, FUSEError

from vfs.errors import Corrupt
from vfs.fuse import attributes
from vfs.fuse.inodes import (
    BRANCHES_DIRECTORY,
    LINK_BITS,
    NAMES_DIRECTORY,
    ROOT,
    RUNS_DIRECTORY,
    TAGS_DIRECTORY,
    VERSIONS_DIRECTORY,
    Inode,
    InodeTable,
)
from vfs.fuse.view.branch_directories import BranchDirectories, Placed
from vfs.fuse.view.root_view import RootView
from vfs.fuse.view.run_directories import RunDirectories
from vfs.fuse.view.version_inodes import Held, VersionDirectory, VersionInodes
from vfs.fuse.view.version_names import NameLink, link_target
from vfs.fuse.view.version_ranges import VersionRanges
from vfs.model import layout
from vfs.model.layout import BETWEEN, MARK, is_numbered, number_of, number_text, unmarked
from vfs.model.names import show_path
from vfs.model.objects import Version

log = logging.getLogger(__name__)

LISTS = {NAMES_DIRECTORY: 1, VERSIONS_DIRECTORY: 2, TAGS_DIRECTORY: 2, BRANCHES_DIRECTORY: 2, RUNS_DIRECTORY: 2}
"""The directories that list names, with how deep they are below the mount's root."""

_LISTS_BY_NAME = {
    layout.VERSIONS: VERSIONS_DIRECTORY,
    layout.TAGS: TAGS_DIRECTORY,
    layout.BRANCHES: BRANCHES_DIRECTORY,
    layout.RUNS: RUNS_DIRECTORY,
}
_TO_ROOT = b"../.."
"""The target of the link that the branch in the mount's root is below `@/branches`."""


class Found(NamedTuple):
    """What a link is now: its target, and the version (None: a branch's directory before the first)."""

    target: bytes
    version: Version | None


class NameInodes:
    """Finds the inode of an `@` name. `branches` and `runs` are None where a mount has no such directories."""

    def __init__(
        self,
        view: RootView,
        versions: VersionInodes,
        table: InodeTable,
        ranges: VersionRanges,
        branches: BranchDirectories | None,
        runs: RunDirectories | None,
    ) -> None:
        self._view = view
        self._versions = versions
        self._table = table
        self._ranges = ranges
        self._branches = branches
        self._runs = runs
        self._owner = (os.getuid(), os.getgid())

    def find(self, parent: int, name: bytes) -> tuple[Held, EntryAttributes] | None:
        """Returns a name of the root or of a list: its inode (admitted; None: always there) and attributes."""
        if parent == ROOT and name == MARK:
            return None, self.list_attributes(NAMES_DIRECTORY)
        if parent == NAMES_DIRECTORY:
            ino = _LISTS_BY_NAME.get(name)
            return None if ino is None else (None, self.list_attributes(ino))
        if parent == ROOT and BETWEEN in name:
            return self._ranges.find(name)
        try:
            if parent == RUNS_DIRECTORY:
                return self._runs.find(name) if self._runs is not None else None
            if parent == BRANCHES_DIRECTORY and (branch := self._branch(name)) is not None:
                return branch
            link = self.link(parent, unmarked(name) if parent == ROOT else name)
            found = self.find_link(link)
        except Corrupt as error:
            # One damaged version must not fail the listing; a lookup of its name reports the error.
            log.error("%s: %s", show_path(name), error)
            return None
        if found is None:
            return None
        if parent == ROOT and found.target == name and found.version is not None:
            directory = self._versions.root(found.version)
            attr = attributes.of_entry(directory.entry, directory.ino)
            # Looked up again every second: a forgotten version disappears from every mount without an invalidation.
            attr.entry_timeout = attributes.HEAD_S
            return directory, attr
        return link, self.link_attributes(link, found)

    def _branch(self, name: bytes) -> tuple[Inode, EntryAttributes] | None:
        """Returns a branch's directory below `@/branches`; None for the branch in the root, or for no branch."""
        branches = self._branches
        if branches is None or name == self._view.names.branch.encode() or not self._view.names.has_branch(name):
            return None
        directory = branches.directory(name.decode())
        return directory, branches.attributes(directory)

    def listed(self, ino: int, after: bytes | None) -> Iterator[bytes]:
        """Yields the names of a list, sorted, from the first above `after`."""
        if ino == VERSIONS_DIRECTORY:
            for number in range(1 if after is None else number_of(after) + 1, self._view.names.count() + 1):
                yield number_text(number)
            return
        lists = {
            NAMES_DIRECTORY: _LISTS_BY_NAME,
            TAGS_DIRECTORY: self._view.names.tags(),
            BRANCHES_DIRECTORY: self._view.names.branches(),
            RUNS_DIRECTORY: self._runs.names() if self._runs is not None else (),
        }
        for name in sorted(set(lists[ino])):
            if after is None or name > after:
                yield name

    def list_attributes(self, ino: int) -> EntryAttributes:
        """Returns the attributes of a list."""
        newest = self._view.names.head()
        return attributes.of_listing(ino, newest.commit.time_ns if newest is not None else 0, self._owner)

    def link(self, parent: int, text: bytes) -> NameLink:
        """Returns the link that a name without its mark is in a directory, admitted."""
        link = NameLink(parent, text)
        return self._table.admit(link, link.key, LINK_BITS)

    def link_attributes(self, link: NameLink, found: Found) -> EntryAttributes:
        """Returns the attributes of a link, as `find_link` found it."""
        # A link in a working layer changes when its directory is moved, a moving name when the branch or tag moves.
        lasting = link.is_stable and (
            link.parent == VERSIONS_DIRECTORY or isinstance(self._table.find(link.parent), VersionDirectory)
        )
        timeout_s = attributes.FOREVER_S if lasting else 0.0
        time_ns = found.version.commit.time_ns if found.version is not None else 0
        return attributes.of_link(link.ino, found.target, time_ns, timeout_s, self._owner)

    def find_link(self, link: NameLink) -> Found | None:
        """Returns what a link names now, None for nothing."""
        parent, text = link.parent, link.text
        if parent == BRANCHES_DIRECTORY and text == self._view.names.branch.encode():
            return Found(_TO_ROOT, self._view.names.head())
        place = self.place(parent)
        if parent == VERSIONS_DIRECTORY:
            version = self._view.names.find(text) if is_numbered(text) else None
        elif parent == TAGS_DIRECTORY:
            version = self._view.names.tag(text)
        elif parent == BRANCHES_DIRECTORY:
            version = self._view.names.branch_head(text)
        else:
            version = place.names.find(text)
        if version is None:
            return None
        # A version's one directory is named as the branch in the root numbers it, from wherever a link leads there.
        return Found(link_target(self._view.names.directory_name(version), place.depth, place.path), version)

    def place(self, parent: int) -> Placed:
        """Returns where a directory is. Raises FUSEError(ESTALE)."""
        if parent == ROOT:
            return Placed(self._view.names, 0, b"")
        if parent in LISTS:
            return Placed(self._view.names, LISTS[parent], b"")
        inode = self._table.find(parent)
        if isinstance(inode, VersionDirectory):
            path, extra = inode.path, 0 if inode.at_head else 1
            return Placed(self._view.names, extra + (path.count(b"/") + 1 if path else 0), path)
        place = self._branches.place(parent) if self._branches is not None else None
        if place is None:
            raise FUSEError(errno.ESTALE)
        return place
