"""A table that is looked at page by page: rows, filters and histograms, answered by the SQL engine.

A copy of the file stands in a directory of its own. Parquet is read where it lies; other tables are taken into the
engine's own file once, so that a page costs the same everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from vfs.formats import parquet
from vfs.formats.detail import PIECE_BYTES, NotThisFormat, Readable
from vfs.formats.row_spool import check_columns
from vfs.formats.sql_condition import check_condition
from vfs.formats.sql_engine import LINE_BYTES_MAX, OutOfTime, bounded, engine_errors, open_engine, quoted

ROWS_A_PAGE = 100
COLUMNS_A_PAGE = 40
BARS = 24
"""Bars of a histogram of numbers."""
_TOP = 8
_CELL_CHARACTERS_MAX = 300
_LOAD_S = 120.0
QUERY_S = 10.0
"""How long one question may take."""

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
            "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL")  # fmt: skip
_OPERATORS = {"=": "IS NOT DISTINCT FROM", "!=": "IS DISTINCT FROM", ">=": ">=", "<": "<", "<=": "<=", ">": ">"}


class Column(NamedTuple):
    """A column and its type in the engine's words."""

    name: str
    type: str

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers."""
        return self.type.startswith(_NUMBERS)


class Filter(NamedTuple):
    """A condition on one column: `=`, `!=`, `>=`, `<`, `<=`, `>`, or `null` and `filled`, which take no value."""

    column: str
    operator: str
    value: str = ""


class Bar(NamedTuple):
    """A part of a column's values: a number's range [low, high), or one value; None is the missing ones."""

    label: str
    rows: int
    low: float | None = None
    high: float | None = None


class Histogram(NamedTuple):
    """How a column's values are spread. `kind` is `numbers` or `values` (the most frequent ones)."""

    kind: str
    bars: Sequence[Bar]
    missing: int
    distinct: int


def copy_file(source: Readable, path: Path) -> None:
    """Writes a file's bytes to a new file."""
    with path.open("wb", buffering=0) as file:
        for offset in range(0, source.size, PIECE_BYTES):
            left = memoryview(source.read(offset, PIECE_BYTES))
            while left:
                left = left[file.write(left) :]


def relation(name: bytes, path: Path, *, as_text: bool = False) -> str:
    """Returns the table function that reads a file of this name in the engine's words."""
    place = "'" + str(path).replace("'", "''") + "'"
    lowered = name.lower()
    if lowered.endswith(b".parquet"):
        return f"read_parquet({place}, hive_partitioning=false)"
    if lowered.endswith((b".csv", b".tsv")):
        delimiter = "\\t" if lowered.endswith(b".tsv") else ","
        # Types are the engine's guess at all rows; text is what is left where they cannot be guessed.
        guess = "all_varchar=true" if as_text else "sample_size=-1"
        escaped = f"E'{delimiter}'"
        # A file with semicolons has one column, and `#` begins no comment. To guess the form, the engine would read a
        # long line ten times.
        form = f"delim={escaped}, quote='\"', escape='\"', header=true, comment=''"
        return f"read_csv({place}, {form}, {guess}, max_line_size={LINE_BYTES_MAX})"
    return f"read_json({place}, format='newline_delimited', maximum_depth=2, sample_size=-1)"


def check_width(engine: Any, name: bytes, path: Path) -> None:
    """Raises NotThisFormat for too many columns: the engine would plan for minutes and cannot be interrupted."""
    lowered = name.lower()
    if lowered.endswith(b".parquet"):
        parquet.check_width(engine, str(path))
    elif lowered.endswith((b".csv", b".tsv")):
        check_columns(_most_fields(path, b"\t" if lowered.endswith(b".tsv") else b","), parquet.COLUMNS_SHOWN_MAX)
    else:
        objects = "read_json_objects(?, format='newline_delimited')"
        query = f"SELECT approx_count_distinct(key) FROM (SELECT unnest(json_keys(json)) AS key FROM {objects})"
        if engine.execute(query, [str(path)]).fetchone()[0] > parquet.COLUMNS_SHOWN_MAX:
            raise NotThisFormat(f"it has more than {parquet.COLUMNS_SHOWN_MAX:,} keys")


