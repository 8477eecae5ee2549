"""Tables by key, and merging them row by row: rows with the same key are the same row, wherever they stand.

CSV (the first row names the columns; `,`, `;` or tabs between them) and JSON Lines (`.jsonl`, `.ndjson`). Rows and
fields are compared and written as the bytes that they are. A row that both sides changed is merged field by field.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from vfs.history.merge_delimited import Delimited, read_delimited, written_fields
from vfs.history.merge_json_lines import JSON_ENDINGS, JsonLines, Known, parts_of, read_json_lines
from vfs.history.merge_lines import Region
from vfs.history.table_records import ABSENT, MIXED, Form, NoKey, Record, Table, merged_order, pick, require_utf8
from vfs.text.delimited_grammar import BYTES
from vfs.text.json_objects import identity_of

_Sides = tuple[Any, Any, Any]
"""What base, ours and theirs have."""


class KeyedRow(NamedTuple):
    """A row of a table: the value of its key, what rows are equal by, its bytes, and its fields as (name, bytes)."""

    key: str
    identity: Hashable
    body: bytes
    fields: list[tuple[str, bytes]]


def merge_rows(path: bytes, key: str, base: bytes, ours: bytes, theirs: bytes) -> list[Region]:
    """Returns the merged table: regions of one row each, those in conflict without a merged one.

    Rows come in the order that one side gave them, new ones after the row that they follow there. Raises NoKey, with
    the reason, where one of the three is no table with this key, or where what both sides changed concerns all rows.
    """
    whole = pick(base, ours, theirs)
    if whole is not MIXED:
        return [_unchanged_region(whole)]
    tables: list[Table] = []
    known: Known = {}
    for name, data in (("base", base), ("ours", ours), ("theirs", theirs)):
        try:
            require_utf8(data)
            tables.append(_read(path, data, key, known))
        except NoKey as error:
            raise NoKey(f"{name}: {error.message}") from None
    form: Form = JsonLines() if _is_json(path) else _merged_form(tables)
    return _Merge(form, tables).regions()


def rows_by_key(path: bytes, key: str, data: bytes) -> list[KeyedRow]:
    """Returns a table's rows in their order. Raises NoKey."""
    table = _read(path, data, key, {})
    if _is_json(path):
        return [_json_row(key, record) for record in table.rows.values()]
    names = [_text(column) for column in table.columns]
    rows = []
    for value, record in table.rows.items():
        values = map(BYTES.value, written_fields(record.body, table.delimiter))
        fields = list(zip(names, values, strict=True))
        rows.append(KeyedRow(_text(value), tuple(fields), record.body, fields))
    return rows


def _json_row(key: str, record: Record) -> KeyedRow:
    members = parts_of(record.body).members
    value = next(member.value for member in members if member.name == key)
    identity = tuple((member.name, identity_of(member.value)) for member in members)
    return KeyedRow(_text(value), identity, record.body, [(member.name, member.value) for member in members])


def _text(data: Any) -> str:
    return bytes(data).decode("utf-8", "surrogateescape")


def _is_json(path: bytes) -> bool:
    return path.lower().endswith(JSON_ENDINGS)


def _read(path: bytes, data: bytes, key: str, known: Known) -> Table:
    if b"\0" in data:
        raise NoKey(f"line {data[: data.index(0)].count(10) + 1} has a zero byte")
    return read_json_lines(data, key, known) if _is_json(path) else read_delimited(path, data, key)


def _merged_form(tables: list[Table]) -> Delimited:
    """Returns the form of the merged table of delimited text; raises NoKey where the sides do not agree on it."""
    base, ours, theirs = tables
    if ours.header is None or theirs.header is None:
        raise NoKey(f"{'ours' if ours.header is None else 'theirs'} was emptied, and the other side changed it")
    delimiters = {table.delimiter for table in tables if table.header is not None}
    if len(delimiters) > 1:
        raise NoKey("its sides have other characters between their fields")
    columns = pick(*(table.columns if table.header is not None else ABSENT for table in tables))
    if columns is MIXED:
        raise NoKey("both sides changed its columns" if base.header is not None else "its sides have other columns")
    return Delimited(columns, delimiters.pop())


