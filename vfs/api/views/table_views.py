"""Tables of a version: pages, filters and histograms; and of two versions: rows and cells that differ."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NotRequired, TypedDict

from vfs.api.views.viewed_repository import ViewedRepository
from vfs.formats.detail import NotThisFormat
from vfs.formats.loaded_table import COLUMNS_A_PAGE, ROWS_A_PAGE, Column, Filter, LoadedTable, Where
from vfs.formats.sql_row_diff import CHANGES_A_PAGE, ComparedTables
from vfs.model.objects import Version

_HISTOGRAM_S = 0.15
"""How long histograms are made before a page is sent; the others are made when they are asked for."""


class BarDocument(TypedDict):
    """A bar: a range of numbers [low, high) or one value, and how many rows have it."""

    label: str
    rows: int
    low: NotRequired[float]
    high: NotRequired[float]


class HistogramDocument(TypedDict):
    """How a column's values are spread; `kind` is `numbers` or `values`."""

    kind: str
    bars: list[BarDocument]
    missing: int
    distinct: int


class ColumnDocument(TypedDict):
    """A column; `histogram` where there was time to make it."""

    name: str
    type: str
    number: bool
    histogram: NotRequired[HistogramDocument]


class FilterDocument(TypedDict):
    """A condition on a column."""

    column: str
    operator: str
    value: str


class TableDocument(TypedDict):
    """A page of a table. `problem` says why there are no rows, in words; everything else is empty then."""

    columns: list[ColumnDocument]
    columns_in_all: int
    rows: list[list[str | None]]
    first: int
    matching: int
    rows_in_all: int
    filters: list[FilterDocument]
    condition: str
    order: str
    problem: str


class TableQuestion(TypedDict):
    """What is asked of a table: filters as (column, operator, value), a condition in SQL, an order, where to begin."""

    filters: Sequence[tuple[str, str, str]]
    condition: str
    order: str
    first: int
    first_column: int


def table(viewed: ViewedRepository, version: Version, path: bytes, asked: TableQuestion) -> TableDocument:
    """Returns a page of a table. Raises NotFound; what cannot be read or asked is in `problem`."""
    filters = [Filter(*each) for each in asked["filters"]]
    value: TableDocument = {
        "columns": [],
        "columns_in_all": 0,
        "rows": [],
        "first": asked["first"],
        "matching": 0,
        "rows_in_all": 0,
        "filters": [{"column": f.column, "operator": f.operator, "value": f.value} for f in filters],
        "condition": asked["condition"],
        "order": asked["order"],
        "problem": "",
    }
    with viewed.file(version, path) as opened:
        try:
            with viewed.tables.use(
                (opened.key, path.rpartition(b".")[2]), lambda place: LoadedTable(path, opened.reader, place)
            ) as found:
                _fill(value, found, filters, asked)
        except (NotThisFormat, OSError) as reason:
            value["problem"] = str(reason)
    return value


def _fill(value: TableDocument, found: LoadedTable, filters: list[Filter], asked: TableQuestion) -> None:
    value["rows_in_all"] = found.rows
    value["columns_in_all"] = len(found.columns)
    # An address may ask for columns behind the last one.
    first = min(asked["first_column"], max(len(found.columns) - 1, 0))
    shown = found.columns[first : first + COLUMNS_A_PAGE]
    value["columns"] = [{"name": column.name, "type": column.type, "number": column.is_number} for column in shown]
    where = found.where(filters, asked["condition"])
    value["matching"] = found.matching(where)
    value["rows"] = found.page(where, asked["first"], shown, asked["order"])
    started = time.monotonic()
    for column, document in zip(shown, value["columns"], strict=True):
        if time.monotonic() - started > _HISTOGRAM_S:
            break
        document["histogram"] = _histogram(found, where, column)


