"""Tables of delimited text (CSV, TSV) for merges: rows and fields as the bytes that are written.

`vfs/text/delimited_grammar.py` has the grammar; a file that is not well-formed has no rows to merge.
"""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping, Sequence

from vfs.history.table_records import BOM, NoKey, Record, Table, add
from vfs.text.delimited_grammar import BYTES
from vfs.text.ill_formed import IllFormed

_DELIMITERS = (b",", b";", b"\t")
_TAB_ENDINGS = (b".tsv", b".tab")


def read_delimited(path: bytes, data: bytes, key: str) -> Table:
    """Returns the rows by the value of their key field. Raises NoKey, with the line and the reason."""
    bom = BOM if data.startswith(BOM) else b""
    records = BYTES.records(io.BytesIO(data[len(bom) :]))
    first = next(records, None)
    if first is None:
        return Table(bom, {}, b"")
    wanted = key.encode("utf-8", "surrogateescape")
    delimiter, columns = _columns(path, first[1], wanted)
    place = columns.index(wanted)
    rows: dict[Hashable, Record] = {}
    tail, blank = b"", 0
    for line, body, end in records:
        if not body:
            tail, blank = tail + end, blank or line
            continue
        if tail:
            raise NoKey(f"line {blank} is blank")
        fields = written_fields(body, delimiter, line)
        if len(fields) != len(columns):
            raise NoKey(f"line {line} has {len(fields)} fields where the header has {len(columns)}")
        value = BYTES.value(fields[place])
        add(rows, value, Record(body, end), value)
    return Table(bom, rows, tail, Record(*first[1:]), columns, delimiter)


def written_fields(body: bytes, delimiter: bytes, line: int = 0) -> list[bytes]:
    """Returns the fields of a row as they are written, with their quotes. Raises NoKey with the line and reason."""
    try:
        return BYTES.fields(body, delimiter, line)
    except IllFormed as error:
        raise NoKey(str(error)) from None


class Delimited:
    """How rows of delimited text with these columns are written."""

    def __init__(self, columns: tuple[bytes, ...], delimiter: bytes) -> None:
        self._columns = columns
        self._delimiter = delimiter

    def fields(self, table: Table, record: Record) -> dict[bytes, bytes] | None:
        """Returns the bytes of each field by its column."""
        return dict(zip(table.columns, written_fields(record.body, table.delimiter), strict=True))

    def identity(self, value: bytes) -> Hashable:
        """Returns the bytes of a field: its quotes count."""
        return value

    def written(self, fields: Mapping[bytes, bytes], _sides: Sequence[Record | None]) -> bytes | None:
        """Returns a row, empty where it has no field; None where a field that is not empty has no column."""
        if any(BYTES.value(cell) for name, cell in fields.items() if name not in self._columns):
            return None
        return self._delimiter.join(fields.get(name, b"") for name in self._columns)


def _columns(path: bytes, header: bytes, key: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Returns the delimiter under which one column has the key's name, and the columns' names."""
    candidates = _DELIMITERS[2:] if path.lower().endswith(_TAB_ENDINGS) else _DELIMITERS
    found: list[tuple[bytes, tuple[bytes, ...]]] = []
    reasons: list[str] = []
    for delimiter in candidates:
        try:
            columns = tuple(map(BYTES.value, written_fields(header, delimiter, 1)))
        except NoKey as error:
            reasons.append(error.message)
            continue
        if columns.count(key) == 1:
            found.append((delimiter, columns))
    if not found:
        if len(reasons) == len(candidates):
            raise NoKey(reasons[0])
        raise NoKey(f"it has no single column {key.decode('utf-8', 'backslashreplace')!r}")
    if len(found) > 1 and len(found[0][1]) > 1:
        raise NoKey("its header can be read with more than one delimiter")
    delimiter, columns = found[0]
    if len(set(columns)) < len(columns):
        raise NoKey("two columns have the same name")
    return delimiter, columns
