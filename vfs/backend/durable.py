"""Whole reads, whole writes and fsync: what one system call alone does not promise (docs/durability.md)."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vfs.backend.protocol import Buffer

OnStep = Callable[[str], None]
"""Called with the name of a step just before it changes what a crash would leave; tests raise from it."""


def step(on_step: OnStep | None, name: str) -> None:
    """Announces a durable step."""
    if on_step is not None:
        on_step(name)


def read_at(descriptor: int, offset: int, size: int) -> bytes:
    """Returns the bytes at an offset of a file; fewer only at its end."""
    data = os.pread(descriptor, size, offset)
    if len(data) == size or not data:
        return data
    pieces = [data]
    done = len(data)
    while done < size:
        data = os.pread(descriptor, size - done, offset + done)
        if not data:
            break
        pieces.append(data)
        done += len(data)
    return b"".join(pieces)


def read_into_at(descriptor: int, offset: int, buffer: memoryview) -> int:
    """Fills a buffer from an offset of a file; returns the number of bytes, fewer than asked only at its end."""
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [buffer[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done


def write_at(descriptor: int, offset: int, parts: Sequence[Buffer]) -> None:
    """Writes all bytes of the parts, one after the other, from an offset of a file."""
    for part in parts:
        view = memoryview(part)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view = view[written:]
            offset += written


def sync(descriptor: int) -> None:
    """Makes what was written to a file, or the names in a directory, durable; nothing within `unsynced`."""
    if not _unsynced:
        os.fsync(descriptor)


_unsynced: list[None] = []


@contextmanager
def unsynced() -> Iterator[None]:
    """Makes nothing durable meanwhile: for a process that writes nothing but what can be fetched again.

    What it writes survives the end of the process, and no power cut.
    """
    _unsynced.append(None)
    try:
        yield
    finally:
        _unsynced.pop()


def is_synced() -> bool:
    """Returns False within `unsynced`."""
    return not _unsynced


def sync_below(directory: Path, but: Container[str]) -> None:
    """Makes all files and names below a directory durable, without those in `but`; follows no links.

    A lock file of LMDB has to be in `but`: closing it would release the locks of this process.
    """
    for _, folders, names, descriptor in os.fwalk(directory):
        folders[:] = [name for name in folders if name not in but]
        for name in names:
            if name in but:
                continue
            with suppress(FileNotFoundError, IsADirectoryError):
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
                try:
                    os.fsync(file)
                finally:
                    os.close(file)
        os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable. Follows links: for directories outside of a repository's files."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
