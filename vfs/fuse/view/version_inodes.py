"""The inodes of versions: directories, each of one commit, and other entries, shared by all versions that have them.

The unchanged file at the same path is one inode in every version, so the kernel keeps its pages once and `diff -r`
sees that there is nothing to compare. A directory is an inode of its commit and path: the kernel allows a directory
one place only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from vfs.errors import Corrupt, NoAttribute
from vfs.fuse.inodes import DIRECTORY_BITS, Inode, InodeTable
from vfs.model.ids import chunk_id
from vfs.model.names import join_path, show_path
from vfs.model.nodes import LINKS
from vfs.model.objects import Entry, Form, Kind, Version
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import entry_at, file_content, find_place, numbered_entries
from vfs.store.trees.file_reader import FileReader
from vfs.store.trees.maps import map_get

XATTR_HASH = b"user.vfs.hash"
XATTR_VERSION = b"user.vfs.version"
XATTR_COMMIT = b"user.vfs.commit"

# A plain number: comparing with a member of an enumeration takes longer, and this is asked of every entry listed.
_DIR = int(Kind.DIR)

encode_entry: Callable[[Entry], bytes] = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class HardLinks(NamedTuple):
    """The names of one inode in a version, as paths from its root; the first is the smallest."""

    members: tuple[bytes, ...]


_ALONE = HardLinks(())
_RECENT_MAX = 16_384
"""Files that requests named lately, kept whole: up to twice as many, some 10 MB."""


class VersionDirectory:
    """A directory of a version.

    `at_head`: it belongs to the root of a read-only mount, which shows the branch's newest version; the same
    directory below `@vN` is another inode.
    """

    __slots__ = ("at_head", "entry", "ino", "lookups", "path", "prefix", "slot", "version")

    def __init__(self, version: Version, path: bytes, entry: Entry, *, at_head: bool) -> None:
        self.ino = 0
        self.lookups = 0
        self.slot = -1
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
    """Anything but a directory in versions. `directory` is the first that it was found in, `position` where.

    `encoded` is its entry: decoded it is four times as large. One that the kernel knows is only a row of the inode
    table, from which `VersionInodes.file` makes this again.
    """

    __slots__ = ("check", "directory", "encoded", "ino", "links", "position")

    def __init__(self, directory: VersionDirectory, position: int, encoded: bytes, links: HardLinks = _ALONE) -> None:
        self.ino = 0
        self.check = 0
        self.directory = directory
        self.position = position
        self.encoded = encoded
        self.links = links

    @property
    def entry(self) -> Entry:
        """The entry, decoded anew each time."""
        return _decode(self.encoded)

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


Held = Inode | VersionFile | None
"""What a reply to the kernel counts a lookup of; None: nothing."""


class VersionInodes:
    """The trees of commits, entry by entry, as inodes of a table."""

    def __init__(
        self,
        source: ObjectSource,
        table: InodeTable,
        find_entry: Callable[[int, int, int], bytes | None] = lambda *_: None,
    ) -> None:
        """`find_entry` returns the entry at a position of a directory, if it is at hand and derives this number."""
        self.source = source
        self._find_entry = find_entry
        self._table = table
        self._hold_file = table.files.hold
        self._head: VersionDirectory | None = None
        self._recent: dict[int, VersionFile] = {}
        self._less_recent: dict[int, VersionFile] = {}

    def root(self, version: Version, *, at_head: bool = False) -> VersionDirectory:
        """Returns a version's root directory, admitted; at the head it is the mount's root, whose number is fixed."""
        if not at_head:
            return self._admit_directory(VersionDirectory(version, b"", version.commit.root, at_head=False))
        head = self._head
        if head is None or head.version.id != version.id:
            head = self._head = VersionDirectory(version, b"", version.commit.root, at_head=True)
        return head

    def lookup(self, directory: VersionDirectory, name: bytes) -> VersionDirectory | VersionFile | None:
        """Returns what a name stands for in a directory, admitted, or None."""
        found = find_place(self.source, directory.entry, name)
        if found is None:
            return None
        child = self.child(directory, found[1], found[0])
        if isinstance(child, VersionFile):
            self._keep(child)
        return child

    def admit_directory(self, parent: VersionDirectory, position: int, encoded: bytes) -> VersionDirectory:
        """Returns a directory in another, whose entry was found natively, admitted and with its lookup counted."""
        child = self.child(parent, _decode(encoded), position)
        if not isinstance(child, VersionDirectory):
            raise TypeError("not a directory's entry")
        self._table.hold(child)
        return child

    def file(self, ino: int) -> VersionFile | None:
        """Returns a file of a version that the kernel knows by this number, or None. Raises NotLocal, Corrupt."""
        row = self._table.files.row(ino)
        if row is None:
            return None
        file = self._recent.get(ino)
        if file is not None and file.check == row.check:
            return file
        file = self._less_recent.get(ino)
        if file is None or file.check != row.check:
            directory, position = row.directory, row.position
            encoded, links = self._find_entry(directory.ino, position, ino), _ALONE
            if encoded is None:
                entry = entry_at(self.source, directory.entry, position)
                links = self._links_of(directory, entry) if entry.linked else _ALONE
                encoded = encode_entry(entry)
            file = VersionFile(directory, position, encoded, links)
            file.ino, file.check = ino, row.check
        self._keep(file)
        return file

    def place(self, ino: int) -> tuple[VersionDirectory, int] | None:
        """Returns the directory that a file known by this number was found in, and where; None for no such file."""
        row = self._table.files.row(ino)
        return None if row is None else (row.directory, row.position)

    def _keep(self, file: VersionFile) -> None:
        """Keeps a file that requests name, so that its directory's node is not read again for each of them."""
        if len(self._recent) >= _RECENT_MAX:
            self._less_recent, self._recent = self._recent, {}
        self._recent[file.ino] = file

    def hold(self, inode: Inode | VersionFile) -> None:
        """Increments an admitted inode's lookup count."""
        if isinstance(inode, VersionFile):
            self._hold_file(inode.ino, inode.check, inode.directory, inode.position)
        else:
            self._table.hold(inode)

    def entries(self, directory: VersionDirectory, after: bytes | None) -> Iterator[tuple[int, Entry]]:
        """Yields a directory's entries by name, from the first above `after`, with their positions."""
        return numbered_entries(self.source, directory.entry, after)

    def child(self, directory: VersionDirectory, entry: Entry, position: int = -1) -> VersionDirectory | VersionFile:
        """Returns an entry of a directory as an inode, admitted; its position is found where the caller has none."""
        if entry.kind == _DIR:
            path = join_path(directory.path, entry.name)
            child = VersionDirectory(directory.version, path, entry, at_head=directory.at_head)
            return self._admit_directory(child)
        if position < 0:
            position = self._position(directory, entry)
        if entry.linked:
            return self._linked(directory, entry, position)
        encoded = encode_entry(entry)
        return self._table.admit_file(VersionFile(directory, position, encoded), directory.prefix + encoded)

    def _position(self, directory: VersionDirectory, entry: Entry) -> int:
        found = find_place(self.source, directory.entry, entry.name)
        if found is None or found[1] != entry:
            raise Corrupt(f"{show_path(join_path(directory.path, entry.name))} is not in its directory")
        return found[0]

    def _admit_directory(self, directory: VersionDirectory) -> VersionDirectory:
        place = b"h" if directory.at_head else b"d"
        key = place + directory.version.id + directory.path
        return self._table.admit(directory, key, DIRECTORY_BITS)

    def _linked(self, directory: VersionDirectory, entry: Entry, position: int) -> VersionFile:
        links = self._links_of(directory, entry)
        # The group is part of the key: with another set of names it has another link count, so it is another inode.
        key = b"l" + b"\0".join(links.members) + b"\0\0" + encode_entry(_nameless(entry))
        return self._table.admit_file(VersionFile(directory, position, encode_entry(entry), links), key)

    def _links_of(self, directory: VersionDirectory, entry: Entry) -> HardLinks:
        return self._links(directory.version, join_path(directory.path, entry.name))

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
