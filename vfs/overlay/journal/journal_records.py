"""The records of a journal. Fields are encoded as MessagePack arrays in the order written here.

A record holds the result of a change (times, numbers, modes), never its cause, so that a replay needs neither a clock
nor rules. New fields are added at the end, with a default.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec

from vfs.errors import Corrupt, Unsupported
from vfs.model.decoding import Count
from vfs.model.names import is_name
from vfs.model.objects import SYMLINK_BYTES_MAX, U32, U63, Entry, IdOrEmpty, Kind, ModeBits, Name
from vfs.model.validation import entries_fault, xattrs_fault
from vfs.overlay.journal.framing import StoredRecord
from vfs.overlay.journal.record_types import TYPES, RecordType
from vfs.overlay.journal.recovery_hints import NEWER_HINT
from vfs.overlay.layer_nodes import Place

KindNumber = Annotated[int, msgspec.Meta(ge=int(min(Kind)), le=int(max(Kind)))]


class Record(msgspec.Struct, frozen=True, array_like=True):
    """Base of all records."""


class CopyUp(Record, frozen=True, array_like=True):
    """Copy-up: an inode of a lower layer gets an equal node in this one. `places`: all its names there."""

    ino: U63
    places: tuple[Place, ...]


class Create(Record, frozen=True, array_like=True):
    """A new inode gets its first name. `mode` has no file-type bits."""

    ino: U63
    parent: U63
    name: Name
    kind: KindNumber
    mode: ModeBits
    uid: U32
    gid: U32
    rdev: U63
    time_ns: int
    target: bytes = b""


class Write(Record, frozen=True, array_like=True):
    """The record's data is the file's content at `offset` from now on."""

    ino: U63
    offset: U63
    time_ns: int


class SetAttributes(Record, frozen=True, array_like=True):
    """Sets the attributes that are not None. `time_ns` is the change time."""

    ino: U63
    time_ns: int
    mode: ModeBits | None = None
    uid: U32 | None = None
    gid: U32 | None = None
    size: U63 | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


class Link(Record, frozen=True, array_like=True):
    """An inode gets one more name."""

    ino: U63
    parent: U63
    name: Name
    time_ns: int


class Unlink(Record, frozen=True, array_like=True):
    """A name is removed, of a directory too."""

    parent: U63
    name: Name
    time_ns: int


class Rename(Record, frozen=True, array_like=True):
    """A name moves, in place of another that may be there; with `exchange` the two change places."""

    parent: U63
    name: Name
    new_parent: U63
    new_name: Name
    exchange: bool
    time_ns: int


class SetXattr(Record, frozen=True, array_like=True):
    """An extended attribute gets a value, or is removed (None)."""

    ino: U63
    name: Name
    value: bytes | None
    time_ns: int


class Graft(Record, frozen=True, array_like=True):
    """Committed content replaces the inode that a name stands for; None removes the name.

    `parent` 0 means the root itself. A directory replaces a directory by taking over its number `ino`.
    `directory` is the committed directory that holds `entry`: it has the bytes of tiny files.
    """

    ino: U63
    parent: U63
    name: Name
    entry: Entry | None
    directory: Entry | None
    time_ns: int


class Synced(Record, frozen=True, array_like=True):
    """Everything before this record was durable when it was written: an opening need not check it."""


class Base(Record, frozen=True, array_like=True):
    """From now on `base` is the base version's commit for the journals from `generation` on (empty: no base version).

    `below`: the commit whose tree they change, if it is another one: it includes what a commit has left out.
    `pinned`: (place, number) pairs that are valid on this base; `unpinned`: places whose pins are no longer valid.
    """

    generation: Count
    base: IdOrEmpty
    pinned: tuple[tuple[Place, int], ...] = ()
    unpinned: tuple[Place, ...] = ()
    below: bytes = b""


class Pin(Record, frozen=True, array_like=True):
    """A place of the base version has an inode number that is not derived from its name."""

    place: Place
    ino: U63


# Records of checkpoints only: the state that the records of earlier generations have led to.


class InodeRecord(Record, frozen=True, array_like=True):
    """An inode with all its attributes, and the first of its data; parents precede their children.

    The record's data, if there is any, is the file's content at `offset`. `places`, `origin`, `size`, `lower_size`,
    `base_path` and `subdirs` are those of Node, FileNode and DirNode. `lower` is the committed file or directory below,
    and `directory` the committed directory that holds the file.
    """

    ino: U63
    kind: KindNumber
    mode: ModeBits
    uid: U32
    gid: U32
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    places: tuple[Place, ...]
    origin: Place | None = None
    size: U63 = 0
    offset: U63 = 0
    lower_size: U63 = 0
    lower: Entry | None = None
    directory: Entry | None = None
    base_path: bytes | None = None
    subdirs: U63 | None = None
    rdev: U63 = 0
    target: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


class Data(Record, frozen=True, array_like=True):
    """The record's data is the file's content at `offset`; nothing else about the file changes."""

    ino: U63
    offset: U63


class Whiteouts(Record, frozen=True, array_like=True):
    """Names of a directory that lower layers have and that are deleted here."""

    ino: U63
    names: tuple[bytes, ...]


class Moved(Record, frozen=True, array_like=True):
    """Inodes that have left their place in the base version: `leaders` and `removed` of a layer."""

    leaders: tuple[tuple[bytes, int], ...]
    removed: tuple[int, ...]


class Freed(Record, frozen=True, array_like=True):
    """Stretches of a generation's journal that may be punched out: no file shows that data any more."""

    generation: Count
    ranges: tuple[tuple[U63, U63], ...]