def _most_fields(path: Path, delimiter: bytes) -> int:
    """Returns how many fields the widest record at the start of delimited text has.

    The engine skips narrower ones above the first that has as many fields as those that follow.
    """
    with path.open("rb") as file:
        head = file.read(LINE_BYTES_MAX)
    records = re.sub(rb'"[^"]*+"?', b"", head).splitlines()
    return 1 + max((record.count(delimiter) for record in records), default=0)


class LoadedTable:
    """A table, opened in an engine of its own; safe for several threads. Raises NotThisFormat for what it refuses."""

    def __init__(self, name: bytes, source: Readable, directory: Path) -> None:
        """Copies the file into a new directory and opens it. Raises MissingExtra, NotThisFormat, OSError."""
        self._directory = directory
        self._lock = Lock()
        path = directory / "table"
        copy_file(source, path)
        is_parquet = name.lower().endswith(b".parquet")
        self._engine = open_engine(directory, ":memory:" if is_parquet else str(directory / "rows.duckdb"))
        try:
            with self._asking(_LOAD_S):
                check_width(self._engine, name, path)
                if is_parquet:
                    self._engine.execute(f"CREATE VIEW rows AS SELECT * FROM {relation(name, path)}")
                else:
                    self._take_in(name, path)
                described = self._engine.execute("DESCRIBE rows").fetchall()
                self.rows = int(self._engine.execute("SELECT count(*) FROM rows").fetchone()[0])
        except BaseException:
            self.close()
            raise
        self.columns = [Column(str(row[0]), str(row[1])) for row in described]
        if not is_parquet:
            path.unlink()

    def _take_in(self, name: bytes, path: Path) -> None:
        try:
            with engine_errors(self._directory):
                self._engine.execute(f"CREATE TABLE rows AS SELECT * FROM {relation(name, path)}")
        except OutOfTime:
            # The timer has fired: the second attempt would have no limit.
            raise
        except NotThisFormat:
            if not name.lower().endswith((b".csv", b".tsv")):
                raise
            self._engine.execute(f"CREATE TABLE rows AS SELECT * FROM {relation(name, path, as_text=True)}")

    def close(self) -> None:
        """Closes the engine; the directory is the caller's."""
        self._engine.close()

    @contextmanager
    def _asking(self, seconds: float = QUERY_S) -> Any:
        with self._lock, engine_errors(self._directory), bounded(self._engine, seconds):
            yield

    def matching(self, where: Where) -> int:
        """Returns how many rows pass the filters."""
        if not where.text:
            return self.rows
        with self._asking():
            return int(self._engine.execute(f"SELECT count(*) FROM rows{where.text}", where.values).fetchone()[0])

    def page(self, where: Where, first: int, columns: Sequence[Column], order: str = "") -> list[list[str | None]]:
        """Returns up to ROWS_A_PAGE rows from number `first` on (of those that pass), their cells as text, cut.

        `order` is a column, with `-` before it for the largest first; without it rows come as they stand in the file.
        """
        cells = ", ".join(f"left({quoted(c.name)}::VARCHAR, {_CELL_CHARACTERS_MAX + 1})" for c in columns)
        by = self._order(order)
        query = f"SELECT {cells or 'NULL'} FROM rows{where.text}{by} LIMIT {ROWS_A_PAGE} OFFSET {max(first, 0)}"
        with self._asking():
            found = self._engine.execute(query, where.values).fetchall()
        return [[_cut(cell) for cell in row] for row in found]

    def _order(self, order: str) -> str:
        name = order.removeprefix("-")
        if not any(column.name == name for column in self.columns):
            return ""
        return f" ORDER BY {quoted(name)} {'DESC' if order.startswith('-') else 'ASC'} NULLS LAST"

    def histogram(self, where: Where, column: Column) -> Histogram:
        """Returns how the values of a column that pass the filters are spread."""
        name = quoted(column.name)
        with self._asking():
            run = self._engine.execute
            total, filled, distinct = run(
                f"SELECT count(*), count({name}), approx_count_distinct({name}::VARCHAR) FROM rows{where.text}",
                where.values,
            ).fetchone()
            missing = int(total) - int(filled)
            if column.is_number and filled:
                bars = self._number_bars(name, where)
                if bars:
                    return Histogram("numbers", bars, missing, int(distinct))
            shown = f"left({name}::VARCHAR, {_CELL_CHARACTERS_MAX + 1})"
            condition = f"{where.text} AND" if where.text else " WHERE"
            top = run(
                f"SELECT {shown}, count(*) FROM rows{condition} {name} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
                f" LIMIT {_TOP}",
                where.values,
            ).fetchall()
        return Histogram("values", [Bar(str(value), int(count)) for value, count in top], missing, int(distinct))

    def _number_bars(self, name: str, where: Where) -> list[Bar]:
        run = self._engine.execute
        finite = f"isfinite({name}::DOUBLE)"
        condition = f"{where.text} AND" if where.text else " WHERE"
        low, high = run(
            f"SELECT min({name})::DOUBLE, max({name})::DOUBLE FROM rows{condition} {finite}", where.values
        ).fetchone()
        if low is None:
            return []
        width = (high - low) / BARS
        if not width or width == float("inf"):
            (count,) = run(f"SELECT count(*) FROM rows{condition} {finite}", where.values).fetchone()
            return [Bar(f"{low:g}", int(count), low, high)]
        place = f"least(floor(({name}::DOUBLE - ?) / ?), {BARS - 1})::INTEGER"
        counts = dict(
            run(
                f"SELECT {place}, count(*) FROM rows{condition} {finite} GROUP BY 1", [low, width, *where.values]
            ).fetchall()
        )
        return [
            Bar(f"{low + at * width:g}", int(counts.get(at, 0)), low + at * width, low + (at + 1) * width)
            for at in range(BARS)
        ]

    def where(self, filters: Sequence[Filter], condition: str = "") -> Where:
        """Returns the filters, and a condition in SQL, as what follows FROM. Raises NotThisFormat for bad ones."""
        types = {column.name: column for column in self.columns}
        parts, values = [], []
        for each in filters:
            column = types.get(each.column)
            if column is None:
                raise NotThisFormat(f"there is no column {each.column!r}")
            name = quoted(each.column)
            if each.operator == "null":
                parts.append(f"{name} IS NULL")
            elif each.operator == "filled":
                parts.append(f"{name} IS NOT NULL")
            elif each.operator in _OPERATORS:
                side = f"{name}::DOUBLE" if column.is_number else f"{name}::VARCHAR"
                if column.is_number and not _is_number(each.value):
                    raise NotThisFormat(f"{each.value!r} is no number, as the values of {each.column!r} are")
                parts.append(f"{side} {_OPERATORS[each.operator]} ?")
                values.append(float(each.value) if column.is_number else each.value)
            else:
                raise NotThisFormat(f"there is no operator {each.operator!r}")
        if condition.strip():
            self._check(condition)
            parts.append(f"(\n{condition}\n)")
        return Where(f" WHERE {' AND '.join(parts)}" if parts else "", values)

    def _check(self, condition: str) -> None:
        """Raises NotThisFormat for a text that is more than one expression over the columns."""
        with self._asking():
            check_condition(self._engine, condition)
            self._engine.execute(f"EXPLAIN SELECT 1 FROM rows WHERE (\n{condition}\n)").fetchall()


class Where(NamedTuple):
    """A condition in SQL and the values of its parameters."""

    text: str = ""
    values: Sequence[Any] = ()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cut(cell: str | None) -> str | None:
    if cell is None or len(cell) <= _CELL_CHARACTERS_MAX:
        return cell
    return cell[:_CELL_CHARACTERS_MAX] + "…"
