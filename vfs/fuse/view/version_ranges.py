"""`MNT/@v11..@v12`: the files that two versions differ in; `@v11..`: a version and the working layer.

Below `added`, `modified` and `removed` is a tree of just those files. A directory is compared when a program reads it.
Files are those of the versions, with the same inode numbers, hence the same pages in the kernel's cache: of the newer
version in `added` and `modified`, of the older one in `removed`. Directories are of this range alone, since the kernel
allows each one place. The working layer changes: against it, `added` and `modified` hold links to its files, and the
kernel caches nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

from pyfuse3 import EntryAttributes, FUSEError

from vfs.fuse import attributes
from vfs.fuse.inodes import Inode, InodeTable
from vfs.fuse.view.root_view import RootView
from vfs.fuse.view.version_inodes import Held, VersionDirectory, VersionInodes
from vfs.fuse.view.virtual import VirtualDirectory, VirtualInode, VirtualSymlink
from vfs.history.range_diff import (
    PARTS,
    Compared,
    Pair,
    Part,
    children_of,
    directories_of,
    has_below,
    pairs_below,
    part_at,
)
from vfs.model.layout import join_range, split_range, unmarked
from vfs.model.names import join_path
from vfs.model.objects import Entry, Kind, Version
from vfs.overlay.overlay import Overlay
from vfs.store.remote_blocks import in_one_search
from vfs.store.trees.directories import find_entry

_PART_NAMES: dict[bytes, Part] = {part.encode("ascii"): part for part in PARTS}
V = TypeVar("V", bound=VirtualInode)
_ABOVE_PARTS = 2
"""How deep the directories of the parts are below the mount's root."""


class Ends(NamedTuple):
    """What a range is between; `new` is None for the working layer."""

    old: Version
    new: Version | None

    @property
    def key(self) -> bytes:
        """What tells ranges apart."""
        return self.old.id + (self.new.id if self.new is not None else b"working")


class VersionRanges:
    """The ranges of one mount, named in its root, whose branch and working layer they are of. Used by one thread."""

    def __init__(self, view: RootView, versions: VersionInodes, table: InodeTable) -> None:
        self.versions = versions
        self.owner = (os.getuid(), os.getgid())
        self._view = view
        self._table = table

    def find(self, name: bytes) -> tuple[Inode, EntryAttributes] | None:
        """Returns what the name of a range is in the mount's root, admitted, or None.

        The directory is at the names of the two ends' own directories; every other way to write it is a link there.
        """
        text = unmarked(name)
        ends = self.ends(text)
        if ends is None:
            return None
        if self.directory_name(ends) != name:
            return self.admitted(RangeLink(self, text))
        return self.admitted(RangeDirectory(self, ends))

    def ends(self, text: bytes) -> Ends | None:
        """Returns what a name without its mark is a range between, or None."""
        texts = split_range(text)
        old = self._view.names.find(texts[0]) if texts is not None else None
        if texts is None or old is None:
            return None
        second = texts[1]
        if not second:
            return Ends(old, None) if self._view.overlay is not None else None
        new = self._view.names.find(second)
        return Ends(old, new) if new is not None else None

    def directory_name(self, ends: Ends) -> bytes:
        """Returns the name in the mount's root of a range's directory."""
        new = unmarked(self._view.names.directory_name(ends.new)) if ends.new is not None else b""
        return join_range(unmarked(self._view.names.directory_name(ends.old)), new)

    def admitted(self, virtual: VirtualInode) -> tuple[Inode, EntryAttributes]:
        """Returns the admitted inode that is the same as this one, with its attributes."""
        inode = self.admit(virtual)
        return inode, inode.attributes()

    def admit(self, virtual: V) -> V:
        """Returns the inode in the table that is the same as this one, or this one."""
        return self._table.admit(virtual, virtual.key, virtual.bits)

    def overlay(self) -> Overlay:
        """Returns the working layer. Raises FUSEError(ENOENT) where there is none."""
        overlay = self._view.overlay
        if overlay is None:
            raise FUSEError(errno.ENOENT)
        return overlay

    def compare(self, ends: Ends, path: bytes) -> Compared:
        """Returns what the working layer and the old end have at a path."""
        return self.overlay().compare(ends.old.commit.root, path)

    def below(self, ends: Ends) -> Callable[[Any], Iterator[Any]]:
        """Returns what yields the differing names of two directories that are compared."""
        return partial(pairs_below, self.versions.source) if ends.new is not None else self.overlay().compare_below


class RangeLink(VirtualSymlink):
    """A name of a range in the mount's root that is not its directory's: `@latest..`, `@paper..@v12`."""

    def __init__(self, ranges: VersionRanges, text: bytes) -> None:
        super().__init__(b"r" + text)
        self._ranges = ranges
        self._text = text

    def target(self) -> bytes:
        """Returns the name of the range's directory."""
        return self._ranges.directory_name(self._ends())

    def attributes(self) -> EntryAttributes:
        """Returns those of a link that may lead elsewhere the next time."""
        ends = self._ends()
        target = self._ranges.directory_name(ends)
        return attributes.of_link(self.ino, target, (ends.new or ends.old).commit.time_ns, 0.0, self._ranges.owner)

    def _ends(self) -> Ends:
        ends = self._ranges.ends(self._text)
        if ends is None:
            raise FUSEError(errno.ENOENT)
        return ends


class WorkingLink(VirtualSymlink):
    """A file of the working layer that differs from the old end of a range."""

    def __init__(self, ranges: VersionRanges, ends: Ends, part: Part, path: bytes) -> None:
        super().__init__(b"w" + ends.key + part.encode("ascii") + b"\0" + path)
        self._time_ns = ends.old.commit.time_ns
        self._owner = ranges.owner
        self._path = path

    def target(self) -> bytes:
        """Returns the way to the file, from below the part's directory."""
        return b"../" * (_ABOVE_PARTS + self._path.count(b"/")) + self._path

    def attributes(self) -> EntryAttributes:
        """Returns those of a link; its name may be gone the next time."""
        return attributes.of_link(self.ino, self.target(), self._time_ns, 0.0, self._owner)


