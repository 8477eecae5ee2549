"""What working layers need of committed content: asked from outside, of layers that other processes may have open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from vfs.model.ids import CommitId
from vfs.model.objects import Entry
from vfs.overlay.journal import read_records
from vfs.overlay.opening import BASE_NAME, JOURNALS
from vfs.overlay.records import Base, Graft, RecordType


class References(msgspec.Struct):
    """The commit that a layer stands on, from a generation of its journal on, and committed content that it was given.

    Each grafted entry comes with the directory that has its bytes where it is a tiny file.
    """

    base: CommitId | None = None
    generation: int = 0
    grafted: list[tuple[Entry, Entry | None]] = []


def references(directory: Path) -> References:
    """Returns what the working layer in a directory refers to. Raises Corrupt where its files cannot tell."""
    found = References()
    for path in (directory / BASE_NAME, *sorted(directory.glob(JOURNALS))):
        try:
            _take(path, found)
        except FileNotFoundError:
            # A commit that ended meanwhile has taken it up.
            continue
    return found


def layers(work: Path) -> Iterator[Path]:
    """Yields the directories of all working layers below a repository's `work`, mounted or not."""
    yield from sorted(path.parent for path in work.glob(f"[!.]*/{BASE_NAME}"))


def _take(path: Path, found: References) -> None:
    for record in read_records(path):
        if record.type not in (RecordType.BASE, RecordType.GRAFT):
            continue
        match record.decode():
            case Base(generation=generation, base=base):
                found.generation, found.base = generation, CommitId(base) if base else None
            case Graft(entry=entry, directory=holder) if entry is not None:
                found.grafted.append((entry, holder))
            case _:
                pass
