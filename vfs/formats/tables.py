"""Tables: columns and rows of CSV, TSV, JSON Lines and Parquet.

Values are compared as they are written, without a guess at types, and those of Parquet by the text that its types give
them. Rows lie in a temporary directory meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vfs.errors import InvalidInput
from vfs.formats import delimited_text, json_lines, parquet
from vfs.formats.detail import (
    EXAMPLES_MAX,
    Detail,
    Readable,
    cut,
    more_than_shown,
    too_large,
    written_differently,
)
from vfs.formats.quantities import human_count
from vfs.formats.row_diff import Change, Differences, aligned, differences, find_key, is_same_order, shared_columns
from vfs.formats.row_spool import Row, Table, Workspace
from vfs.formats.text_diff import shown_line

QUICK_BYTES_MAX = 32 * 1024 * 1024
"""Tables up to this size are compared in some seconds at most."""
TABLE_BYTES_MAX = 256 * 1024 * 1024
_VALUE_CHARACTERS_MAX = 40
_CELLS_SHOWN = 20
_NAMES_HINTED = 20
ENDINGS = (b".csv", b".tsv", b".jsonl", b".ndjson", b".parquet")
"""The file name extensions that this module knows."""


def describe(
    name: bytes,
    old: Readable,
    new: Readable,
    key: str | None = None,
    *,
    patient: bool = False,
    examples_max: int = EXAMPLES_MAX,
) -> Detail:
    """Returns the columns and rows that differ; of larger tables only where the caller is `patient`.

    `examples_max`: how many changed rows are named; without a key, of added and of removed ones each.

    Rows are followed by `key`, else by the first column whose values are unique on both sides, else compared whole.
    Raises MissingExtra, NotThisFormat, InvalidInput for a key that is no column.
    """
    limit_bytes = TABLE_BYTES_MAX if patient else QUICK_BYTES_MAX
    large = too_large(old, new, limit_bytes, "row by row")
    if large is not None:
        is_possible = max(old.size, new.size) <= TABLE_BYTES_MAX
        return replace(large, lines=[*large.lines, "--full compares them all the same"]) if is_possible else large
    with Workspace() as workspace:
        before, after = _read(name, old, new, workspace)
        return _Comparison(before, after, key, workspace, examples_max).detail()


def _read(name: bytes, old: Readable, new: Readable, workspace: Workspace) -> tuple[Table, Table]:
    if name.endswith(b".parquet"):
        return parquet.read_tables(old, new, workspace)
    if name.endswith((b".csv", b".tsv")):
        return delimited_text.read_table(name, old, workspace), delimited_text.read_table(name, new, workspace)
    return json_lines.read_table(old, workspace), json_lines.read_table(new, workspace)


class _Comparison:
    """Two tables, what differs between them, and the words for it."""

    def __init__(self, old: Table, new: Table, key: str | None, workspace: Workspace, examples_max: int) -> None:
        self.old, self.new = old, new
        self.shared = shared_columns(old, new)
        self.names = _labels([old.columns[at] for at in self.shared.old])
        before, after = aligned(old, self.shared.old, workspace), aligned(new, self.shared.new, workspace)
        self.key = self._named(key) if key is not None else find_key(before, after, len(self.names))
        self.found: Differences = differences(before, after, len(self.names), self.key, examples_max)
        self.is_same_order = is_same_order(before, after)
        pairs = list(zip(self.names, self.shared.old, self.shared.new, strict=True))
        self.retyped = {
            name: (old.types[at], new.types[to])
            for name, at, to in pairs
            if old.types is not None and new.types is not None and old.types[at] != new.types[to]
        }
        self.inexact = {
            name: old.inexact.get(at) or new.inexact[to]
            for name, at, to in pairs
            if at in old.inexact or to in new.inexact
        }

    def _named(self, key: str) -> int:
        if key in self.names:
            return self.names.index(key)
        names = [_shown(name) for name in self.names]
        more = f" and {len(names) - _NAMES_HINTED:,} more" if len(names) > _NAMES_HINTED else ""
        choice = f"Choose one of: {', '.join(names[:_NAMES_HINTED])}{more}." if names else "They have none in common."
        raise InvalidInput(f"{key!r} is no column of both tables", hint=choice)

    def detail(self) -> Detail:
        """Returns all of it."""
        before, after = len(self.old.spool), len(self.new.spool)
        total = human_count(after, "row") if before == after else f"{before:,} → {human_count(after, 'row')}"
        by = f" (by {_shown(self.names[self.key])})" if self.key is not None else ""
        written = [] if self._counts() else self._written()
        lines = [f"{total}: {self._counts() or self._verdict(written)}{by}", *self._column_lines()]
        lines += [f"column {_shown(name)} is not compared to the last bit: {why}" for name, why in self.inexact.items()]
        if self.found.repeated:
            lines.append(f"keys that more than one of these rows has: {self.found.repeated:,}")
        if written or not (self._counts() or self._has_other_columns() or not self.is_same_order):
            lines.append(written_differently(written))
        lines += [self._example_line(change) for change in self.found.examples if self.names]
        return Detail("table", lines + self._more(), self._value(written))

    def _counts(self) -> str:
        counts = {"added": self.found.added, "removed": self.found.removed, "changed": self.found.changed}
        return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)

    def _has_other_columns(self) -> bool:
        return bool(self.shared.added or self.shared.removed or self.retyped)

    def _verdict(self, written: Sequence[str]) -> str:
        """Returns the words where no row differs: they claim no more than was compared."""
        order = "" if self.is_same_order else ", in another order"
        if not self.names and (self.old.columns or self.new.columns):
            return "not compared, no column is on both sides"
        if self.inexact:
            return f"no difference seen{order}"
        if self.shared.added or self.shared.removed:
            return f"no difference in the columns of both{order}"
        if self.retyped:
            return f"no difference but the types of columns{order}"
        return f"the same rows{order}"

    def _written(self) -> list[str]:
        """Returns what differs besides values; asked for only where the rows are the same."""
        facts = []
        for name in dict.fromkeys([*self.old.facts, *self.new.facts]):
            was, now = self.old.facts.get(name, "none"), self.new.facts.get(name, "none")
            if was != now:
                facts.append(f"{name} {_shown(was)} → {_shown(now)}")
        if not self._has_other_columns():
            was_spelt, now_spelt = self.old.spelling(), self.new.spelling()
            names = dict.fromkeys([*was_spelt, *now_spelt])
            facts += [_shown(name) for name in names if was_spelt.get(name) != now_spelt.get(name)]
        if list(self.shared.new) != sorted(self.shared.new) and "order of keys" not in facts:
            facts.append("order of columns")
        return facts

    def _column_lines(self) -> list[str]:
        lines = [f"~ column {_shown(name)}: {_shown(was)} → {_shown(now)}" for name, (was, now) in self.retyped.items()]
        lines += [f"+ column {_shown(self.new.columns[at])}" for at in self.shared.added]
        lines += [f"- column {_shown(self.old.columns[at])}" for at in self.shared.removed]
        return lines[:EXAMPLES_MAX] + more_than_shown(len(lines), "columns")

    def _more(self) -> list[str]:
        found = self.found
        if self.key is not None:
            return more_than_shown(found.added + found.removed + found.changed, "rows")
        return more_than_shown(found.added, "rows added") + more_than_shown(found.removed, "rows removed")

    def _value(self, written: Sequence[str]) -> dict[str, Any]:
        found = self.found
        rows: dict[str, Any] = {"added": found.added, "removed": found.removed}
        if self.key is not None:
            by_column = {self.names[at]: count for at, count in sorted(found.by_column.items())}
            rows |= {"changed": found.changed, "by_column": by_column}
        value: dict[str, Any] = {
            "columns": {
                "added": [self.new.columns[at] for at in self.shared.added],
                "removed": [self.old.columns[at] for at in self.shared.removed],
                "retyped": {name: {"old": was, "new": now} for name, (was, now) in self.retyped.items()},
            },
            "key": self.names[self.key] if self.key is not None else None,
            "rows": {"old": len(self.old.spool), "new": len(self.new.spool)} | rows,
            "examples": [self._example(change) for change in found.examples],
        }
        if not self._counts():
            value |= {"same_order": self.is_same_order, "written_differently": list(written)}
        return value | ({"not_compared": self.inexact} if self.inexact else {})

    def _example(self, change: Change) -> dict[str, Any]:
        before = self._plain(self.old, self.shared.old, change.old)
        after = self._plain(self.new, self.shared.new, change.new)
        if before is None or after is None:
            return {"change": "added" if before is None else "removed", "row": after if before is None else before}
        pairs = zip(self.names, change.old or (), change.new or (), strict=True)
        cells = {name: {"old": before[name], "new": after[name]} for name, was, now in pairs if was != now}
        return {"change": "changed", "key": after[self.names[self.key or 0]], "cells": cells}

    def _plain(self, table: Table, columns: Sequence[int], row: Row | None) -> dict[str, Any] | None:
        if row is None:
            return None
        cells = zip(self.names, columns, row, strict=True)
        return {name: None if cell is None else table.plain(column, cell) for name, column, cell in cells}

    def _example_line(self, change: Change) -> str:
        pairs = zip(self.names, change.old or (), change.new or (), strict=False)
        if change.old is not None and change.new is not None:
            key = "" if self.key is None else _shown(change.new[self.key])
            return f"~ {key}: " + _some([f"{_shown(name)} {_shown_pair(a, b)}" for name, a, b in pairs if a != b])
        row = change.new if change.old is None else change.old
        cells = list(zip(self.names, row or (), strict=True))
        start = "+ " if change.old is None else "- "
        if self.key is not None:
            start += _shown(cells.pop(self.key)[1]) + (": " if cells else "")
        return start + _some([f"{_shown(name)} {_shown(cell)}" for name, cell in cells])


def _labels(names: Sequence[str]) -> list[str]:
    """Returns names of which none is there twice: the second `a` is `a (2)`."""
    labels: dict[str, None] = {}
    for name in names:
        nth, label = 1, name
        while label in labels:
            nth += 1
            label = f"{name} ({nth})"
        labels[label] = None
    return list(labels)


def _some(cells: Sequence[str]) -> str:
    more = [f"… {len(cells) - _CELLS_SHOWN:,} more columns"] if len(cells) > _CELLS_SHOWN else []
    return ", ".join([*cells[:_CELLS_SHOWN], *more])


def _shown_pair(old: str | None, new: str | None) -> str:
    """Returns both cells so that they look different, cut around where they part."""
    was, now = (_plain_text("null" if cell is None else cell) for cell in (old, new))
    if was == now:
        was, now = repr(old), repr(new)
    start = 0
    if len(was) > _VALUE_CHARACTERS_MAX or len(now) > _VALUE_CHARACTERS_MAX:
        differ_at = next(
            (at for at, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now))
        )
        start = max(differ_at - _VALUE_CHARACTERS_MAX // 2, 0)
    mark = "…" if start else ""
    return f"{mark}{cut(was[start:], _VALUE_CHARACTERS_MAX)} → {mark}{cut(now[start:], _VALUE_CHARACTERS_MAX)}"


def _shown(cell: str | None) -> str:
    return cut(_plain_text("null" if cell is None else cell), _VALUE_CHARACTERS_MAX)


def _plain_text(cell: str) -> str:
    try:
        data = cell.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = cell.encode("utf-8", "surrogatepass")
    return shown_line(data.replace(b"\n", b"\\n"))
