"""The inodes of versions: directories, each of one commit, and other entries, shared by all versions that have them.

The unchanged file at the same path is one inode in every version, so the kernel keeps its pages once and `diff -r`
sees that there is nothing to compare. A directory is an inode of its commit and path: the kernel allows a directory
one place only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from vfs.errors import Corrupt, NoAttribute
from vfs.fuse.inodes import DIRECTORY_BITS, FILE_BITS, Inode, InodeTable
from vfs.model.ids import chunk_id
from vfs.model.names import join_path, show_path
from vfs.model.nodes import LINKS
from vfs.model.objects import Entry, Form, Kind, Version
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import entries, file_content, find_entry
from vfs.store.trees.file_reader import FileReader
from vfs.store.trees.maps import map_get

XATTR_HASH = b"user.vfs.hash"
XATTR_VERSION = b"user.vfs.version"
XATTR_COMMIT = b"user.vfs.commit"

# A plain number: comparing with a member of an enumeration takes longer, and this is asked of every entry listed.
_DIR = int(Kind.DIR)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class HardLinks(NamedTuple):
    """The names of one inode in a version, as paths from its root; the first is the smallest."""

    members: tuple[bytes, ...]


_ALONE = HardLinks(())


class VersionDirectory:
    """A directory of a version.

    `at_head`: it belongs to the root of a read-only mount, which shows the branch's newest version; the same
    directory below `@vN` is another inode.
    """

    __slots__ = ("at_head", "entry", "ino", "lookups", "path", "prefix", "version")

    def __init__(self, version: Version, path: bytes, entry: Entry, *, at_head: bool) -> None:
        self.ino = 0
        self.lookups = 0
        self.version = version
        self.path = path
        self.entry = entry
        self.at_head = at_head
        # What the number of an entry in here is derived from, before the entry itself. NUL ends a path.
        self.prefix = b"e" + path + b"\0"

    @property
    def nlink(self) -> int:
        """The link count that `stat` shows: 1, the convention for "subdirectories are not counted"."""
        return 1

    def same_as(self, other: Inode) -> bool:
        """True if both are the same path of the same commit at the same place of the mount."""
        return (
            isinstance(other, VersionDirectory)
            and self.path == other.path
            and self.version.id == other.version.id
            and self.at_head == other.at_head
        )


class VersionFile:
    """Anything but a directory in versions. `directory` is the first that it was found in.

    `encoded` is its entry: after a walk the kernel knows a hundred thousand of these, and decoded it is four times as
    large. `pushed`: its bytes were given to the kernel, as far as they are ever given. Where processes push it at the
    same time the kernel gets the same bytes twice.
    """

    __slots__ = ("directory", "encoded", "ino", "links", "lookups", "pushed")

    def __init__(self, directory: VersionDirectory, encoded: bytes, links: HardLinks = _ALONE) -> None:
        self.ino = 0
        self.lookups = 0
        self.directory = directory
        self.encoded = encoded
        self.links = links
        self.pushed = False

    @property
    def entry(self) -> Entry:
        """The entry, decoded anew each time."""
        return _decode(self.encoded)

    def same_as(self, other: Inode) -> bool:
        """True if both are the same entry at the same path, or names of the same hard-linked file."""
        if not isinstance(other, VersionFile):
            return False
        if self.links is _ALONE:
            # Names share a directory's path or differ in it.
            return (
                self.encoded == other.encoded and self.directory.path == other.directory.path and other.links is _ALONE
            )
        return self.links.members == other.links.members and _nameless(self.entry) == _nameless(other.entry)

    @property
    def nlink(self) -> int:
        """The number of names that the version has for it."""
        return len(self.links.members) or 1

    @property
    def path(self) -> bytes:
        """A path of it from a version's root."""
        return join_path(self.directory.path, self.entry.name)


def _nameless(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, name=b"")


