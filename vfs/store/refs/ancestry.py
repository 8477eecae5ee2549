"""Ancestry: a commit's place on its first-parent history, so that ancestors are found by number and by time.

Each commit has one row, whatever the number of branches that it is on: its number, its time, its parent, and a skip
pointer to an ancestor further down. Skip pointers are as long as skew-binary numbers make them: any ancestor is reached
in a number of steps logarithmic in the distance, and a new row needs the rows of three commits alone.
Reasons: decision 5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from vfs.errors import Corrupt
from vfs.model.ids import ID_BYTES, CommitId
from vfs.model.objects import Commit
from vfs.store.lmdb_tables import Batch
from vfs.store.memory_tables import MemoryTables

ANCESTRY = "lineage"
"""The table of these rows, by its name in the format."""

_ROW = struct.Struct(f"<Qq{ID_BYTES}s{ID_BYTES}s")
_NONE = bytes(ID_BYTES)

WritableTables = Batch | MemoryTables
"""What tables are written through."""
Get = Callable[[str, bytes], bytes | None]
"""Returns the value of a table's key."""
RowOf = Callable[[bytes], "AncestryRow | None"]
"""Returns a commit's row; None for an empty id."""


class AncestryRow(NamedTuple):
    """A commit's place. `parent` and `skip` are empty where the history ends or cannot be followed.

    `number` 0 stands for a commit that could not be read: all that is known is where the ref was before, its `parent`.
    """

    number: int
    time_ns: int
    parent: bytes
    skip: bytes


def row_of(get: Get, commit_id: bytes) -> AncestryRow | None:
    """Returns a commit's row."""
    value = get(ANCESTRY, commit_id) if commit_id else None
    return None if value is None else decode_row(value)


def decode_row(value: bytes) -> AncestryRow:
    """Returns a row of the table."""
    number, time_ns, parent, skip = _ROW.unpack(value)
    return AncestryRow(number, time_ns, b"" if parent == _NONE else parent, b"" if skip == _NONE else skip)


def ancestor_at(
    row_at: RowOf, head: bytes, is_above: Callable[[AncestryRow], bool]
) -> tuple[CommitId, AncestryRow] | None:
    """Returns the first commit of a history, from its head down, for which `is_above` is not true; None if for all.

    Once it is not true it is not true for any commit below. Commits that could not be read are skipped.
    """
    current, row = head, row_at(head)
    while row is not None:
        if row.number and not is_above(row):
            return CommitId(current), row
        skipped = row_at(row.skip)
        if skipped is not None and is_above(skipped):
            current, row = row.skip, skipped
        else:
            current, row = row.parent, row_at(row.parent)
    return None


def extend(batch: WritableTables, new: CommitId, before: bytes, get_commit: Callable[[CommitId], Commit]) -> None:
    """Gives a commit, and those below it that have none, their rows; `before` is where the ref was that moved to it."""
    todo: list[tuple[CommitId, Commit]] = []
    current: bytes = new
    while current:
        row = row_of(batch.get, current)
        if row is not None and row.number:
            break
        try:
            commit = get_commit(CommitId(current))
        except Corrupt:
            if not todo:
                _put(batch, current, AncestryRow(0, 0, before if before != current else b"", b""))
                return
            # Its child gives its number; the ref's position before it gives what is below it.
            _put_unread(batch, current, row.parent if row is not None else b"", todo[-1][1])
            break
        todo.append((CommitId(current), commit))
        current = commit.parents[0] if commit.parents and commit.number > 1 else b""
    for commit_id, commit in reversed(todo):
        parent = commit.parents[0] if commit.parents and commit.number > 1 else b""
        _put(batch, commit_id, _placed(batch, commit.number, commit.time_ns, parent))


def _put_unread(batch: WritableTables, commit_id: bytes, parent: bytes, child: Commit) -> None:
    below = ancestor_at(partial(row_of, batch.get), parent, lambda row: row.number > child.number - 2)
    _put(batch, commit_id, _placed(batch, child.number - 1, child.time_ns, below[0] if below is not None else b""))


def _placed(batch: WritableTables, number: int, time_ns: int, parent: bytes) -> AncestryRow:
    """Returns the row of a commit above another one."""
    above = row_of(batch.get, parent)
    if above is None or above.number != number - 1:
        # What the commit says of its number does not fit; it stands alone.
        return AncestryRow(number, time_ns, b"", b"")
    skipped = row_of(batch.get, above.skip)
    further = row_of(batch.get, skipped.skip) if skipped is not None else None
    if skipped is not None and further is not None and above.number - skipped.number == skipped.number - further.number:
        return AncestryRow(number, time_ns, parent, skipped.skip)
    return AncestryRow(number, time_ns, parent, parent)


def _put(batch: WritableTables, commit_id: bytes, row: AncestryRow) -> None:
    batch.put(ANCESTRY, commit_id, _ROW.pack(row.number, row.time_ns, row.parent or _NONE, row.skip or _NONE))
