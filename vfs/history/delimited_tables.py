"""Tables of delimited text (CSV, TSV), exactly as RFC 4180 has them; line ends may be LF alone.

What that grammar does not have is refused with the line and the reason: a guess at where a field or row ends could make
two rows one, and lose what is in between.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import lru_cache

from vfs.history.table_records import BOM, NoKey, Record, Table, add

_DELIMITERS = (b",", b";", b"\t")
_TAB_ENDINGS = (b".tsv", b".tab")


def read_delimited(path: bytes, data: bytes, key: str) -> Table:
    """Returns the rows by the value of their key field. Raises NoKey, with the line and the reason."""
    bom = BOM if data.startswith(BOM) else b""
    records = _records(data[len(bom) :])
    first = next(records, None)
    if first is None:
        return Table(bom, {}, b"")
    wanted = key.encode("utf-8", "surrogateescape")
    delimiter, columns = _columns(path, first[1].body, wanted)
    place = columns.index(wanted)
    rows: dict[Hashable, Record] = {}
    tail, blank = b"", 0
    for line, record in records:
        if not record.body:
            tail, blank = tail + record.end, blank or line
            continue
        if tail:
            raise NoKey(f"line {blank} is blank")
        cells = cells_of(record.body, delimiter, line)
        if len(cells) != len(columns):
            raise NoKey(f"line {line} has {len(cells)} fields where the header has {len(columns)}")
        value = value_of(cells[place])
        add(rows, value, record, value)
    return Table(bom, rows, tail, first[1], columns, delimiter)


def cells_of(body: bytes, delimiter: bytes, line: int) -> list[bytes]:
    """Returns the fields of a row as they are written, with their quotes. Raises NoKey, with the reason."""
    if b'"' not in body:
        if b"\r" in body:
            raise NoKey(f"line {line} has a carriage return inside")
        return body.split(delimiter)
    pattern = _cell(delimiter)
    cells: list[bytes] = []
    at = 0
    while True:
        match = pattern.match(body, at)
        if match is None:
            raise NoKey(f"line {line}: a quote is never closed")
        cells.append(match[0])
        at = match.end()
        if at == len(body):
            return cells
        if body[at : at + 1] != delimiter:
            raise NoKey(f"line {line} has {_stray(match[0], body[at : at + 1])}")
        at += 1


def value_of(cell: bytes) -> bytes:
    """Returns what a field says, without the quotes around it."""
    return cell[1:-1].replace(b'""', b'"') if cell.startswith(b'"') else cell


class Delimited:
    """How rows of delimited text with these columns are written."""

    def __init__(self, columns: tuple[bytes, ...], delimiter: bytes) -> None:
        self._columns = columns
        self._delimiter = delimiter

    def fields(self, table: Table, record: Record) -> dict[bytes, bytes] | None:
        """Returns the bytes of each field by its column."""
        return dict(zip(table.columns, cells_of(record.body, table.delimiter, 0), strict=True))

    def identity(self, value: bytes) -> Hashable:
        """Returns the bytes of a field: its quotes count."""
        return value

    def written(self, fields: Mapping[bytes, bytes], _sides: Sequence[Record | None]) -> bytes | None:
        """Returns a row, empty where it has no field; None where a field that is not empty has no column."""
        if any(value_of(cell) for name, cell in fields.items() if name not in self._columns):
            return None
        return self._delimiter.join(fields.get(name, b"") for name in self._columns)


def _stray(cell: bytes, after: bytes) -> str:
    if cell.startswith(b'"'):
        return "text after a closing quote"
    return 'a quote (") inside a field without quotes around it' if after == b'"' else "a carriage return inside"


@lru_cache(maxsize=len(_DELIMITERS))
def _cell(delimiter: bytes) -> re.Pattern[bytes]:
    return re.compile(rb'"(?:[^"]++|"")*+"|(?!")[^"\r\n' + delimiter + rb"]*+")


def _records(data: bytes) -> Iterator[tuple[int, Record]]:
    """Yields the number of its first line, and the record; one with line ends inside quotes is one."""
    pending: list[bytes] = []
    quotes = start = 0
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        is_last = number == len(lines)
        if not pending:
            start = number
        pending.append(line)
        # Outside quotes, a well-formed row has as many opening as closing ones; the rest is found out field by field.
        quotes += line.count(b'"')
        if quotes % 2 == 0:
            body = b"\n".join(pending)
            pending, quotes = [], 0
            if is_last:
                if body:
                    yield start, Record(body, b"")
            elif body.endswith(b"\r"):
                yield start, Record(body[:-1], b"\r\n")
            else:
                yield start, Record(body, b"\n")
    if pending:
        # Its fields tell what is wrong with it.
        yield start, Record(b"\n".join(pending), b"")


def _columns(path: bytes, header: bytes, key: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Returns the delimiter under which one column has the key's name, and the columns' names."""
    candidates = _DELIMITERS[2:] if path.lower().endswith(_TAB_ENDINGS) else _DELIMITERS
    found: list[tuple[bytes, tuple[bytes, ...]]] = []
    reasons: list[str] = []
    for delimiter in candidates:
        try:
            columns = tuple(value_of(cell) for cell in cells_of(header, delimiter, 1))
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
