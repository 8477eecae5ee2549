"""Sums over changed paths, renames included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from vfs.history.diff import file_bytes
from vfs.history.renames import AnyChange, Rename
from vfs.model.objects import Entry


class Totals(msgspec.Struct):
    """Sums over changes: paths by kind of change, and the bytes of the regular files among them."""

    added: int = 0
    modified: int = 0
    removed: int = 0
    renamed: int = 0
    new_bytes: int = 0
    old_bytes: int = 0

    def add(self, change: AnyChange) -> None:
        """Counts one change; a directory that moved is one, with all of its bytes."""
        if change.kind == "added":
            self.added += 1
        elif change.kind == "modified":
            self.modified += 1
        elif change.kind == "removed":
            self.removed += 1
        else:
            self.renamed += 1
        self.new_bytes += _bytes_of(change, change.new)
        self.old_bytes += _bytes_of(change, change.old)

    def __bool__(self) -> bool:
        return bool(self.added or self.modified or self.removed or self.renamed)


def counted(changes: Iterable[AnyChange], totals: Totals) -> Iterator[AnyChange]:
    """Yields the changes and counts each as it passes."""
    for change in changes:
        totals.add(change)
        yield change


def _bytes_of(change: AnyChange, entry: Entry | None) -> int:
    return entry.size if isinstance(change, Rename) and entry is not None else file_bytes(entry)