class _Merge:
    """One merge of three tables."""

    def __init__(self, form: Form, tables: Sequence[Table]) -> None:
        self._form = form
        self._tables = tables
        line_end = next((end for table in tables if (end := table.line_end())), b"\n")
        self._ends = [table.line_end() or line_end for table in tables]
        self._columns_differ = len({table.columns for table in tables if table.header is not None}) > 1

    def regions(self) -> list[Region]:
        """Returns the merged table."""
        order = merged_order(*(list(table.rows) for table in self._tables))
        if order is None:
            raise NoKey("both sides changed the order of its rows")
        head = self._head()
        found = [_unchanged_region(head)] if head else []
        for key in order:
            rows = self._ended([table.rows.get(key) for table in self._tables])
            row = self._merged(rows)
            if row is MIXED:
                found.append(Region(None, *((each.body + each.end,) if each is not None else () for each in rows)))
            elif row is not None:
                found.append(_unchanged_region(row.body + row.end))
        return self._with_file_end(found)

    def _ended(self, records: Sequence[Record | None]) -> _Sides:
        """Returns a record of each table, with a line end where the file stops without one."""
        base, ours, theirs = (
            record if record is None or record.end else record._replace(end=end)
            for record, end in zip(records, self._ends, strict=True)
        )
        return base, ours, theirs

    def _head(self) -> bytes:
        """Returns what stands before the rows."""
        mark = self._of_files("the byte order mark", [table.bom for table in self._tables])
        headers = self._ended([table.header for table in self._tables])
        if headers[1] is None:
            return bytes(mark)
        header = pick(*headers)
        if header is MIXED and not self._columns_differ:
            header = self._merge_fields(*headers)
        if header is MIXED:
            raise NoKey("both sides changed its header")
        return bytes(mark + header.body + header.end)

    def _of_files(self, what: str, values: Sequence[Any]) -> Any:
        """Returns what a three-way merge takes of something that files have which are not empty."""
        base, ours, theirs = (
            ABSENT if table.is_empty() else value for table, value in zip(self._tables, values, strict=True)
        )
        if ABSENT in (ours, theirs):
            return theirs if ours is ABSENT else ours
        found = pick(base, ours, theirs)
        if found is MIXED and base is not ABSENT:
            raise NoKey(f"both sides changed {what}")
        return ours if found is MIXED else found

    def _merged(self, rows: _Sides) -> Any:
        """Returns a row, None where it goes, MIXED for a conflict."""
        base, ours, theirs = rows
        if not self._columns_differ:
            row = pick(base, ours, theirs)
            return row if row is not MIXED or ours is None or theirs is None else self._merge_fields(*rows)
        if base is not None and (ours is None or theirs is None):
            # One side deleted it: it goes, unless the other side changed what it says.
            changed = (1, ours) if theirs is None else (2, theirs)
            return None if changed[1] is None or self._is_unchanged_row(base, *changed) else MIXED
        return self._merge_fields(*rows)

    def _is_unchanged_row(self, base: Record, side: int, record: Record) -> bool:
        """Returns True if a side left a row as it was; its columns may be others."""
        old = self._form.fields(self._tables[0], base) or {}
        new = self._form.fields(self._tables[side], record) or {}
        added = any(BYTES.value(cell) for name, cell in new.items() if name not in old)
        return not added and base.end == record.end and all(cell == old.get(name, cell) for name, cell in new.items())

    def _merge_fields(self, base: Any, ours: Any, theirs: Any) -> Any:
        """Returns a row of what either side changed in its fields, or MIXED."""
        records = (base, ours, theirs)
        fields = [
            {} if record is None else self._form.fields(table, record)
            for table, record in zip(self._tables, records, strict=True)
        ]
        end = pick(*(ABSENT if record is None else record.end for record in records))
        if None in fields or (end is MIXED and ours is not None and theirs is not None):
            return MIXED
        if ours is None or theirs is None:
            merged: dict[bytes, bytes] | None = {**(fields[1] or {}), **(fields[2] or {})}
        else:
            merged = _merged_fields(self._form, *(each or {} for each in fields))
        body = None if merged is None else self._form.written(merged, records)
        if body is None:
            return MIXED
        return Record(body, end if end is not MIXED else (theirs if ours is None else ours).end)

    def _with_file_end(self, found: list[Region]) -> list[Region]:
        """Returns the regions with what stands at the end of the file: blank lines, or a row without a line end."""
        lasts = [table.last() for table in self._tables]
        ends = [(last is None or bool(last.end), table.tail) for last, table in zip(lasts, self._tables, strict=True)]
        has_end, tail = self._of_files("the end of the file", ends)
        if has_end:
            return [*found, _unchanged_region(tail)] if tail else found
        if found and found[-1].merged is not None:
            found[-1] = _unchanged_region(found[-1].merged[0].removesuffix(b"\n").removesuffix(b"\r"))
        return found


def _merged_fields(
    form: Form, base: Mapping[bytes, bytes], ours: Mapping[bytes, bytes], theirs: Mapping[bytes, bytes]
) -> dict[bytes, bytes] | None:
    """Returns the fields that a three-way merge takes, or None."""
    fields: dict[bytes, bytes] = {}
    for name in dict.fromkeys((*ours, *theirs)):
        values = [each.get(name, ABSENT) for each in (base, ours, theirs)]
        value = pick(*values)
        if value is MIXED:
            told = [each if each is ABSENT else form.identity(each) for each in values]
            found = pick(*told)
            value = MIXED if found is MIXED else values[1] if found == told[1] else values[2]
        if value is MIXED:
            return None
        if value is not ABSENT:
            fields[name] = value
    return fields


def _unchanged_region(raw: bytes) -> Region:
    return Region((raw,), (), (), ())
