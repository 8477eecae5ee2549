"""POSIX access lists: their effect on modes, and the effect of modes on them, which the kernel leaves to us.

A list is the value of an extended attribute: a version number, then entries of tag, permissions and id.
"""

from __future__ import annotations

import struct

from vfs.errors import InvalidInput

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"

_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_TAGS = frozenset((_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER))
_NEEDED = frozenset((_USER_OBJ, _GROUP_OBJ, _OTHER))
_EXTENDED = frozenset((_USER, _GROUP, _MASK))

_Entries = list[tuple[int, int, int]]


def _decode(value: bytes) -> _Entries:
    if len(value) < _HEADER.size or (len(value) - _HEADER.size) % _ENTRY.size:
        raise InvalidInput("an access list of a wrong length")
    (version,) = _HEADER.unpack_from(value)
    entries = list(_ENTRY.iter_unpack(value[_HEADER.size :]))
    tags = {tag for tag, _, _ in entries}
    if version != _VERSION or tags - _TAGS or not tags >= _NEEDED or any(rights > 7 for _, rights, _ in entries):
        raise InvalidInput("an access list that makes no sense")
    return entries


def _encode(entries: _Entries) -> bytes:
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in entries)


def _shift(tag: int, tags: set[int]) -> int | None:
    """Returns the position in the mode of an entry's rights; None for an entry that the mode does not show."""
    if tag == _USER_OBJ:
        return 6
    if tag == _OTHER:
        return 0
    # With a mask the mode's middle digit is the mask, and the owning group has rights of its own.
    return 3 if tag == (_MASK if _MASK in tags else _GROUP_OBJ) else None


def mode_of(value: bytes) -> tuple[int, bool]:
    """Returns the permission bits of a list, and True if it has entries that the bits cannot express."""
    entries = _decode(value)
    tags = {tag for tag, _, _ in entries}
    mode = 0
    for tag, rights, _ in entries:
        shift = _shift(tag, tags)
        if shift is not None:
            mode |= rights << shift
    return mode, bool(tags & _EXTENDED)


def with_mode(value: bytes, mode: int) -> bytes:
    """Returns a list after a chmod."""
    entries = _decode(value)
    tags = {tag for tag, _, _ in entries}
    changed: _Entries = []
    for tag, rights, number in entries:
        shift = _shift(tag, tags)
        changed.append((tag, rights if shift is None else mode >> shift & 7, number))
    return _encode(changed)


def inherited(default: bytes, mode: int) -> tuple[bytes, int]:
    """Returns the list and the mode of a file created with a mode in a directory with a default list.

    Neither grants a right that the other denies. The umask does not apply.
    """
    entries = _decode(default)
    tags = {tag for tag, _, _ in entries}
    result: _Entries = []
    for tag, rights, number in entries:
        shift = _shift(tag, tags)
        if shift is not None:
            rights &= mode >> shift
            mode &= ~(7 << shift) | rights << shift
        result.append((tag, rights, number))
    return _encode(result), mode
