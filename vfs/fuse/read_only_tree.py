"""The read-only part of a mount: versions, the `@` names, and the root where there is no working layer."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, cast

from pyfuse3 import EntryAttributes, FUSEError

from vfs.errors import Corrupt, NoAttribute
from vfs.fuse import attributes
from vfs.fuse.handles import KeptReaders, VersionReader
from vfs.fuse.inodes import (
    FILE_BITS,
    ROOT,
    Inode,
    InodeTable,
)
from vfs.fuse.listings import Listing, Reply
from vfs.fuse.prefetch.prefetch_policy import PrefetchPolicy
from vfs.fuse.view.branch_directories import BranchDirectories
from vfs.fuse.view.file_history import FileHistories
from vfs.fuse.view.name_inodes import LISTS, NameInodes
from vfs.fuse.view.root_view import RootView
from vfs.fuse.view.run_directories import RunDirectories
from vfs.fuse.view.version_inodes import Held, VersionDirectory, VersionFile, VersionInodes, get_xattr
from vfs.fuse.view.version_names import NameLink, link_target
from vfs.fuse.view.version_ranges import RangeDirectory, VersionRanges
from vfs.fuse.view.virtual import VirtualDirectory, VirtualInode, VirtualSymlink
from vfs.model.ids import CommitId
from vfs.model.layout import BETWEEN, HISTORY_ENDING, MARK, marked, number_of, number_text, unmarked
from vfs.model.names import join_path, show_path
from vfs.model.objects import Entry, Kind
from vfs.overlay.state import Invalidation
from vfs.store.trees.file_reader import FileReader

log = logging.getLogger(__name__)

ReadOnlyListing = Listing[int | VersionDirectory | VirtualDirectory, Any]
"""An open directory of this part: its number if it lists names, else the directory. An item is an entry of a version
with its position, None for a name that is looked up, or an item of a virtual directory."""

_Item = tuple[int, Entry] | None


class ReadOnlyTree:
    """Answers for every inode outside the working layer. Used by one thread.

    `view` is what the mount's root shows. `branches` is None for a read-only mount: then the root itself is the
    branch's newest version, and other branches are links to theirs.
    A method that returns the attributes of a name "counted" has incremented the inode's lookup count.
    """

    def __init__(
        self,
        view: RootView,
        versions: VersionInodes,
        table: InodeTable,
        prefetch_policy: PrefetchPolicy,
        branches: BranchDirectories | None = None,
        *,
        list_versions: bool = False,
        runs: RunDirectories | None = None,
    ) -> None:
        self._view = view
        self._versions = versions
        self._hold = versions.hold
        self._table = table
        self.prefetch_policy = prefetch_policy
        self._list_versions = list_versions
        self._ranges = VersionRanges(view, versions, table)
        self._names = NameInodes(view, versions, table, self._ranges, branches, runs)
        self._histories = FileHistories(view, versions, table)
        self._owner = (os.getuid(), os.getgid())
        self._readers = KeptReaders()

    @property
    def known_inodes(self) -> int:
        """How many inodes the kernel has looked up here and not forgotten."""
        return len(self._table)

    def lookups_of(self, ino: int) -> int:
        """Returns the lookup count of an inode, 0 for one that the kernel does not know."""
        return self._table.lookups_of(ino)

    def forget(self, ino: int, lookups: int) -> None:
        """Decrements an inode's lookup count. The directories that list names are not counted."""
        if ino not in LISTS and ino != ROOT:
            self._table.forget(ino, lookups)

    # Names.

    def lookup(self, parent: int, name: bytes) -> EntryAttributes:
        """Returns the attributes of a name in a directory of this part, counted. Raises FUSEError(ENOENT).

        A name that a version does not have is answered as absent, which the kernel may cache; an `@` name that names
        nothing now is an error, which the kernel does not cache.
        """
        if parent in LISTS:
            listed = self._names.find(parent, name)
            if listed is None:
                raise FUSEError(errno.ENOENT)
            return self._held(listed)
        if parent == ROOT and name.startswith(MARK) and (version := self.find_in_root(name)) is not None:
            return version
        if parent != ROOT and isinstance(virtual := self._known(parent), VirtualDirectory):
            return self._lookup_virtual(virtual, name)
        directory = self._directory(parent)
        found = None if directory is None else self._versions.lookup(directory, name)
        if found is not None:
            self._versions.hold(found)
            if isinstance(found, VersionFile):
                self.prefetch_policy.looked_up(found)
            else:
                self.prefetch_policy.entered(found)
            return self._attributes_in(directory, found)
        if directory is not None and name.endswith(HISTORY_ENDING):
            history = self._histories.directory(directory, name)
            if history is not None:
                return self._held(history)
        if parent == ROOT:
            raise FUSEError(errno.ENOENT)
        if name.startswith(MARK):
            return self.lookup_link(parent, name)
        return attributes.missing()

    def _lookup_virtual(self, directory: VirtualDirectory, name: bytes) -> EntryAttributes:
        child = directory.child(name)
        if child is not None:
            return self._held(child)
        if directory.lasting:
            return attributes.missing()
        raise FUSEError(errno.ENOENT)

    def _held(self, found: tuple[Held, EntryAttributes]) -> EntryAttributes:
        self.hold(found[0])
        return found[1]

    def lookup_history(self, parent: int, name: bytes) -> EntryAttributes:
        """Returns the link to a file's history in a directory of a working layer, counted. Raises FUSEError(ENOENT)."""
        found = self._histories.link(parent, name, self._history_target)
        if found is None:
            raise FUSEError(errno.ENOENT)
        return self._held(found)

    def _history_target(self, parent: int, name: bytes) -> bytes | None:
        place = self._names.place(parent)
        newest = place.names.head()
        if newest is None or not self._histories.has_file(newest, place.path, name):
            return None
        return link_target(self._view.names.directory_name(newest), place.depth, join_path(place.path, name))

    def invalidations(self) -> Iterator[Invalidation]:
        """Yields the names that lead elsewhere when the mount's root shows another branch."""
        for inode in self._table:
            if isinstance(inode, NameLink):
                yield Invalidation(inode.parent, inode.text if inode.parent in LISTS else marked(inode.text), inode.ino)
            elif isinstance(inode, VersionDirectory) and not inode.path:
                yield Invalidation(ROOT, self._view.names.directory_name(inode.version), 0)
            elif isinstance(inode, RangeDirectory) and inode.is_top:
                yield Invalidation(ROOT, self._ranges.directory_name(inode.ends), 0)

    def find_in_root(self, name: bytes) -> EntryAttributes | None:
        """Returns the attributes of an `@` name in the mount's root, counted, or None."""
        found = self._names.find(ROOT, name)
        return None if found is None else self._held(found)

    def lookup_link(self, parent: int, name: bytes) -> EntryAttributes:
        """Returns the link that an `@` name is in a directory below the root, counted. Raises FUSEError(ENOENT)."""
        link = self._names.link(parent, unmarked(name))
        found = self._names.find_link(link)
        if found is None:
            raise FUSEError(errno.ENOENT)
        self._table.hold(link)
        return self._names.link_attributes(link, found)

    # Attributes.

    def getattr(self, ino: int) -> EntryAttributes:
        """Returns the attributes of an inode that the kernel knows. Raises FUSEError(ESTALE)."""
        if ino in LISTS:
            return self._names.list_attributes(ino)
        if ino == ROOT:
            directory = self._directory(ROOT)
            if directory is None:
                return attributes.of_listing(ROOT, 0, self._owner)
            return attributes.of_entry(directory.entry, ROOT, timeout_s=attributes.HEAD_S)
        inode = self._known(ino)
        if isinstance(inode, NameLink):
            found = self._names.find_link(inode)
            if found is None:
                raise FUSEError(errno.ENOENT)
            return self._names.link_attributes(inode, found)
        if isinstance(inode, VirtualInode):
            return inode.attributes()
        return self._attributes_in(None, cast("VersionDirectory | VersionFile", inode))

    def _attributes_in(
        self, directory: VersionDirectory | None, inode: VersionDirectory | VersionFile
    ) -> EntryAttributes:
        attr = attributes.of_entry(inode.entry, inode.ino, inode.nlink)
        if directory is not None and directory.at_head and not directory.path:
            attr.entry_timeout = attributes.HEAD_S
        return attr

    # Links.

    def readlink(self, ino: int) -> bytes:
        """Returns the target of a link now. Raises FUSEError(ENOENT) if its name no longer names anything."""
        inode = self._known(ino)
        if isinstance(inode, NameLink):
            found = self._names.find_link(inode)
            if found is None:
                raise FUSEError(errno.ENOENT)
            return found.target
        if isinstance(inode, VirtualSymlink):
            return inode.target()
        if isinstance(inode, VersionFile) and (entry := inode.entry).kind == Kind.SYMLINK:
            return entry.content
        raise FUSEError(errno.EINVAL)

    # Directories.

    def listing(self, ino: int) -> ReadOnlyListing:
        """Opens a directory for listing. Raises FUSEError(ESTALE or ENOTDIR)."""
        if ino in LISTS:
            return Listing(ino, lambda after: ((name, None) for name in self._names.listed(ino, after)), lasting=False)
        if ino != ROOT and isinstance(virtual := self._known(ino), VirtualDirectory):
            return Listing(virtual, virtual.entries, lasting=virtual.lasting)
        directory = self._directory(ino)
        if directory is None:
            return Listing(ino, lambda after: ((name, None) for name in self.root_names(after)), lasting=False)
        opened = directory
        self.prefetch_policy.entered(opened)
        if ino == ROOT:
            return Listing(opened, lambda after: self._root_items(opened, after), lasting=True)
        return Listing(opened, lambda after: self._items(opened, after), lasting=True)

    def _items(self, directory: VersionDirectory, after: bytes | None) -> Iterator[tuple[bytes, _Item]]:
        return ((item[1].name, item) for item in self._versions.entries(directory, after))

    def _root_items(self, directory: VersionDirectory, after: bytes | None) -> Iterator[tuple[bytes, _Item]]:
        if after is None or not after.startswith(MARK):
            yield from self._items(directory, after)
            after = None
        for name in self.root_names(after):
            yield name, None

    def root_names(self, after: bytes | None) -> Iterator[bytes]:
        """Yields the names of versions that the mount's root lists behind its own entries, if `list_versions`."""
        if self._list_versions:
            for number in range(1 if after is None else number_of(unmarked(after)) + 1, self._view.names.count() + 1):
                yield marked(number_text(number))

    def read_listing(self, listing: ReadOnlyListing, position: int, reply: Reply) -> None:
        """Adds the entries behind a position to the kernel's reply, as many as fit, and counts a lookup for each."""
        directory = listing.directory
        listing.seek(position)
        listing.fill(reply, lambda name, item: self._listed_child(directory, name, item), self.hold)

    def unopened_listing(self, ino: int) -> tuple[ReadOnlyListing, bool]:
        """Returns what `listing` does, and whether the directory's names never change."""
        listing = self.listing(ino)
        return listing, isinstance(listing.directory, VersionDirectory) and ino != ROOT

    def changing_directories(self) -> Iterator[int]:
        """Yields the directories that the kernel may know whose names change when refs do."""
        yield ROOT
        yield from LISTS
        for inode in self._table:
            if isinstance(inode, VirtualDirectory) and not inode.lasting:
                yield inode.ino

    def _listed_child(
        self, directory: int | VersionDirectory | VirtualDirectory, name: bytes, item: Any
    ) -> tuple[Held, EntryAttributes] | None:
        # Most names listed are a version's.
        if item is None or not isinstance(directory, VersionDirectory):
            if isinstance(directory, VirtualDirectory):
                return directory.listed(name, item)
            return self._names.find(directory if isinstance(directory, int) else ROOT, name)
        position, entry = item
        inode = self._versions.child(directory, entry, position)
        if directory.at_head:
            return inode, self._attributes_in(directory, inode)
        return inode, attributes.of_entry(entry, inode.ino, inode.nlink)

    def name_in_root(self, name: bytes) -> tuple[Held, EntryAttributes] | None:
        """Returns a listed version of the root, not yet counted: see `hold`."""
        return self._names.find(ROOT, name)

    def hold(self, inode: Held) -> None:
        """Increments the lookup count of an inode in a reply to the kernel; None: one that is not counted."""
        if inode is not None:
            self._hold(inode)

    # Files and extended attributes.

    def open(self, ino: int) -> VersionReader:
        """Opens a file of a version for reading. Raises FUSEError; damage is logged by version and path."""
        return self._open(ino, self.prefetch_policy.opened)

    def reader(self, ino: int) -> VersionReader:
        """Returns what reads a file of a version that was opened natively, or without a request. Raises as `open`."""
        return self._readers.get(ino, lambda: self._open(ino, lambda file, _: self.prefetch_policy.read(file)))

    def _open(self, ino: int, tell: Callable[[VersionFile, FileReader], None]) -> VersionReader:
        inode = self._known(ino)
        if not isinstance(inode, VersionFile) or inode.entry.kind != Kind.FILE:
            raise FUSEError(errno.EISDIR if isinstance(inode, VersionDirectory) else errno.EINVAL)
        version = inode.directory.version.name
        try:
            reader = self._versions.open(inode)
            tell(inode, reader)
            return VersionReader(reader, version, inode.path)
        except Corrupt as error:
            log.error("open: %s of %s: %s", show_path(inode.path), version, error)
            raise FUSEError(error.errno) from None

    def get_xattr(self, ino: int, name: bytes) -> bytes:
        """Returns an extended attribute. Raises NoAttribute."""
        if ino in LISTS:
            raise NoAttribute("a directory of names has no attributes")
        directory = self._directory(ROOT) if ino == ROOT else None
        inode = directory if directory is not None else self._known(ino)
        if isinstance(inode, (VersionDirectory, VersionFile)):
            return get_xattr(inode, name)
        raise NoAttribute("a link to a version has no attributes")

    def list_xattrs(self, ino: int) -> list[bytes]:
        """Returns the names of the stored extended attributes; virtual ones are not listed."""
        if ino in LISTS:
            return []
        inode = self._directory(ROOT) if ino == ROOT else self._known(ino)
        stored = inode.entry.xattrs if isinstance(inode, (VersionDirectory, VersionFile)) else ()
        return [name for name, _ in stored]

    def find(self, ino: int) -> Inode | VersionFile | None:
        """Returns the inode that the kernel knows by a number, or None. Raises NotLocal, Corrupt."""
        return self._versions.file(ino) if ino >> FILE_BITS == 1 else self._table.find(ino)

    def known(self, ino: int) -> Inode | VersionFile:
        """Returns the inode that the kernel knows by a number. Raises FUSEError(ESTALE)."""
        return self._known(ino)

    def version_named(self, name: bytes) -> CommitId | None:
        """Returns the version that an `@` name of the mount's root names, None for none and for a range."""
        version = self._view.names.find(unmarked(name)) if BETWEEN not in name else None
        return version.id if version is not None else None

    def _known(self, ino: int) -> Inode | VersionFile:
        inode = self.find(ino)
        if inode is None:
            raise FUSEError(errno.ESTALE)
        return inode

    def _directory(self, ino: int) -> VersionDirectory | None:
        """Returns a directory of a version; for the root the branch's newest, or None while there is none."""
        if ino == ROOT:
            newest = self._view.names.head()
            return None if newest is None else self._versions.root(newest, at_head=True)
        inode = self._known(ino)
        if not isinstance(inode, VersionDirectory):
            raise FUSEError(errno.ENOTDIR)
        return inode
