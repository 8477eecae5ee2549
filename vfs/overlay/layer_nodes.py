"""Nodes: the changed files and directories of the working layer; and clean inodes, the unchanged ones in use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from vfs.model.objects import FORMAT_BITS, Entry, Form, Kind
from vfs.overlay.extents import Extents
from vfs.store.trees.file_reader import FileReader

ROOT_INO = 1
WHITEOUT = 0
"""In a directory's changes: a name that lower layers have is deleted."""
BLOCK_BYTES = 512

Xattrs = tuple[tuple[bytes, bytes], ...]
Place = tuple[int, bytes]
"""(parent's inode number, name); (0, leader's path in the base version) stands for a group of hard links there."""


class Attr(NamedTuple):
    """Attributes as `stat` shows them. `mode` holds the permission bits alone, as in Entry.

    A directory that came from a version shows `nlink` 1, the convention for "subdirectories are not counted"; one made
    in the working layer shows 2 and one for each subdirectory. A directory's size is 0: `du` counts files alone.
    """

    ino: int
    kind: Kind
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int

    @property
    def st_mode(self) -> int:
        """The mode with the bits of the file type."""
        return FORMAT_BITS[self.kind] | self.mode


class CommittedFile(NamedTuple):
    """A regular file of a version: its entry and the directory that holds it (and its bytes, where they are tiny)."""

    directory: Entry
    entry: Entry


class Node:
    """A materialised inode: a symlink, fifo, socket or device, or what files and directories have in common.

    `places`: all its names, in the layer that holds the node; empty once it is unlinked. `origin`: where the base
    version has it, None if nowhere or if it has left that place. `xattrs` is sorted by name.
    """

    __slots__ = (
        "atime_ns",
        "ctime_ns",
        "gid",
        "ino",
        "kind",
        "mode",
        "mtime_ns",
        "origin",
        "places",
        "rdev",
        "target",
        "uid",
        "xattrs",
    )

    def __init__(self, ino: int, kind: Kind) -> None:
        self.ino = ino
        self.kind = kind
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.rdev = 0
        self.atime_ns = 0
        self.mtime_ns = 0
        self.ctime_ns = 0
        self.xattrs: Xattrs = ()
        self.target = b""
        self.places: tuple[Place, ...] = ()
        self.origin: Place | None = None

    @property
    def nlink(self) -> int:
        """The link count that `stat` shows."""
        return len(self.places)

    def drop_place(self, place: Place) -> None:
        """Removes a name."""
        self.places = tuple(kept for kept in self.places if kept != place)

    def size_and_blocks(self) -> tuple[int, int]:
        """Returns the size and the 512-byte blocks that `stat` shows."""
        return len(self.target), 0

    def attr(self) -> Attr:
        """Returns the attributes."""
        size, blocks = self.size_and_blocks()
        return Attr(
            self.ino,
            self.kind,
            self.mode,
            self.nlink,
            self.uid,
            self.gid,
            self.rdev,
            size,
            blocks,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
        )

    def take_attributes(self, other: Node) -> None:
        """Copies the attributes of another node, without names and content."""
        self.mode = other.mode
        self.uid = other.uid
        self.gid = other.gid
        self.rdev = other.rdev
        self.atime_ns = other.atime_ns
        self.mtime_ns = other.mtime_ns
        self.ctime_ns = other.ctime_ns
        self.xattrs = other.xattrs
        self.target = other.target

    def take_entry(self, entry: Entry) -> None:
        """Copies the attributes of a committed entry, which has one time only."""
        self.mode = entry.mode
        self.uid = entry.uid
        self.gid = entry.gid
        self.rdev = entry.rdev
        self.atime_ns = self.mtime_ns = self.ctime_ns = entry.mtime_ns
        self.xattrs = entry.xattrs
        if entry.kind == Kind.SYMLINK:
            self.target = entry.content

    def entry(self, name: bytes) -> Entry:
        """Returns the node as an entry of a version, without content where that is not stored yet."""
        return Entry(
            name,
            self.kind,
            self.mode,
            self.uid,
            self.gid,
            self.mtime_ns,
            size=len(self.target),
            content=self.target,
            rdev=self.rdev,
            linked=len(self.places) > 1,
            xattrs=self.xattrs,
        )


