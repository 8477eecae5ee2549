"""JSON Lines: one object a line, its keys the columns. Values are compared as they are written (see `json_values`)."""

from __future__ import annotations

from collections.abc import Iterator

from vfs.formats.detail import NotThisFormat, Readable
from vfs.formats.json_values import Object, canonical, parsed, plain, spelling
from vfs.formats.row_spool import Sum, Table, Workspace, check_columns
from vfs.formats.text_encoding import Ends, is_unicode, lines_of


def read_table(source: Readable, workspace: Workspace) -> Table:
    """Returns a table whose rows lie in the workspace. Raises NotThisFormat with the reason."""
    ends, lines = lines_of(source)
    places: dict[tuple[str, int], int] = {}
    spool = workspace.spool()
    blank = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            blank += 1
            continue
        row: list[str | None] = [None] * len(places)
        for key, nth, value in _object(number, line, ends).by_key():
            place = places.setdefault((key, nth), len(places))
            if place == len(row):
                row.append(None)
            row[place] = canonical(value)
        check_columns(len(places))
        spool.add(row)
    facts = ends.facts() | ({"blank lines": f"{blank:,}"} if blank else {})
    return Table(
        [key for key, _ in places],
        spool,
        facts,
        spelling=lambda: _spelling(source),
        plain=lambda _, cell: plain(parsed(cell)),
    )


def _object(number: int, line: str, ends: Ends) -> Object:
    if not is_unicode(line):
        raise NotThisFormat(f"line {number:,} is {ends.encoding}")
    try:
        value = parsed(line)
    except NotThisFormat as reason:
        raise NotThisFormat(f"line {number:,}: {reason}") from None
    if not isinstance(value, Object):
        raise NotThisFormat(f"line {number:,} is no object")
    return value


def _spelling(source: Readable) -> dict[str, Sum]:
    found: dict[str, Sum] = {}
    for line in _filled(lines_of(source)[1]):
        for name, text in spelling(line.rstrip("\r\n")):
            found.setdefault(name, Sum()).add(text)
    return found


def _filled(lines: Iterator[str]) -> Iterator[str]:
    return (line for line in lines if line.strip())