class RangeDirectory(VirtualDirectory):
    """A directory of a range: the range itself (`part` None), a part, or a directory in a part.

    Between two versions `pair` holds the directories on both sides, which never change; against the working layer they
    are compared anew each time.
    """

    def __init__(
        self, ranges: VersionRanges, ends: Ends, part: Part | None = None, path: bytes = b"", pair: Pair | None = None
    ) -> None:
        super().__init__(b"r" + ends.key + (part or "").encode("ascii") + b"\0" + path)
        self._ranges = ranges
        self.ends = ends
        self._part = part
        self._path = path
        if pair is None and ends.new is not None:
            pair = Pair(b"", ends.old.commit.root, ends.new.commit.root)
        self._pair = pair
        self._directories: frozenset[bytes] | None = None

    def prepare(self) -> None:
        """Finds the subdirectories that have something of the part below them: all that listing has to search for."""
        if self._part is not None and (self._directories is None or not self.lasting):
            self._directories = directories_of(self._part, self._compared(), self._ranges.below(self.ends))

    @property
    def is_top(self) -> bool:
        """True if it is the range itself, in the mount's root."""
        return self._part is None

    @property
    def lasting(self) -> bool:
        """True if both ends are versions."""
        return self.ends.new is not None

    def attributes(self) -> EntryAttributes:
        """Returns those of the directory on the side that is shown; of the range itself those of a list."""
        if self._part is None:
            attr = attributes.of_listing(self.ino, self.ends.old.commit.time_ns, self._ranges.owner)
            # The version of a number may be another one after an undo, and the range of that name with it.
            attr.entry_timeout = attributes.HEAD_S if self.lasting else 0.0
            return attr
        return self.attributes_of(self._compared())

    def attributes_of(self, compared: Compared) -> EntryAttributes:
        """Returns the attributes, given the comparison of now."""
        entry = self._side(compared)
        if entry is None or entry.kind != Kind.DIR:
            raise FUSEError(errno.ENOENT)
        return attributes.of_entry(entry, self.ino, timeout_s=attributes.FOREVER_S if self.lasting else 0.0)

    def entries(self, after: bytes | None) -> Iterator[tuple[bytes, Any]]:
        """Yields the names in order, each with its part or with what was compared."""
        found: Iterator[tuple[bytes, Any]]
        if self._part is None:
            found = iter(_PART_NAMES.items())
        else:
            if self._directories is None:
                in_one_search(self.prepare)
            directories = self._directories or frozenset()
            children = children_of(self._part, self._compared(), self._ranges.below(self.ends), directories)
            found = ((child.name, child) for child in children)
        return ((name, item) for name, item in found if after is None or name > after)

    def listed(self, name: bytes, item: Any) -> tuple[Held, EntryAttributes] | None:
        """Returns what `child` would for an entry that was listed just now."""
        if self._part is None:
            return self._directory(item, b"", self._compared())
        path = join_path(self._path, name)
        if part_at(item) == self._part:
            return self._leaf(item, path)
        return self._directory(self._part, path, item)

    def child(self, name: bytes) -> tuple[Held, EntryAttributes] | None:
        """Returns a part, a directory in which something differs, or a file that does."""
        if self._part is None:
            part = _PART_NAMES.get(name)
            return None if part is None else self.listed(name, part)
        child = self._child(name)
        return self.listed(name, child) if part_at(child) == self._part or self._has_directory(child) else None

    def _has_directory(self, child: Compared) -> bool:
        if self.lasting and self._directories is not None:
            return child.name in self._directories
        part = cast("Part", self._part)
        return in_one_search(lambda: has_below(part, child, self._ranges.below(self.ends)))

    def _directory(self, part: Part, path: bytes, compared: Compared) -> tuple[Held, EntryAttributes]:
        pair = compared if isinstance(compared, Pair) else None
        directory = RangeDirectory(self._ranges, self.ends, part, path, pair)
        inode = self._ranges.admit(directory)
        # Not compared again: what the working layer has may have gone since.
        return inode, inode.attributes_of(compared)

    def _compared(self) -> Compared:
        return self._pair if self._pair is not None else self._ranges.compare(self.ends, self._path)

    def _child(self, name: bytes) -> Compared:
        pair = self._pair
        if pair is None:
            return self._ranges.compare(self.ends, join_path(self._path, name))
        source = self._ranges.versions.source
        old, new = (
            find_entry(source, side, name) if side is not None and side.kind == Kind.DIR else None
            for side in (pair.old, pair.new)
        )
        return Pair(name, old, new)

    def _side(self, compared: Compared) -> Entry | None:
        return compared.old if self._part == "removed" else compared.new

    def _leaf(self, child: Compared, path: bytes) -> tuple[Held, EntryAttributes]:
        ranges, ends = self._ranges, self.ends
        version = ends.old if self._part == "removed" else ends.new
        if version is None:
            return ranges.admitted(WorkingLink(ranges, ends, cast("Part", self._part), path))
        entry = cast("Entry", self._side(child))
        directory = cast("Entry", self._side(self._compared()))
        # Not a directory that the kernel knows: the place that the file's bytes and number come from.
        place = VersionDirectory(version, self._path, directory, at_head=False)
        file = ranges.versions.child(place, entry)
        attr = attributes.of_entry(entry, file.ino, file.nlink)
        if not self.lasting:
            attr.entry_timeout = 0.0
        return file, attr