def _histogram(found: LoadedTable, where: Where, column: Column) -> HistogramDocument:
    made = found.histogram(where, column)
    bars: list[BarDocument] = []
    for bar in made.bars:
        document: BarDocument = {"label": bar.label, "rows": bar.rows}
        if bar.low is not None and bar.high is not None:
            document["low"], document["high"] = bar.low, bar.high
        bars.append(document)
    return {"kind": made.kind, "bars": bars, "missing": made.missing, "distinct": made.distinct}


def histogram(
    viewed: ViewedRepository, version: Version, path: bytes, column: str, asked: TableQuestion
) -> HistogramDocument | None:
    """Returns the histogram of one column, or None where it cannot be made. Raises NotFound."""
    with viewed.file(version, path) as opened:
        try:
            with viewed.tables.use(
                (opened.key, path.rpartition(b".")[2]), lambda place: LoadedTable(path, opened.reader, place)
            ) as found:
                wanted = next((each for each in found.columns if each.name == column), None)
                if wanted is None:
                    return None
                where = found.where([Filter(*each) for each in asked["filters"]], asked["condition"])
                return _histogram(found, where, wanted)
        except (NotThisFormat, OSError):
            return None


class RowChangeDocument(TypedDict):
    """A row that differs: cells of both sides by column, None for the side that lacks it, and which of them changed."""

    change: str
    old: list[str | None] | None
    new: list[str | None] | None
    changed: list[bool]


class TableComparisonDocument(TypedDict):
    """Two contents of a table compared. `problem` says why not, in words; everything else is empty then."""

    columns: list[str]
    key: str | None
    added_columns: list[str]
    removed_columns: list[str]
    retyped: dict[str, tuple[str, str]]
    old_rows: int
    new_rows: int
    added: int
    removed: int
    changed: int
    changed_cells: dict[str, int]
    rows: list[RowChangeDocument]
    first: int
    next: int | None
    problem: str


def compare_tables(
    viewed: ViewedRepository, old: Version, new: Version, path: bytes, key: str | None, first: int = 0, kind: str = ""
) -> TableComparisonDocument:
    """Returns a page of the rows that differ, followed by `key`: None chooses one, an empty text takes none.

    Raises NotFound; what cannot be compared is in `problem`.
    """
    value: TableComparisonDocument = {
        "columns": [],
        "key": None,
        "added_columns": [],
        "removed_columns": [],
        "retyped": {},
        "old_rows": 0,
        "new_rows": 0,
        "added": 0,
        "removed": 0,
        "changed": 0,
        "changed_cells": {},
        "rows": [],
        "first": first,
        "next": None,
        "problem": "",
    }
    with viewed.file(old, path) as before, viewed.file(new, path) as now:
        try:
            with viewed.comparisons.use(
                (before.key, now.key, path.rpartition(b".")[2], key),
                lambda place: ComparedTables(path, before.reader, now.reader, place, key),
            ) as found:
                _fill_comparison(value, found, first, kind)
        except (NotThisFormat, OSError) as reason:
            value["problem"] = str(reason)
    return value


def _fill_comparison(value: TableComparisonDocument, found: ComparedTables, first: int, kind: str) -> None:
    counts = found.counts
    value["columns"] = found.shared
    value["key"] = found.key
    value["added_columns"], value["removed_columns"] = found.added_columns, found.removed_columns
    value["retyped"] = found.retyped
    value["old_rows"], value["new_rows"] = counts.old, counts.new
    value["added"], value["removed"], value["changed"] = counts.added, counts.removed, counts.changed
    value["changed_cells"] = found.changed_cells
    for change in found.page(first, kind):
        before, now = change.old, change.new
        value["rows"].append(
            {
                "change": change.kind,
                "old": list(before) if before is not None else None,
                "new": list(now) if now is not None else None,
                "changed": [a != b for a, b in zip(before, now, strict=True)] if before and now else [],
            }
        )
    total = {"added": counts.added, "removed": counts.removed, "changed": counts.changed}.get(
        kind, counts.added + counts.removed + counts.changed
    )
    if first + CHANGES_A_PAGE < total:
        value["next"] = first + CHANGES_A_PAGE


ROWS = ROWS_A_PAGE
COLUMNS = COLUMNS_A_PAGE
