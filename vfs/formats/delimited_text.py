"""The rows of delimited text, CSV and TSV (vfs/text/delimited_grammar.py has the grammar).

The first record names the columns. A comma delimits, in `.tsv` a tab, a semicolon where the first record of a `.csv`
has one and no comma. What does not have the same number of fields in every record is no table.
"""

from __future__ import annotations

from collections.abc import Sequence

from vfs.formats.detail import NotThisFormat, Readable
from vfs.formats.quantities import human_count
from vfs.formats.row_spool import Sum, Table, Workspace, check_columns
from vfs.formats.text_encoding import Ends, lines_of
from vfs.text.delimited_grammar import QUOTE, TEXT
from vfs.text.ill_formed import IllFormed

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
    for line, record, _ in TEXT.records(lines):
        return len(_fields(line, record, ",")) == 1 and len(_fields(line, record, ";")) > 1
    return False


def _read(source: Readable, workspace: Workspace, delimiter: str) -> Table:
    ends, lines = lines_of(source)
    columns: Sequence[str] | None = None
    spool = workspace.spool()
    quoted = Sum()
    blank = 0
    for line, record, _ in TEXT.records(lines):
        fields = _fields(line, record, delimiter)
        if QUOTE in record:
            quoted.add(record)
        if columns is None:
            columns = fields
            check_columns(len(columns))
        elif len(fields) == len(columns):
            # Of a single column a blank line is a row for some readers and for others none: not the same as `""`.
            spool.add(fields if record else [None])
        elif not record:
            blank += 1
        else:
            raise NotThisFormat(
                f"line {line:,} has {human_count(len(fields), 'field')}, the first line {len(columns):,}"
            )
    facts = _facts(ends, delimiter) | ({"blank lines": f"{blank:,}"} if blank else {})
    return Table(columns or [], spool, facts, spelling=lambda: {"quotes": quoted})


def _fields(line: int, record: str, delimiter: str) -> list[str]:
    try:
        return TEXT.values(record, delimiter, line)
    except IllFormed as error:
        raise NotThisFormat(f"line {error.line:,} {error.reason}") from None


def _facts(ends: Ends, delimiter: str) -> dict[str, str]:
    return ends.facts() | {"delimiter": _WORDS[delimiter]}
