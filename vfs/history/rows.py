"""Tables by key, and merging them row by row: rows with the same key are the same row, wherever they stand.

CSV (the first row names the columns; tabs where the file is called `.tsv`) and JSON Lines (`.jsonl`, `.ndjson`).
Rows that did not change keep their bytes. A row that both sides changed is merged field by field.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from vfs.errors import InvalidInput
from vfs.history.lines import Stretch

JSON_ENDINGS = (b".jsonl", b".ndjson")
_ABSENT: Any = object()

Row = dict[str, Any]


class _Record(NamedTuple):
    """A row's fields, and its bytes with the line end."""

    fields: Row
    raw: bytes


class _Table(NamedTuple):
    """Rows by key in their order; `columns` is empty for JSON Lines, `header` the bytes of the columns' names."""

    columns: tuple[str, ...]
    header: bytes
    rows: dict[str, _Record]


class NoKey(InvalidInput):
    """A file has no rows by the key that was named."""

    code = "no-key"


def merge_rows(path: bytes, key: str, base: bytes, ours: bytes, theirs: bytes) -> list[Stretch]:
    """Returns the merged table: stretches of one row each, those in conflict without a merged one.

    Our rows come in their order, their new ones after the row that they follow there. Raises NoKey, with the reason,
    where one of the three is no table with this key, or both sides changed the columns.
    """
    read = _read_json if path.endswith(JSON_ENDINGS) else _read_csv
    delimiter = "\t" if path.endswith(b".tsv") else ","
    tables = [read(data, key, delimiter) for data in (base, ours, theirs)]
    if not base:
        # Both sides added the file: there is nothing that either has changed.
        tables[0] = tables[0]._replace(columns=tables[1].columns, header=tables[1].header)
    return list(_merged(tables[0], tables[1], tables[2], delimiter))


def rows_by_key(path: bytes, key: str, data: bytes) -> dict[str, tuple[Row, bytes]]:
    """Returns a table's rows, each as its fields and its bytes, by key and in their order. Raises NoKey."""
    read = _read_json if path.endswith(JSON_ENDINGS) else _read_csv
    table = read(data, key, "\t" if path.endswith(b".tsv") else ",")
    return {name: (record.fields, record.raw) for name, record in table.rows.items()}


def _merged(base: _Table, ours: _Table, theirs: _Table, delimiter: str) -> Iterator[Stretch]:
    columns = _pick(base.columns, ours.columns, theirs.columns)
    if columns is _ABSENT:
        raise NoKey("both sides changed its columns")
    header = next(table.header for table in (ours, theirs) if table.columns == columns)
    if header:
        yield _taken(header)
    for key in _order(base, ours, theirs):
        old, mine, other = base.rows.get(key), ours.rows.get(key), theirs.rows.get(key)
        row = _merge_row(old, mine, other)
        if row is _ABSENT:
            yield Stretch(None, _raw(old), _raw(mine), _raw(other))
        elif row is not None:
            yield _taken(_written(row, columns, [(mine, ours), (other, theirs)], delimiter))


def _merge_row(base: _Record | None, ours: _Record | None, theirs: _Record | None) -> Any:
    """Returns a row's fields, None for a row that goes, _ABSENT for a conflict."""
    old, mine, other = (record.fields if record is not None else None for record in (base, ours, theirs))
    found = _pick(old, mine, other)
    if found is not _ABSENT or mine is None or other is None:
        return found
    fields: Row = {}
    for name in dict.fromkeys((*mine, *other)):
        value = _pick((old or {}).get(name, _ABSENT), mine.get(name, _ABSENT), other.get(name, _ABSENT), _MIXED)
        if value is _MIXED:
            return _ABSENT
        if value is not _ABSENT:
            fields[name] = value
    return fields


_MIXED: Any = object()


def _pick(base: Any, ours: Any, theirs: Any, conflict: Any = _ABSENT) -> Any:
    if ours == theirs or theirs == base:
        return ours
    return theirs if ours == base else conflict


def _order(base: _Table, ours: _Table, theirs: _Table) -> Iterator[str]:
    """Yields the keys of the merged table: ours in order, and their new ones after those that they follow there."""
    following: dict[str | None, list[str]] = {}
    last: str | None = None
    for key in theirs.rows:
        if key in ours.rows:
            last = key
        else:
            following.setdefault(last, []).append(key)
    waiting = following.get(None, [])
    for key in ours.rows:
        # Our own new rows stay with the row that they follow.
        if key in base.rows or key in theirs.rows:
            yield from waiting
            waiting = []
        yield key
        waiting = waiting + following.get(key, [])
    yield from waiting


def _taken(raw: bytes) -> Stretch:
    return Stretch((raw,), (), (), ())


def _raw(record: _Record | None) -> tuple[bytes, ...]:
    return (record.raw,) if record is not None else ()


def _written(
    fields: Row, columns: tuple[str, ...], sides: Sequence[tuple[_Record | None, _Table]], delimiter: str
) -> bytes:
    """Returns a row's bytes: those that a side has for it, else new ones."""
    for record, table in sides:
        if record is not None and record.fields == fields and table.columns == columns:
            return record.raw
    if not columns:
        return json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerow([fields.get(name, "") for name in columns])
    return out.getvalue().encode("utf-8", "surrogateescape")


def _read_csv(data: bytes, key: str, delimiter: str) -> _Table:
    records = _csv_records(data)
    header = next(records, b"")
    columns = tuple(_cells(header, delimiter)) if header else ()
    if header and (key not in columns or len(set(columns)) < len(columns)):
        raise NoKey(f"it has no single column {key!r}")
    rows: dict[str, _Record] = {}
    for raw in records:
        cells = _cells(raw, delimiter)
        if not cells:
            continue
        if len(cells) != len(columns):
            raise NoKey(f"a row has {len(cells)} fields where the header has {len(columns)}")
        fields = dict(zip(columns, cells, strict=True))
        _add(rows, fields[key], _Record(fields, raw))
    return _Table(columns, header, rows)


def _csv_records(data: bytes) -> Iterator[bytes]:
    """Yields the bytes of each record; one with line ends inside quotes is one."""
    pending = b""
    for line in data.splitlines(keepends=True):
        pending += line
        if pending.count(b'"') % 2 == 0:
            yield _with_end(pending)
            pending = b""
    if pending:
        raise NoKey("a quote is never closed")


def _cells(raw: bytes, delimiter: str) -> list[str]:
    text = raw.decode("utf-8", "surrogateescape")
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error as error:
        raise NoKey(f"a row cannot be read: {error}") from error


def _read_json(data: bytes, key: str, _delimiter: str) -> _Table:
    rows: dict[str, _Record] = {}
    for line in data.splitlines(keepends=True):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise NoKey(f"a line is no JSON: {error}") from error
        if not isinstance(fields, dict) or key not in fields:
            raise NoKey(f"a line has no {key!r}")
        _add(rows, json.dumps(fields[key], sort_keys=True), _Record(fields, _with_end(line)))
    return _Table((), b"", rows)


def _add(rows: dict[str, _Record], key: str, record: _Record) -> None:
    if key in rows:
        raise NoKey(f"two rows have the key {key!r}")
    rows[key] = record


def _with_end(raw: bytes) -> bytes:
    return raw if raw.endswith((b"\n", b"\r")) else raw + b"\n"
