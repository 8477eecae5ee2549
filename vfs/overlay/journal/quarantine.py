"""Quarantine: torn tails and damaged or lost journals are kept beside a working layer's files, for the user to examine.

No program reads these files, and the user may remove them at any time. A program removes only the oldest torn tails, if
there would be more than a few (docs/durability.md, W3).
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from vfs.backend.durable import write_at
from vfs.backend.rooted_path import RootedPath

CUT_SUFFIX = ".cut"
"""Suffix of the torn tail of a journal."""
LOST_SUFFIX = ".lost"
"""Suffix of a journal that cannot count because the one before it has lost its end."""
DAMAGED_SUFFIX = ".damaged"
"""Suffix of a damaged file whose undamaged records a recovery has taken over."""

_CUTS_MAX = 4
_PIECE_BYTES = 1024 * 1024


class Quarantined(NamedTuple):
    """A torn tail of `size` bytes without the zeros at its end, and its file (None: the disk had no space for it)."""

    path: RootedPath | None
    size: int


def quarantined_files(directory: RootedPath) -> list[RootedPath]:
    """Returns the quarantined files of a working layer."""
    return [path for suffix in (CUT_SUFFIX, LOST_SUFFIX, DAMAGED_SUFFIX) for path in directory.glob(f"*{suffix}*")]


def quarantine_torn_tail(path: RootedPath, fd: int, start: int, end: int) -> Quarantined:
    """Copies the torn tail of a journal to a file of its own, before it is cut off; durable on return."""
    size = _bytes_of(fd, start, end)
    if not size:
        return Quarantined(None, 0)
    kept = path.with_name(f"{path.name}-{start}{CUT_SUFFIX}")
    try:
        for old in _cuts(path.parent)[: 1 - _CUTS_MAX]:
            old.unlink(missing_ok=True)
        _copy(fd, start, size, kept)
        path.parent.sync()
    except OSError:
        # On a full disk the layer must open all the same.
        with contextlib.suppress(OSError):
            kept.unlink(missing_ok=True)
        return Quarantined(None, size)
    return Quarantined(kept, size)


def quarantine_copy(path: RootedPath) -> RootedPath:
    """Copies a damaged file to a quarantined one; durable on return. Raises OSError."""
    kept = quarantine_path(path)
    fd = path.open(os.O_RDONLY)
    try:
        _copy(fd, 0, os.fstat(fd).st_size, kept)
    finally:
        os.close(fd)
    path.parent.sync()
    return kept


def quarantine_path(path: RootedPath) -> RootedPath:
    """Returns a free path for a quarantined damaged file."""
    number = 0
    while (kept := path.with_name(f"{path.name}{DAMAGED_SUFFIX}{number or ''}")).exists():
        number += 1
    return kept


def _cuts(directory: RootedPath) -> list[RootedPath]:
    """Returns the torn tails in a directory, the oldest first."""
    found = [(path.lstat().st_mtime_ns, path) for path in directory.glob(f"*{CUT_SUFFIX}")]
    return [path for _, path in sorted(found)]


def _bytes_of(fd: int, start: int, end: int) -> int:
    """Returns how many bytes a stretch has without the zeros at its end, which a power cut leaves."""
    at = start
    size = 0
    while at < end and (piece := os.pread(fd, min(_PIECE_BYTES, end - at), at)):
        whole = len(piece.rstrip(b"\0"))
        if whole:
            size = at - start + whole
        at += len(piece)
    return size


def _copy(fd: int, start: int, size: int, target: RootedPath) -> None:
    out = target.create()
    try:
        for at in range(0, size, _PIECE_BYTES):
            write_at(out, at, [os.pread(fd, min(_PIECE_BYTES, size - at), start + at)])
        os.fsync(out)
    finally:
        os.close(out)
