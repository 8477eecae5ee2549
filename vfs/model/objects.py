"""The values that a version is made of: entries, chunk references, node references, commits.

All are immutable and encode as MessagePack arrays, field by field in the order written here (docs/format.md). A field
is only ever added at the end, with a default, behind a feature flag.
"""

from __future__ import annotations

import stat
from enum import IntEnum
from typing import Annotated

import msgspec

from vfs.model.decoding import Count, Moment
from vfs.model.ids import ID_BYTES, CommitId

COMPOSED_META = ("vfs.composed", "view")
"""In the metadata of a commit that is a composed view: no operation names it, and no version is its child."""
MAIN = "main"
"""The branch that a new repository has."""

NAME_BYTES_MAX = 255
SYMLINK_BYTES_MAX = 4095
XATTR_BYTES_MAX = 64 * 1024
"""The kernel's limit for one attribute value, and ours for all attributes of one entry together."""

TIME_NS_MIN, TIME_NS_MAX = -(2**63), 2**64 - 1
"""From 1677 to 2554."""


class Kind(IntEnum):
    """What an entry is."""

    FILE = 1
    DIR = 2
    SYMLINK = 3
    FIFO = 4
    SOCKET = 5
    CHAR = 6
    BLOCK = 7


FORMAT_BITS = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIR: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHAR: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
}
"""Kind to the file-type bits of `st_mode`."""

KIND_OF_FORMAT = {bits: kind for kind, bits in FORMAT_BITS.items()}
"""The file-type bits of `st_mode` to Kind."""


class Form(IntEnum):
    """How a regular file's content is kept."""

    EMPTY = 0
    """No bytes; `content` is empty."""
    TINY = 1
    """The bytes stand in the directory's tiny map under the entry's name; `content` is their chunk id."""
    CHUNK = 2
    """One chunk; `content` is its id."""
    LIST = 3
    """A chunk list; `content` is the id of its root node."""


U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
U63 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
ModeBits = Annotated[int, msgspec.Meta(ge=0, le=0o7777)]
Id = Annotated[bytes, msgspec.Meta(min_length=ID_BYTES, max_length=ID_BYTES)]
IdOrEmpty = Annotated[bytes, msgspec.Meta(max_length=ID_BYTES)]
Name = Annotated[bytes, msgspec.Meta(max_length=NAME_BYTES_MAX)]
TargetOrId = Annotated[bytes, msgspec.Meta(max_length=SYMLINK_BYTES_MAX)]


class Content(msgspec.Struct, frozen=True, array_like=True):
    """A regular file's bytes: their number, the holes among them and where they are kept.

    `tiny` carries the bytes themselves where `form` is TINY, so that a Content is complete without its directory.
    """

    form: Form = Form.EMPTY
    id: IdOrEmpty = b""
    size: U63 = 0
    hole_bytes: U63 = 0
    tiny: bytes = b""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One name in a directory, with everything a version keeps of it.

    `content`: file, see Form; directory, the id of its entries map (empty: no entries); symlink, its target.
    `tiny`: directory only, the id of its tiny map (empty: no tiny files).
    `size`: file, its bytes; symlink, its target's bytes; directory, the bytes of all regular files below it.
    `files`: directory only, the number of entries below it that are no directories.
    `hole_bytes`: file only, the bytes that are holes. `rdev`: devices only.
    `linked`: the name is one of several hard links in the version; the commit's link map says which belong together.
    `xattrs`: (name, value) pairs sorted by name. `mtime_ns` may be negative.
    """

    name: Name
    kind: Kind
    mode: ModeBits
    uid: U32
    gid: U32
    mtime_ns: int
    size: U63 = 0
    content: TargetOrId = b""
    form: Form = Form.EMPTY
    tiny: IdOrEmpty = b""
    files: U63 = 0
    hole_bytes: U63 = 0
    rdev: U63 = 0
    linked: bool = False
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


class TinyItem(msgspec.Struct, frozen=True, array_like=True):
    """One tiny file's bytes, under its name."""

    name: Name
    data: Annotated[bytes, msgspec.Meta(min_length=1)]


class ChunkRef(msgspec.Struct, frozen=True, array_like=True):
    """A run of a file: a chunk, or a hole of any length where `id` is empty."""

    id: IdOrEmpty
    size: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class LinkItem(msgspec.Struct, frozen=True, array_like=True):
    """One path of a group of hard links, relative to the version's root.

    `leader` is the group's smallest path. The leader's own item lists all `members` sorted, itself first; the others'
    lists are empty.
    """

    name: bytes
    leader: bytes
    members: tuple[bytes, ...] = ()


class ChildRef(msgspec.Struct, frozen=True, array_like=True):
    """A node as its parent node names it.

    `key`: the last name below it; in a chunk list the first 8 bytes of the last chunk's id (empty: a hole).
    `files` and `size`: sums over all items below (`Entry.files`, `Entry.size`, `ChunkRef.size`).
    """

    key: bytes
    id: Id
    items: U63
    files: U63
    size: U63


class Commit(msgspec.Struct, frozen=True, array_like=True):
    """One version: its root directory, where it comes from, who made it, when and why.

    `number`: its position on the first-parent history, from 1. `root`: an Entry whose name is empty.
    `links`: root of the link map (path to LinkItem), empty without hard links. `time_ns` never precedes the parents'.
    `meta`: free pairs sorted by key.
    """

    number: Count
    parents: tuple[Id, ...]
    root: Entry
    links: IdOrEmpty
    time_ns: Moment
    author: str
    message: str
    meta: tuple[tuple[str, str], ...] = ()


class Version(msgspec.Struct, frozen=True):
    """A commit with its id: what a resolved name gives."""

    id: CommitId
    commit: Commit

    @property
    def name(self) -> str:
        """`v12`: what people call it."""
        return f"v{self.commit.number}"


EMPTY_CONTENT = Content()


def kept_time(time_ns: int) -> int:
    """Returns the nearest time that can be kept, as every Linux filesystem does where its times end."""
    return min(max(time_ns, TIME_NS_MIN), TIME_NS_MAX)


def content_of(entry: Entry, tiny: bytes = b"") -> Content:
    """Returns the content of a regular file's entry; `tiny` is its item in the tiny map where the form is TINY."""
    return Content(entry.form, entry.content, entry.size, entry.hole_bytes, tiny)
