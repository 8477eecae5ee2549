"""A second opinion on tables: CSV read character by character as RFC 4180 says, JSON Lines with Python's own reader.

Written to be read and not to be quick, and without a line of the program.
"""

from __future__ import annotations

import json
from typing import NamedTuple

Cells = dict[str, bytes]


class Row(NamedTuple):
    """A row: its fields as they are written, by column or name, all its bytes, and its line end."""

    cells: Cells
    body: bytes
    end: bytes


class Table(NamedTuple):
    """The rows of a well-formed table by the value of their key, in their order."""

    columns: list[str]
    rows: dict[str, Row]


def read_csv(data: bytes, key: str, delimiter: bytes) -> Table | None:
    """Returns the table, or None where the bytes are none that RFC 4180 and a single key have."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    records = _records(data.removeprefix(b"\xef\xbb\xbf"), delimiter)
    if records is None or b"\0" in data:
        return None
    while records and records[-1][0] == [b""]:
        records.pop()
    if not records:
        return Table([], {})
    columns = [_value(cell) for cell in records[0][0]]
    if columns.count(key) != 1 or len(set(columns)) != len(columns):
        return None
    rows: dict[str, Row] = {}
    for cells, end in records[1:]:
        if len(cells) != len(columns) or cells == [b""]:
            return None
        name = _value(cells[columns.index(key)])
        if name in rows:
            return None
        rows[name] = Row(dict(zip(columns, cells, strict=True)), delimiter.join(cells), end)
    return Table(columns, rows)


def _records(data: bytes, delimiter: bytes) -> list[tuple[list[bytes], bytes]] | None:
    records: list[tuple[list[bytes], bytes]] = []
    cells: list[bytes] = []
    at = 0
    while at < len(data):
        start = at
        if data[at : at + 1] == b'"':
            at += 1
            while True:
                if at >= len(data):
                    return None
                if data[at : at + 2] == b'""':
                    at += 2
                elif data[at : at + 1] == b'"':
                    at += 1
                    break
                else:
                    at += 1
        else:
            while at < len(data) and data[at : at + 1] not in (delimiter, b"\r", b"\n", b'"'):
                at += 1
        cells.append(data[start:at])
        if data[at : at + 1] == delimiter:
            at += 1
            if at == len(data):
                records.append(([*cells, b""], b""))
            continue
        end = next((end for end in (b"\r\n", b"\n") if data.startswith(end, at)), b"")
        if not end and at < len(data):
            return None
        records.append((cells, end))
        cells = []
        at += len(end)
    return records


def _value(cell: bytes) -> str:
    text = cell.decode("utf-8")
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def read_json_lines(data: bytes, key: str) -> Table | None:
    """Returns the table, or None where a line is no object with one such key; a name that is there twice counts."""
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError:
        return None
    lines = text.split("\n")
    ends = [b"\n"] * (len(lines) - 1) + [b""]
    while lines and not lines[-1].strip(" \t\r"):
        lines.pop()
    rows: dict[str, Row] = {}
    for line, end in zip(lines, ends, strict=False):
        if line.endswith("\r") and end:
            line, end = line[:-1], b"\r\n"
        members = _members(line)
        if members is None or [name for name, _ in members].count(key) != 1:
            return None
        value = next(text for name, text in members if name == key).partition(":")[2].strip(" \t\r")
        name = "s" + json.loads(value) if value.startswith('"') else "v" + value
        if name in rows:
            return None
        cells = {name: _without_space(text).encode() for name, text in members}
        if len(cells) < len(members):
            cells = {"": line.encode()}
        rows[name] = Row(cells, line.encode(), end)
    return Table([], rows)


def _without_space(text: str) -> str:
    """Returns JSON without the space between its tokens, which is no part of a value."""
    kept, in_string, escaped = [], False, False
    for letter in text:
        if in_string or letter not in " \t\r":
            kept.append(letter)
        if letter == '"' and not escaped:
            in_string = not in_string
        escaped = in_string and letter == "\\" and not escaped
    return "".join(kept)


def _members(line: str) -> list[tuple[str, str]] | None:
    """Returns the name of each member of an object, and its text."""
    decoder = json.JSONDecoder(parse_int=str)
    try:
        json.loads(line, parse_int=str)
    except ValueError:
        return None
    at = len(line) - len(line.lstrip(" \t\r"))
    if line[at] != "{":
        return None
    members: list[tuple[str, str]] = []
    at += 1
    while True:
        while line[at] in " \t\r,":
            at += 1
        if line[at] == "}":
            return members
        start = at
        name, at = decoder.raw_decode(line, at)
        while line[at] in " \t\r:":
            at += 1
        _, at = decoder.raw_decode(line, at)
        members.append((name, line[start:at]))
