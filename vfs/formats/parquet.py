"""Parquet: its rows as text, its schema and other metadata."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from decimal import Decimal
from itertools import chain
from typing import Any, NamedTuple

from vfs.formats.detail import NotThisFormat, Readable
from vfs.formats.row_spool import Sum, Table, Workspace, check_cells, check_columns
from vfs.formats.sql_engine import quoted, sql_engine

_COLUMNS_AT_ONCE = 250
_ROWS_AT_ONCE = 1000
COLUMNS_SHOWN_MAX = 10_000
"""Tables with more are not opened for a page: the engine plans for seconds and cannot be interrupted."""
_COLUMNS_MAX = 50_000
_ENCRYPTED = b"PARE"
_FOOTER = re.compile(rb"\x15[\x80-\xff]*[\x00-\x7f]\x19([\x0c-\xfc])([\x80-\xff]*[\x00-\x7f])", re.DOTALL)
_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"} | {
    "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"
}  # fmt: skip
_FLOATS = {"FLOAT", "DOUBLE"}
_INEXACT_TYPE = re.compile(r"\b(VARIANT|GEOMETRY)\b")
_DECIMAL_DIGITS_MAX = 38
_AS_TEXT = "its type changed, and its values were compared as text"


class Rows(NamedTuple):
    """A table as rows of plain values."""

    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]


class _Column(NamedTuple):
    """A column: its name in the file, the engine's name for it, its type, why equal text of it proves nothing."""

    name: str
    alias: str
    type: str
    inexact: str


def read_tables(old: Readable, new: Readable, workspace: Workspace) -> tuple[Table, Table]:
    """Returns both tables. Numbers whose type changed are written in one way on both sides.

    Raises MissingExtra, NotThisFormat with the engine's reason.
    """
    with sql_engine(workspace.path) as engine:
        paths = [_copied(source, workspace, f"{side}.parquet") for side, source in (("old", old), ("new", new))]
        columns = [_columns(engine, path) for path in paths]
        types = [{column.name: column.type for column in side} for side in columns]
        tables = []
        for path, own, others in zip(paths, columns, reversed(types), strict=True):
            retyped = {column.name for column in own if others.get(column.name, column.type) != column.type}
            tables.append(_table(engine, path, own, retyped, workspace))
    return tables[0], tables[1]


def read_rows(source: Readable) -> Rows:
    """Returns all of a table. Raises MissingExtra, NotThisFormat; for callers that have checked the size."""
    with Workspace() as workspace, sql_engine(workspace.path) as engine:
        path = _copied(source, workspace, "table.parquet")
        columns = _columns(engine, path)
        spool = _table(engine, path, columns, set(), workspace).spool
        rows = []
        for row in spool.rows():
            cells = row + [None] * (len(columns) - len(row))
            pairs = zip(columns, cells, strict=True)
            rows.append(tuple(None if cell is None else _plain(column.type, cell) for column, cell in pairs))
        return Rows([column.name for column in columns], rows)


def _copied(source: Readable, workspace: Workspace, name: str) -> str:
    if bytes(source.read(0, len(_ENCRYPTED))) == _ENCRYPTED:
        raise NotThisFormat("it is encrypted")
    return str(workspace.copy(source, name))


