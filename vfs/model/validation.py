"""Validation of decoded values: what no type says of an entry, a reference or a path, checked before use.

An id is checked where an object is read, so bytes are as they were stored, perhaps by a hostile or a faulty program.
Values that pass can be shown by a mount, written by an export and counted without a surprise. fsck checks that objects
agree with each other. Limits: docs/format.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import attrgetter

from vfs.model.ids import ID_BYTES
from vfs.model.names import is_name
from vfs.model.objects import SYMLINK_BYTES_MAX, XATTR_BYTES_MAX, ChildRef, ChunkRef, Entry, Form, Kind, LinkItem

SIZE_MAX = 2**63 - 1
"""Most bytes, files or items that a file, a directory or a version can have: offsets of the system end there."""
CHUNK_BYTES_MAX = 16 * 1024 * 1024
XATTR_NAME_BYTES_MAX = 255
PATH_BYTES_MAX = 64 * 1024
"""Of a path in the map of hard links."""

_outline = attrgetter("kind", "form", "tiny", "rdev", "files", "hole_bytes", "linked")
_content, _size, _files, _items, _xattrs = map(attrgetter, ("content", "size", "files", "items", "xattrs"))

_id = attrgetter("id")

_DEVICES = (Kind.CHAR, Kind.BLOCK)


def entries_fault(entries: Sequence[Entry]) -> str:
    """Returns what about entries cannot be; empty where all can."""
    sizes = list(map(_size, entries))
    kinds: set[int] = set()
    has_holes = False
    # Most files have the same outline: it is looked at once.
    for outline, content, has_size in set(
        zip(map(_outline, entries), map(len, map(_content, entries)), map(bool, sizes), strict=True)
    ):
        fault = _outline_fault(outline, content, has_size)
        if fault:
            return fault
        kinds.add(outline[0])
        has_holes = has_holes or outline[5] > 0
    if sum(sizes) > SIZE_MAX or (Kind.DIR in kinds and sum(map(_files, entries)) > SIZE_MAX):
        return "sizes are larger together than any can be"
    if has_holes and any(entry.hole_bytes > entry.size for entry in entries):
        return "a file has more holes than bytes"
    if Kind.SYMLINK in kinds:
        for entry in entries:
            if entry.kind == Kind.SYMLINK and (b"\0" in entry.content or len(entry.content) != entry.size):
                return "a symbolic link has a target that none can have"
    return next(filter(None, map(xattrs_fault, filter(None, map(_xattrs, entries)))), "")


def _outline_fault(outline: tuple[int, int, bytes, int, int, int, bool], content: int, has_size: bool) -> str:
    kind, form, tiny, rdev, files, hole_bytes, is_linked = outline
    if kind != Kind.DIR and (tiny or files):
        return "it has what only directories have"
    if rdev and kind not in _DEVICES:
        return "it has a device number and is no device"
    if kind == Kind.FILE:
        if form == Form.EMPTY:
            return "a file is empty and has content" if content or has_size or hole_bytes else ""
        if content != ID_BYTES or not has_size or (hole_bytes and form != Form.LIST):
            return "a file's content has no id, no size or no list of its holes"
        return ""
    if form or hole_bytes:
        return "it has content that its kind cannot have"
    if kind == Kind.DIR:
        return "a directory's content has no id" if {content, len(tiny)} - {0, ID_BYTES} or is_linked else ""
    if kind == Kind.SYMLINK:
        return "" if 1 <= content <= SYMLINK_BYTES_MAX else "a symbolic link has no target"
    return "it has content that its kind cannot have" if content or has_size else ""


def xattrs_fault(xattrs: Sequence[tuple[bytes, bytes]]) -> str:
    """Returns what about extended attributes cannot be."""
    names = [name for name, _ in xattrs]
    if any(not 0 < len(name) <= XATTR_NAME_BYTES_MAX or b"\0" in name for name in names):
        return "an extended attribute has a name that none can have"
    if any(left >= right for left, right in pairwise(names)):
        return "extended attributes are out of order"
    if sum(len(name) + len(value) for name, value in xattrs) > XATTR_BYTES_MAX:
        return "extended attributes are too large"
    return ""


def children_fault(children: Sequence[ChildRef]) -> str:
    """Returns what about a node's references to its children cannot be."""
    if not all(map(_items, children)):
        return "a child has no items"
    if max(sum(map(_items, children)), sum(map(_files, children)), sum(map(_size, children))) > SIZE_MAX:
        return "its children have more together than any can have"
    return ""


def runs_fault(runs: Sequence[ChunkRef]) -> str:
    """Returns what about a part of a file's chunk list cannot be."""
    sizes = list(map(_size, runs))
    if not set(map(len, map(_id, runs))) <= {0, ID_BYTES}:
        return "a chunk has no valid id"
    if sum(sizes) > SIZE_MAX:
        return "its runs are longer together than any file"
    if max(sizes) > CHUNK_BYTES_MAX and any(run.id and run.size > CHUNK_BYTES_MAX for run in runs):
        return "a chunk is larger than any can be"
    return ""


def links_fault(links: Iterable[LinkItem]) -> str:
    """Returns what about a part of the map of hard links cannot be."""
    for link in links:
        if not (is_path(link.name) and is_path(link.leader) and all(map(is_path, link.members))):
            return "it holds a path that no file can have"
    return ""


def is_path(path: bytes) -> bool:
    """True if bytes can be the path of something below a version's root."""
    return len(path) <= PATH_BYTES_MAX and all(map(is_name, path.split(b"/")))
