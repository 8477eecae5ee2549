"""The committed objects that working layers refer to, read from their files; other processes may have them open."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import msgspec

from vfs.backend.rooted_path import RootedPath
from vfs.model.ids import CommitId
from vfs.model.names import BRANCH_NAME_BYTES_MAX, ref_name_fault
from vfs.model.objects import Entry
from vfs.overlay.journal.framing import StoredRecord, read_heading, scan
from vfs.overlay.journal.journal_records import Base, Graft, InodeRecord, decode_stored
from vfs.overlay.journal.record_types import RecordType
from vfs.overlay.journal.torn_tail import damaged, extent_of
from vfs.overlay.layer_files import BASE_NAME, JOURNALS


class References(msgspec.Struct):
    """A layer's base commit, the first generation of its journals on that base, and its grafted committed content.

    Each grafted entry comes with the directory that has its bytes if it is a tiny file. After a compaction entries of
    the base version are among them. `below`: the commit whose tree the layer changes, if it is not `base`.
    """

    base: CommitId | None = None
    below: CommitId | None = None
    generation: int = 0
    grafted: list[tuple[Entry, Entry | None]] = []


def references(directory: RootedPath) -> References:
    """Returns the references of the working layer in a directory. Raises Corrupt if its files are damaged."""
    base = directory / BASE_NAME
    while base.exists():
        found = References()
        try:
            for path in (base, *directory.glob(JOURNALS)):
                _take(path, found)
        except FileNotFoundError:
            # A commit or a compaction has consumed it meanwhile; its references may be in a newer file.
            continue
        return found
    return References()


def base_reference(directory: RootedPath) -> References:
    """Returns the base of a working layer and the first generation on it, without grafted content. Raises Corrupt."""
    found = References()
    # A layer that was just removed has no base.
    with contextlib.suppress(FileNotFoundError):
        _take(directory / BASE_NAME, found)
    return found


def layers(work: RootedPath) -> Iterator[RootedPath]:
    """Yields the directories of all working layers below a repository's `work`, mounted or not."""
    yield from (path for path in layer_directories(work) if (path / BASE_NAME).exists())


def layer_directories(work: RootedPath) -> Iterator[RootedPath]:
    """Yields the directories that may hold working layers: those whose name can be a branch's."""
    for path in work.glob("*"):
        if not ref_name_fault(path.name, BRANCH_NAME_BYTES_MAX) and path.is_dir():
            yield path


def _records(path: RootedPath) -> Iterator[StoredRecord]:
    """Yields the records of a journal, to which another process may append; changes nothing.

    Raises Corrupt if a part that was durable is damaged.
    """
    fd = path.open(os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        heading, start = read_heading(fd, path, size)
        extent = extent_of(fd, heading, start, size, is_thorough=True)
        if extent.gaps or (heading.is_checkpoint and not extent.is_closed):
            raise damaged(path, extent)
        yield from scan(fd, heading, start, extent.end)
    finally:
        os.close(fd)


def _take(path: RootedPath, found: References) -> None:
    for record in _records(path):
        if record.type not in (RecordType.BASE, RecordType.GRAFT, RecordType.INODE):
            continue
        match decode_stored(record):
            case Base(generation=generation, base=base, below=below):
                found.generation, found.base = generation, CommitId(base) if base else None
                found.below = CommitId(below) if below else None
            case Graft(entry=entry, directory=holder) | InodeRecord(lower=entry, directory=holder) if entry is not None:
                found.grafted.append((entry, holder))
            case _:
                pass
