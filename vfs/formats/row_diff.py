"""Which rows of two tables differ: exactly, by the text of their cells, in memory that does not follow their size.

Rows that both sides have count as the same, as often as both have them and wherever they stand. Of the others, those
with the same key are one row that changed; without a key a row was added or removed as a whole.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice, repeat, takewhile, zip_longest
from operator import eq, itemgetter
from typing import Any, NamedTuple

from vfs.formats.detail import EXAMPLES_MAX
from vfs.formats.row_spool import Row, Spool, Table, Workspace, check_cells

_KEYS_TRIED = 8
_SAMPLE_ROWS = 1000
_ROWS_AT_ONCE = 1_000_000
"""Rows that are in memory at a time: of larger tables those of one part of all hashes after the other."""


class Shared(NamedTuple):
    """Columns of two tables, as numbers: the common ones on both sides in the order of the old, and the others."""

    old: Sequence[int]
    new: Sequence[int]
    removed: Sequence[int]
    added: Sequence[int]


class Change(NamedTuple):
    """A row that differs: its cells in the common columns, None for the side that lacks it."""

    old: Row | None
    new: Row | None


class Differences(NamedTuple):
    """What differs between the rows.

    `by_column` counts changed cells by common column, `repeated` the keys that more than one of these rows has. The
    `examples` are the first changes.
    """

    added: int
    removed: int
    changed: int
    by_column: dict[int, int]
    examples: list[Change]
    repeated: int


def shared_columns(old: Table, new: Table) -> Shared:
    """Returns which columns are the same: those of one name, the first with the first, the second with the second."""
    before, after = _numbered(old.columns), _numbered(new.columns)
    common = [name for name in before if name in after]
    return Shared(
        [before[name] for name in common],
        [after[name] for name in common],
        [number for name, number in before.items() if name not in after],
        [number for name, number in after.items() if name not in before],
    )


def _numbered(names: Sequence[str]) -> dict[tuple[str, int], int]:
    seen: Counter[str] = Counter()
    found = {}
    for number, name in enumerate(names):
        found[name, seen[name]] = number
        seen[name] += 1
    return found


def aligned(table: Table, columns: Sequence[int], workspace: Workspace) -> Spool:
    """Returns the rows with these columns alone, in this order."""
    if list(columns) == list(range(len(table.columns))):
        return table.spool
    check_cells(len(table.spool) * len(columns))
    spool = workspace.spool()
    for row in table.spool.rows():
        size = len(row)
        spool.add([row[at] if at < size else None for at in columns])
    return spool


def find_key(old: Spool, new: Spool, columns: int) -> int | None:
    """Returns the first of the columns whose values are unique on both sides and partly the same, or None."""
    for at in range(min(columns, _KEYS_TRIED)):
        if all(_may_be_unique(spool, at) for spool in (old, new)):
            before, after = _hashes(old, at), _hashes(new, at)
            if before is not None and after is not None and _is_key(before, after):
                return at
    return None


def differences(old: Spool, new: Spool, columns: int, key: int | None, examples_max: int = EXAMPLES_MAX) -> Differences:
    """Returns which rows of two tables with the same columns differ, followed by column `key` where there is one."""
    gone, came = _left_over(old, new)
    if key is None:
        changes: Iterator[tuple[int | None, int | None]] = chain(zip(repeat(None), came), zip(gone, repeat(None)))
        return _Changes(old, new, columns, None, examples_max).counted(changes)
    found = _Changes(old, new, columns, key, examples_max)
    return found.counted(found.by_key(gone, came))


def is_same_order(old: Spool, new: Spool) -> bool:
    """Returns True if two tables have the same rows at the same places."""
    return len(old) == len(new) and all(map(eq, old.lines(), new.lines()))


def _left_over(old: Spool, new: Spool) -> tuple[array[int], array[int]]:
    """Returns the places of the rows that the other side does not have, or not as often."""
    start = sum(1 for _ in takewhile(bool, map(eq, old.lines(), new.lines())))
    end = 0
    while start + end < min(len(old), len(new)) and old.line(len(old) - 1 - end) == new.line(len(new) - 1 - end):
        end += 1
    before, after = range(start, len(old) - end), range(start, len(new) - end)
    parts = max(len(before), len(after)) // _ROWS_AT_ONCE + 1
    gone, came = array("Q"), array("Q")
    for part in range(parts):
        counts = Counter(line for line in map(old.line, before) if hash(line) % parts == part)
        for place in after:
            line = new.line(place)
            if hash(line) % parts != part:
                continue
            if counts.get(line, 0) > 0:
                counts[line] -= 1
            else:
                came.append(place)
        # Of rows that are alike the last are left over.
        for place in reversed(before) if +counts else ():
            line = old.line(place)
            if counts.get(line, 0) > 0:
                counts[line] -= 1
                gone.append(place)
    return array("Q", sorted(gone)), array("Q", sorted(came))


class _Changes:
    """Rows that one side has, grouped by key, counted, with the first of them."""

    def __init__(self, old: Spool, new: Spool, columns: int, key: int | None, examples_max: int) -> None:
        self._old, self._new, self._columns, self._key = old, new, columns, key
        self._examples_max = examples_max
        self._whole = {True: 0, False: 0}
        self._repeated = 0
        self._first: list[tuple[Any, int, Change]] = []
        self._bound: Any = None

    def by_key(self, gone: Sequence[int], came: Sequence[int]) -> Iterator[tuple[int | None, int | None]]:
        """Yields (old place, new place), None for a side without a row of this key."""
        parts = max(len(gone), len(came)) // _ROWS_AT_ONCE + 1
        for part in range(parts):
            rows: dict[str | None, tuple[list[int], list[int]]] = {}
            for side, (spool, places) in enumerate(((self._old, gone), (self._new, came))):
                for place in places:
                    name = self._key_of(spool.row(place))
                    if hash(name) % parts == part:
                        rows.setdefault(name, ([], []))[side].append(place)
            for olds, news in rows.values():
                self._repeated += len(olds) > 1 or len(news) > 1
                yield from zip_longest(olds, news)

    def counted(self, places: Iterator[tuple[int | None, int | None]]) -> Differences:
        """Returns sums over the changes, and the first of them by key, or in their order without one."""
        by_column: Counter[int] = Counter()
        added = removed = changed = 0
        for number, (was, now) in enumerate(places):
            old = None if was is None else self._padded(self._old.row(was))
            new = None if now is None else self._padded(self._new.row(now))
            if old is None:
                added += 1
            elif new is None:
                removed += 1
            else:
                changed += 1
                by_column.update([at for at, (a, b) in enumerate(zip(old, new, strict=True)) if a != b])
            self._keep(number, Change(old, new))
        self._cut()
        examples = [change for _, _, change in self._first]
        return Differences(added, removed, changed, dict(by_column), examples, self._repeated)

    def _padded(self, row: list[str | None]) -> list[str | None]:
        return row + [None] * (self._columns - len(row))

    def _key_of(self, row: Row) -> str | None:
        return row[self._key] if self._key is not None and self._key < len(row) else None

    def _keep(self, number: int, change: Change) -> None:
        """Keeps a change if it may be among the first: by key; of whole rows the added and the removed ones."""
        if self._key is None:
            is_added = change.old is None
            self._whole[is_added] += 1
            if self._whole[is_added] <= self._examples_max:
                self._first.append((0, number, change))
            return
        order = _order((change.new or change.old or [])[self._key])
        if self._bound is None or order < self._bound:
            self._first.append((order, number, change))
            if len(self._first) > 4 * self._examples_max:
                self._cut()
                self._bound = self._first[-1][0]

    def _cut(self) -> None:
        self._first.sort(key=itemgetter(0, 1))
        if self._key is not None:
            del self._first[self._examples_max :]


def _order(cell: str | None) -> tuple[bool, int, str]:
    """Returns the sort key of keys: whole numbers by their value, then other texts."""
    text = cell or ""
    is_number = text.isascii() and text.isdigit() and len(text) < 20
    return (not is_number, int(text) if is_number else 0, text)


def _cells_of(spool: Spool, column: int) -> Iterator[str | None]:
    return (row[column] if column < len(row) else None for row in spool.rows())


def _may_be_unique(spool: Spool, column: int) -> bool:
    """Returns True if the first rows have no value twice, so that it is worth reading all."""
    seen: set[str] = set()
    for cell in islice(_cells_of(spool, column), _SAMPLE_ROWS):
        if not cell or cell in seen:
            return False
        seen.add(cell)
    return bool(seen)


def _hashes(spool: Spool, column: int) -> array[int] | None:
    """Returns the hash of each cell, or None where one has no value."""
    found = array("q")
    for cell in _cells_of(spool, column):
        if not cell:
            return None
        found.append(hash(cell))
    return found


def _is_key(old: array[int], new: array[int]) -> bool:
    # Where two hashes are the same by accident a column is not taken, which loses no more than a comparison by key.
    is_shared = False
    parts = max(len(old), len(new)) // _ROWS_AT_ONCE + 1
    for part in range(parts):
        before = [found for found in old if found % parts == part]
        after = [found for found in new if found % parts == part]
        seen = set(before)
        if len(seen) < len(before) or len(set(after)) < len(after):
            return False
        is_shared = is_shared or not seen.isdisjoint(after)
    return is_shared
