"""Delimited text, CSV and TSV: RFC 4180 to the letter, with no guess.

The first record names the columns. A comma delimits, in `.tsv` a tab, a semicolon where the first record of a `.csv`
has one and no comma. What does not have the same number of fields in every record is no table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vfs.formats.detail import NotThisFormat, Readable
from vfs.formats.quantities import human_count
from vfs.formats.row_spool import Sum, Table, Workspace
from vfs.formats.text_encoding import Ends, lines_of

_WORDS = {",": "comma", ";": "semicolon", "\t": "tab"}


def read_table(name: bytes, source: Readable, workspace: Workspace) -> Table:
    """Returns a table whose rows lie in the workspace. Raises NotThisFormat with the reason."""
    if name.endswith(b".tsv"):
        return _read(source, workspace, "\t")
    if _has_semicolons(source):
        try:
            return _read(source, workspace, ";")
        except NotThisFormat:
            # A single column whose name has a semicolon.
            pass
    return _read(source, workspace, ",")


def _has_semicolons(source: Readable) -> bool:
    _, lines = lines_of(source)
    for _, record in _records(lines):
        return len(_fields(1, record, ",")) == 1 and len(_fields(1, record, ";")) > 1
    return False


def _read(source: Readable, workspace: Workspace, delimiter: str) -> Table:
    ends, lines = lines_of(source)
    columns: Sequence[str] | None = None
    spool = workspace.spool()
    quoted = Sum()
    blank = 0
    for number, record in _records(lines):
        fields = _fields(number, record, delimiter)
        if '"' in record:
            quoted.add(record)
        if columns is None:
            columns = fields
        elif len(fields) == len(columns):
            # Of a single column a blank line is a row for some readers and for others none: not the same as `""`.
            spool.add(fields if record else [None])
        elif not record:
            blank += 1
        else:
            raise NotThisFormat(
                f"line {number:,} has {human_count(len(fields), 'field')}, the first line {len(columns):,}"
            )
    facts = _facts(ends, delimiter) | ({"blank lines": f"{blank:,}"} if blank else {})
    return Table(columns or [], spool, facts, spelling=lambda: {"quotes": quoted})


def _facts(ends: Ends, delimiter: str) -> dict[str, str]:
    return ends.facts() | {"delimiter": _WORDS[delimiter]}


def _records(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    """Yields each record without its end, and the number of its first line."""
    parts: list[str] = []
    first = 0
    is_open = False
    for number, line in enumerate(lines, 1):
        if not is_open and '"' not in line:
            yield number, line[:-2] if line.endswith("\r\n") else line.removesuffix("\n")
            continue
        if not parts:
            first = number
        parts.append(line)
        # Quotes come in pairs: a record goes on where a line leaves one open.
        is_open ^= line.count('"') % 2 == 1
        if not is_open:
            record = "".join(parts) if len(parts) > 1 else line
            parts = []
            yield first, record[:-2] if record.endswith("\r\n") else record.removesuffix("\n")
    if parts:
        raise NotThisFormat(f"line {first:,} has a quote without its pair")


_FIELDS = {
    delimiter: re.compile(rf'(?:"([^"]*+(?:""[^"]*+)*+)"|([^"\r\n{delimiter}]*+))({delimiter}|\Z)')
    for delimiter in _WORDS
}


def _fields(number: int, record: str, delimiter: str) -> list[str]:
    if '"' not in record:
        if "\r" in record:
            raise NotThisFormat(f"line {number:,} has a carriage return in a field without quotes")
        return record.split(delimiter)
    fields = []
    at, more = 0, True
    while more:
        match = _FIELDS[delimiter].match(record, at)
        if match is None:
            raise NotThisFormat(f"line {number:,} has a quote or a line end where RFC 4180 has none")
        fields.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        at, more = match.end(), bool(match[3])
    return fields