def _all(engine: Any, query: str, path: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = engine.execute(query, [path]).fetchall()
    return found


def check_width(engine: Any, path: str, most: int = COLUMNS_SHOWN_MAX) -> None:
    """Raises NotThisFormat for a file with too many columns."""
    count = _schema_elements(path)
    check_columns(_all(engine, "SELECT count(*) FROM parquet_schema(?)", path)[0][0] if count is None else count, most)


def _schema_elements(path: str) -> int | None:
    """Returns how many columns and groups of them a footer begins with, or None where it begins in another way.

    The engine would read all of them first, a KB each.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 8, 0))
        footer_bytes = int.from_bytes(file.read(8)[:4], "little")
        file.seek(max(size - 8 - footer_bytes, 0))
        # Thrift's compact form: field 1, a number; field 2, a list of structs, its length in the byte or behind it.
        found = _FOOTER.match(file.read(16))
    if found is None:
        return None
    head, more = found[1][0], found[2]
    return head >> 4 if head >> 4 < 15 else sum((byte & 127) << 7 * at for at, byte in enumerate(more))


def _columns(engine: Any, path: str) -> list[_Column]:
    check_width(engine, path, _COLUMNS_MAX)
    described = _all(engine, "DESCRIBE SELECT * FROM read_parquet(?, hive_partitioning=false)", path)
    tree = _Schema(_all(engine, f"SELECT {', '.join(_SCHEMA)} FROM parquet_schema(?)", path)).top()
    if len(tree) != len(described):
        raise NotThisFormat("its schema has other columns than its rows")
    return [
        _Column(name, alias, kind, "of its type" if _INEXACT_TYPE.search(kind) else reason)
        for (name, reason), (alias, kind, *_) in zip(tree, described, strict=True)
    ]


_SCHEMA = (
    "name", "num_children", "type", "converted_type", "precision", "logical_type", "duckdb_type",
    "repetition_type", "field_id",
)  # fmt: skip


class _Schema:
    """The schema as the file lists it: nodes in depth-first order, each with its number of children."""

    def __init__(self, nodes: Sequence[tuple[Any, ...]]) -> None:
        self._nodes = nodes
        self._at = 1

    def top(self) -> list[tuple[str, str]]:
        """Returns for each column its name, and why the engine does not read it exactly, or an empty text."""
        return [self._node() for _ in range(self._nodes[0][1] or 0)] if self._nodes else []

    def _node(self) -> tuple[str, str]:
        if self._at >= len(self._nodes):
            raise NotThisFormat("its schema is cut short")
        name, children, physical, converted, precision, logical, kind, *_ = self._nodes[self._at]
        self._at += 1
        reason = ""
        if physical == "INT96":
            reason = "its times are INT96, of which the reader takes whole microseconds"
        elif converted == "DECIMAL" and (precision or 0) > _DECIMAL_DIGITS_MAX:
            reason = f"its numbers have {precision} digits, more than the reader keeps"
        elif "NANOS=Nano" in (logical or "") and not (kind or "").endswith("_NS"):
            reason = "its times have nanoseconds, of which the reader takes whole microseconds"
        inner = [self._node()[1] for _ in range(children or 0)]
        return name, reason or next(filter(None, inner), "")


def _table(engine: Any, path: str, columns: Sequence[_Column], retyped: set[str], workspace: Workspace) -> Table:
    # Footers have the size, so no row is read for it.
    rows = _all(engine, "SELECT num_rows FROM parquet_file_metadata(?)", path)[0][0]
    check_cells(rows * len(columns))
    spool = workspace.spool()
    # Numbers of two types are compared by value, anything else by its text, which two types may share.
    numbers = [at for at, column in enumerate(columns) if column.name in retyped and _is_number(column.type)]
    texts = {at: _AS_TEXT for at, column in enumerate(columns) if column.name in retyped and at not in numbers}
    for row in _rows(engine, path, columns, retyped):
        for at in numbers:
            cell = row[at]
            row[at] = None if cell is None else _decimal_text(columns[at].type, cell)
        spool.add(row)
    if len(spool) != rows:
        raise NotThisFormat("it has another number of rows than its footer says")
    named = _named(engine, path)
    return Table(
        [column.name for column in columns],
        spool,
        _facts(engine, path),
        spelling=lambda: named,
        plain=lambda at, cell: _plain(columns[at].type, cell),
        types=[column.type for column in columns],
        inexact=texts | {at: column.inexact for at, column in enumerate(columns) if column.inexact},
    )


def _rows(engine: Any, path: str, columns: Sequence[_Column], retyped: set[str]) -> Iterator[list[str | None]]:
    """Yields the rows. A batch of columns is read at a time, since the engine's memory follows their number."""
    with ExitStack() as stack:
        batches = []
        for first in range(0, len(columns), _COLUMNS_AT_ONCE):
            cursor = engine.cursor()
            stack.callback(cursor.close)
            batches.append(_batch(cursor, path, columns[first : first + _COLUMNS_AT_ONCE], retyped))
        for parts in zip(*batches, strict=True):
            yield list(chain.from_iterable(parts))


def _batch(cursor: Any, path: str, columns: Sequence[_Column], retyped: set[str]) -> Iterator[tuple[Any, ...]]:
    # A FLOAT whose type changed is written with all the digits that it has as a DOUBLE.
    texts = [
        f"{quoted(column.alias)}{'::DOUBLE' if column.type == 'FLOAT' and column.name in retyped else ''}::VARCHAR"
        for column in columns
    ]
    cursor.execute(f"SELECT {', '.join(texts)} FROM read_parquet(?, hive_partitioning=false)", [path])
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        yield from rows


def _is_number(kind: str) -> bool:
    return kind in _INTEGERS or kind in _FLOATS or kind.startswith("DECIMAL(")


def _decimal_text(kind: str, cell: str) -> str:
    """Returns a number's exact decimal value, the same text for the same value of any type."""
    value = Decimal(float(cell)) if kind in _FLOATS else Decimal(cell)
    if not value.is_finite():
        return str(value)
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _plain(kind: str, cell: str) -> Any:
    """Returns a cell as a value that JSON has: numbers and truth values as such, others as text."""
    if kind in _INTEGERS:
        return int(cell)
    if kind in _FLOATS:
        value = float(cell)
        return value if -float("inf") < value < float("inf") else cell
    return cell == "true" if kind == "BOOLEAN" else cell


def _facts(engine: Any, path: str) -> dict[str, str]:
    """Returns a file's metadata, by name."""
    ((writer, version, groups),) = _all(
        engine, "SELECT created_by, format_version, num_row_groups FROM parquet_file_metadata(?)", path
    )
    facts = {"writer": str(writer), "format version": str(version), "row groups": f"{groups:,}"}
    for (words,) in _all(engine, "SELECT DISTINCT compression FROM parquet_metadata(?) ORDER BY 1", path):
        facts["compression"] = f"{facts['compression']} and {words}" if "compression" in facts else str(words)
    for (words,) in _all(engine, "SELECT DISTINCT encodings FROM parquet_metadata(?) ORDER BY 1", path):
        facts["encodings"] = f"{facts['encodings']} and {words}" if "encodings" in facts else str(words)
    return facts


def _named(engine: Any, path: str) -> dict[str, Sum]:
    """Returns the metadata of which only the names are shown where it differs."""
    found: dict[str, Sum] = {}
    for key, value in _all(engine, "SELECT key, value FROM parquet_kv_metadata(?)", path):
        name = f"metadata {bytes(key).decode('utf-8', 'backslashreplace')}"
        found.setdefault(name, Sum()).add(repr(bytes(value or b"")))
    found["schema"] = Sum()
    found["schema"].add(repr(_all(engine, f"SELECT {', '.join(_SCHEMA)} FROM parquet_schema(?)", path)))
    return found