class VersionInodes:
    """The trees of commits, entry by entry, as inodes of a table."""

    def __init__(self, source: ObjectSource, table: InodeTable) -> None:
        self.source = source
        self._table = table

    def root(self, version: Version, *, at_head: bool = False) -> VersionDirectory:
        """Returns a version's root directory, admitted; at the head it is the mount's root, whose number is fixed."""
        directory = VersionDirectory(version, b"", version.commit.root, at_head=at_head)
        return directory if at_head else self._admit_directory(directory)

    def lookup(self, directory: VersionDirectory, name: bytes) -> VersionDirectory | VersionFile | None:
        """Returns what a name stands for in a directory, admitted, or None."""
        entry = find_entry(self.source, directory.entry, name)
        return None if entry is None else self.child(directory, entry)

    def entries(self, directory: VersionDirectory, after: bytes | None) -> Iterator[Entry]:
        """Yields a directory's entries by name, from the first above `after`."""
        return entries(self.source, directory.entry, after)

    def child(self, directory: VersionDirectory, entry: Entry) -> VersionDirectory | VersionFile:
        """Returns an entry of a directory as an inode, admitted."""
        if entry.kind == _DIR:
            path = join_path(directory.path, entry.name)
            child = VersionDirectory(directory.version, path, entry, at_head=directory.at_head)
            return self._admit_directory(child)
        if entry.linked:
            return self._linked(directory, entry)
        encoded = _encode(entry)
        file = VersionFile(directory, encoded)
        return self._table.admit(file, directory.prefix + encoded, FILE_BITS)

    def _admit_directory(self, directory: VersionDirectory) -> VersionDirectory:
        place = b"h" if directory.at_head else b"d"
        key = place + directory.version.id + directory.path
        return self._table.admit(directory, key, DIRECTORY_BITS)

    def _linked(self, directory: VersionDirectory, entry: Entry) -> VersionFile:
        links = self._links(directory.version, join_path(directory.path, entry.name))
        # The group is part of the key: with another set of names it has another link count, so it is another inode.
        key = b"l" + b"\0".join(links.members) + b"\0\0" + _encode(_nameless(entry))
        return self._table.admit(VersionFile(directory, _encode(entry), links), key, FILE_BITS)

    def _links(self, version: Version, path: bytes) -> HardLinks:
        root = version.commit.links
        item = map_get(self.source, LINKS, root, path)
        if item is not None and item.leader != path:
            item = map_get(self.source, LINKS, root, item.leader)
        if item is None or path not in item.members:
            raise Corrupt(f"{version.name}: the hard links of {show_path(path)} are missing from the link map")
        return HardLinks(item.members)

    def open(self, file: VersionFile) -> FileReader:
        """Returns a reader of a regular file; tiny contents are fetched here, others with the first read."""
        return FileReader(self.source, file_content(self.source, file.directory.entry, file.entry))


def get_xattr(inode: VersionDirectory | VersionFile, name: bytes) -> bytes:
    """Returns an extended attribute of a version's entry, stored or virtual. Raises NoAttribute.

    Virtual ones are not listed: a tool that copies attributes must not copy them. `user.vfs.hash` is the content's id
    (files) or the tree's (directories) in hexadecimal; `user.vfs.version` and `user.vfs.commit` tell of the root.
    """
    entry = inode.entry
    for stored, value in entry.xattrs:
        if stored == name:
            return value
    if name == XATTR_HASH and entry.kind in (Kind.FILE, Kind.DIR):
        return _hash_text(entry)
    if isinstance(inode, VersionDirectory) and not inode.path:
        if name == XATTR_VERSION:
            return inode.version.name.encode("ascii")
        if name == XATTR_COMMIT:
            return inode.version.id.hex().encode("ascii")
    raise NoAttribute(f"{show_path(inode.path)} has no attribute {show_path(name)}")


def _hash_text(entry: Entry) -> bytes:
    if entry.kind == Kind.FILE and entry.form == Form.EMPTY:
        return chunk_id(b"").hex().encode("ascii")
    return entry.content.hex().encode("ascii")