TYPE_OF: dict[type[Record], RecordType] = {
    CopyUp: RecordType.COPY_UP,
    Create: RecordType.CREATE,
    Write: RecordType.WRITE,
    SetAttributes: RecordType.SET_ATTRIBUTES,
    Link: RecordType.LINK,
    Unlink: RecordType.UNLINK,
    Rename: RecordType.RENAME,
    SetXattr: RecordType.SET_XATTR,
    Graft: RecordType.GRAFT,
    Synced: RecordType.SYNCED,
    Base: RecordType.BASE,
    Pin: RecordType.PIN,
    InodeRecord: RecordType.INODE,
    Data: RecordType.DATA,
    Whiteouts: RecordType.WHITEOUTS,
    Moved: RecordType.MOVED,
    Freed: RecordType.FREED,
}

_KINDS = {int(number): kind for kind, number in TYPE_OF.items()}
_DECODERS: dict[int, msgspec.msgpack.Decoder[Record]] = {}
"""Made at a type's first record: most layers are opened to find that nothing has changed."""
_encode = msgspec.msgpack.Encoder().encode


def encode_record(record: Record) -> bytes:
    """Returns a record's meta bytes."""
    return _encode(record)


def decode_record(number: int, meta: bytes) -> Record:
    """Returns a record; raises one of UNDECODABLE, or ValueError for an unknown type or invalid values."""
    decoder = _DECODERS.get(number)
    if decoder is None:
        kind = _KINDS.get(number)
        if kind is None:
            raise ValueError(f"{number} is no type of record")
        decoder = _DECODERS[number] = msgspec.msgpack.Decoder(kind)
    record: Record = decoder.decode(meta)
    fault = _fault(record)
    if fault:
        raise ValueError(fault)
    return record


def decode_stored(found: StoredRecord) -> Record:
    """Returns the record of a journal; raises Corrupt for an invalid one, Unsupported for one of an unknown type."""
    try:
        return decode_record(found.type, found.meta)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        if found.type in TYPES:
            raise Corrupt(f"record {found.seq} is none that a program writes: {error}") from error
        raise Unsupported(
            f"record {found.seq} of the working layer's journal cannot be read: {error}",
            hint=NEWER_HINT,
        ) from error


def _fault(record: Record) -> str:
    """Returns why a record is invalid, or an empty text: the journal may be untrusted, as objects may be."""
    names: tuple[bytes, ...] = ()
    match record:
        case Create(name=name, target=target):
            if b"\0" in target or len(target) > SYMLINK_BYTES_MAX:
                return "a symbolic link has a target that none can have"
            names = (name,)
        case Link(name=name) | Unlink(name=name):
            names = (name,)
        case Rename(name=name, new_name=new_name):
            names = (name, new_name)
        case Graft(parent=parent, name=name, entry=entry, directory=directory):
            names = (name,) if parent else ()
            return _values_fault(names, [found for found in (entry, directory) if found is not None])
        case Whiteouts(names=names):
            pass
        case CopyUp(places=places):
            return "" if places else "an inode has no place"
        case SetXattr(name=name, value=value):
            return xattrs_fault([(name, value or b"")])
        case InodeRecord(lower=entry, directory=directory, xattrs=xattrs):
            return xattrs_fault(xattrs) or _values_fault((), [item for item in (entry, directory) if item is not None])
        case _:
            pass
    return _values_fault(names, [])


def _values_fault(names: Iterable[bytes], entries: Sequence[Entry]) -> str:
    return "it has a name that no file can have" if not all(map(is_name, names)) else entries_fault(entries)
