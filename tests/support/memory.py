"""Directories in memory, for tests of syncs that need no disk.

A test that stops at every durable step, or that replays recorded writes, calls fsync thousands of times and learns
nothing from the disk: on a slow one it waits for minutes.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_PLACE = Path("/dev/shm")
_BYTES_FREE_MIN = 2 << 30
"""Containers often have 64 MiB there, which is too little."""


@cache
def memory_place() -> Path | None:
    """Returns a filesystem in memory with enough room and with extended attributes, None where there is none."""
    if not (_PLACE.is_dir() and os.access(_PLACE, os.W_OK)):
        return None
    room = os.statvfs(_PLACE)
    if room.f_bavail * room.f_frsize < _BYTES_FREE_MIN:
        return None
    with tempfile.NamedTemporaryFile(dir=_PLACE) as probe:
        try:
            os.setxattr(probe.name, "user.probe", b"1")
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                return None
            raise
    return _PLACE


@contextmanager
def memory_directory(otherwise: Path | None = None) -> Iterator[Path]:
    """Yields a new directory in memory, removed at the end; `otherwise` (None: a temporary one) where there is none."""
    place = memory_place()
    if place is None and otherwise is not None:
        yield otherwise
        return
    directory = Path(tempfile.mkdtemp(prefix="vfs-tests-", dir=place))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