class FileNode(Node):
    """A materialised regular file.

    Content: `extents`; in their gaps `lower` up to `lower_size`; zeros elsewhere, up to `size`.
    """

    __slots__ = ("extents", "lower", "lower_size", "reader", "size")

    def __init__(self, ino: int) -> None:
        super().__init__(ino, Kind.FILE)
        self.size = 0
        self.extents = Extents()
        self.lower: CommittedFile | FileNode | None = None
        self.lower_size = 0
        self.reader: FileReader | None = None

    def size_and_blocks(self) -> tuple[int, int]:
        """Returns the size and the blocks: an upper bound if new data covers old."""
        return self.size, -(-min(self.size, self.allocated()) // BLOCK_BYTES)

    def allocated(self) -> int:
        """Returns an upper bound of the bytes that are not holes."""
        lower = self.lower
        if isinstance(lower, FileNode):
            below = lower.allocated()
        else:
            below = lower.entry.size - lower.entry.hole_bytes if lower is not None else 0
        return self.extents.size + min(below, self.lower_size)

    def is_content_of(self, lower: CommittedFile) -> bool:
        """Returns True if the content is a committed file's, as far as is known without reading."""
        own = self.lower
        return (
            not len(self.extents)
            and isinstance(own, CommittedFile)
            and self.size == self.lower_size == own.entry.size == lower.entry.size
            and own.entry.content == lower.entry.content
            and own.entry.form == lower.entry.form
        )

    def entry(self, name: bytes) -> Entry:
        """Returns the file as an entry; content is empty where it is not stored yet."""
        own = self.lower
        common = (name, self.kind, self.mode, self.uid, self.gid, self.mtime_ns, self.size)
        linked = len(self.places) > 1
        if isinstance(own, CommittedFile) and self.is_content_of(own):
            return Entry(
                *common,
                content=own.entry.content,
                form=own.entry.form,
                hole_bytes=own.entry.hole_bytes,
                linked=linked,
                xattrs=self.xattrs,
            )
        return Entry(*common, form=Form.EMPTY, linked=linked, xattrs=self.xattrs)


class DirNode(Node):
    """A materialised directory: names that differ from those of `lower`, by inode number or WHITEOUT.

    `base_path`: its path in the base version, None if it is not there. `subdirs`: how many subdirectories it has, known
    only while it has no lower directory.
    """

    __slots__ = ("_sorted", "base_path", "changes", "lower", "subdirs")

    def __init__(self, ino: int) -> None:
        super().__init__(ino, Kind.DIR)
        self.lower: Entry | DirNode | None = None
        self.changes: dict[bytes, int] = {}
        self.subdirs: int | None = None
        self.base_path: bytes | None = None
        self._sorted: list[bytes] | None = None

    @property
    def nlink(self) -> int:
        """The link count that `stat` shows."""
        if not self.places and self.ino != ROOT_INO:
            return 0
        return 2 + self.subdirs if self.subdirs is not None else 1

    def set_change(self, name: bytes, ino: int) -> None:
        """Makes a name stand for an inode, or hides it (WHITEOUT)."""
        if name not in self.changes:
            self._sorted = None
        self.changes[name] = ino

    def drop_change(self, name: bytes) -> None:
        """Drops the change of a name: the layers below show through."""
        del self.changes[name]
        self._sorted = None

    def clear_changes(self) -> None:
        """Drops the changes of all names: the layers below show through."""
        self.changes = {}
        self._sorted = None

    def take_changes(self, below: DirNode) -> None:
        """Merges its changes into those of the node below, which is not used afterwards."""
        changes, own = below.changes, self.changes
        changes.update(own)
        if self.lower is None:
            for name, ino in own.items():
                if ino == WHITEOUT:
                    del changes[name]
        self.changes = changes
        self._sorted = None

    def sorted_names(self) -> list[bytes]:
        """Returns the changed names in order; the list is not changed later."""
        names = self._sorted
        if names is None:
            names = self._sorted = sorted(self.changes)
        return names

    def committed(self) -> Entry | None:
        """Returns the committed directory at the bottom, below all layers."""
        lower = self.lower
        while isinstance(lower, DirNode):
            lower = lower.lower
        return lower


class Clean:
    """An unchanged inode, while the kernel, an open file, or a clean inode below it refers to it.

    `place` is where the base version has it: (parent, name), or the group of hard links it belongs to. `parent` and
    `name` say where it was found. `children`: how many clean inodes have it for their parent.
    """

    __slots__ = ("children", "entry", "ino", "members", "name", "parent", "place", "reader")

    def __init__(self, ino: int, parent: int, name: bytes, entry: Entry, place: Place) -> None:
        self.ino = ino
        self.parent = parent
        self.name = name
        self.entry = entry
        self.place = place
        self.members: tuple[bytes, ...] = ()
        self.children = 0
        self.reader: FileReader | None = None

    @property
    def nlink(self) -> int:
        """The link count that `stat` shows."""
        return len(self.members) or 1

    def attr(self) -> Attr:
        """Returns the attributes."""
        entry = self.entry
        size = blocks = 0
        if entry.kind == Kind.FILE:
            size = entry.size
            blocks = -(-(size - entry.hole_bytes) // BLOCK_BYTES)
        elif entry.kind == Kind.SYMLINK:
            size = len(entry.content)
        time_ns = entry.mtime_ns
        return Attr(
            self.ino,
            entry.kind,
            entry.mode,
            self.nlink,
            entry.uid,
            entry.gid,
            entry.rdev,
            size,
            blocks,
            time_ns,
            time_ns,
            time_ns,
        )


def replace_xattr(xattrs: Xattrs, name: bytes, value: bytes | None) -> Xattrs:
    """Returns the attributes with one set, or removed (None)."""
    kept: Iterable[tuple[bytes, bytes]] = ((key, old) for key, old in xattrs if key != name)
    if value is None:
        return tuple(kept)
    return tuple(sorted((*kept, (name, value))))
