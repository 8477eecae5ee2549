"""Tables of JSON Lines: one object a line, by the value of a member. Rows and members are the bytes that they are.

The scanner is of our own since values must not pass through Python's: `1`, `1.0` and `true` are equal there, long
numbers are refused, names that are there twice are dropped, and deep nesting ends in an exception. `NaN` and `Infinity`
are taken as they stand, since Python and pandas write them.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vfs.history.table_records import ABSENT, BOM, MIXED, NoKey, Record, Table, add, merged_order, pick, require_utf8

JSON_ENDINGS = (b".jsonl", b".ndjson")
Known = dict[bytes, tuple[Hashable, bytes]]
"""What a key is told apart by, and how it is written, of rows that were read before."""

_SPACE = rb"[ \t\r]*+"
_STRING = rb'"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+"'
_WORD = rb"(?:-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?(?![0-9.eE+-])|true|false|null|NaN|-?Infinity)"
_OPENING = re.compile(_SPACE + rb"\{" + _SPACE)
_NAME = re.compile(rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE)
_SCALAR = rb"(?:" + _STRING + rb"|" + _WORD + rb")" + _SPACE
_ITEM, _PAIR = _SPACE + _SCALAR, _SPACE + _STRING + _SPACE + rb":" + _SPACE + _SCALAR
# Scalars, and arrays and objects of them: what most values are, found in one step.
_SIMPLE = re.compile(
    _STRING + rb"|" + _WORD + rb"|\[" + _ITEM + rb"(?:," + _ITEM + rb")*+\]|\{" + _PAIR + rb"(?:," + _PAIR + rb")*+\}"
)
_AFTER = re.compile(_SPACE + rb"([,}])" + _SPACE)
_TOKEN = re.compile(_SPACE + rb"(?:(?P<string>" + _STRING + rb")|(?P<word>" + _WORD + rb")|(?P<sign>[{}\[\],:]))")


class Member(NamedTuple):
    """A member of an object: its name as it is written and as it reads, all its bytes, and those of its value."""

    name: str
    text: bytes
    value: bytes

    def lead(self) -> bytes:
        """Returns what stands before the value: the name as it is written, and the colon."""
        return self.text[: len(self.text) - len(self.value)]


class Parts(NamedTuple):
    """The bytes of an object: `opening`, members with a separator between each two, `closing`."""

    opening: bytes
    members: list[Member]
    separators: list[bytes]
    closing: bytes


def read_json_lines(data: bytes, key: str, known: Known) -> Table:
    """Returns the rows by the value of their key; adds to `known`. Raises NoKey, with the line and the reason."""
    bom = BOM if data.startswith(BOM) else b""
    require_utf8(data)
    rows: dict[Hashable, Record] = {}
    tail, blank = b"", 0
    for number, record in _lines(data[len(bom) :]):
        if not record.body.strip(b" \t\r"):
            tail, blank = tail + record.body + record.end, blank or number
            continue
        if tail:
            raise NoKey(f"line {blank} is blank")
        found = known.get(record.body)
        if found is None:
            found = known[record.body] = _key_of(record.body, key, number)
        add(rows, found[0], record, found[1])
    return Table(bom, rows, tail)


def _key_of(body: bytes, key: str, number: int) -> tuple[Hashable, bytes]:
    found = [member.value for member in parts_of(body, number).members if member.name == key]
    if len(found) != 1:
        raise NoKey(f"line {number} has {'no' if not found else 'more than one'} {key!r}")
    return identity_of(found[0]), found[0]


def parts_of(body: bytes, number: int) -> Parts:
    """Returns the members of an object that is a line. Raises NoKey, with the line's number and the reason."""
    opening = _OPENING.match(body)
    if opening is None:
        raise NoKey(f"line {number} is no JSON object")
    members: list[Member] = []
    separators: list[bytes] = []
    at = opening.end()
    if body[at:].rstrip(b" \t\r") == b"}":
        return Parts(opening[0], members, separators, body[at:])
    while True:
        name = _NAME.match(body, at)
        if name is None:
            raise _no_json(number, at)
        simple = _SIMPLE.match(body, name.end())
        end = simple.end() if simple is not None else _end_of_nested(body, name.end(), number)
        text = name[1]
        read = json.loads(text) if b"\\" in text else text[1:-1].decode("utf-8", "surrogateescape")
        members.append(Member(read, body[at:end], body[name.end() : end]))
        after = _AFTER.match(body, end)
        if after is None:
            raise _no_json(number, end)
        if after[1] == b"}":
            if after.end() != len(body):
                raise _no_json(number, after.end())
            return Parts(opening[0], members, separators, after[0])
        separators.append(after[0])
        at = after.end()


def _no_json(number: int, at: int) -> NoKey:
    return NoKey(f"line {number} is no JSON (at byte {at + 1})")


class JsonLines:
    """How rows of JSON Lines are written."""

    def fields(self, _table: Table, record: Record) -> dict[bytes, bytes] | None:
        """Returns the bytes of each member's value by its name; None where a name is there twice."""
        members = parts_of(record.body, 0).members
        fields = {member.name.encode("utf-8", "surrogatepass"): member.value for member in members}
        return fields if len(fields) == len(members) else None

    def identity(self, value: bytes) -> Hashable:
        """Returns what is written, without the space between tokens."""
        return _without_space(value)

    def written(self, fields: Mapping[bytes, bytes], sides: Sequence[Record | None]) -> bytes | None:
        """Returns an object with these members, in the order and with the space that a side gave them, or None."""
        parts = [parts_of(record.body, 0) if record is not None else None for record in sides]
        if any(len(set(part.separators)) > 1 for part in parts if part is not None):
            return None
        names = [[] if part is None else [member.name.encode("utf-8", "surrogatepass") for member in part.members]
                 for part in parts]  # fmt: skip
        order = merged_order(*names)
        leads = [{} if part is None else {member.name.encode("utf-8", "surrogatepass"): member.lead()
                                          for member in part.members} for part in parts]  # fmt: skip
        opening = pick(*(ABSENT if part is None else part.opening for part in parts))
        closing = pick(*(ABSENT if part is None else part.closing for part in parts))
        separator = _separator(parts)
        if order is None or MIXED in (opening, closing, separator):
            return None
        members: list[bytes] = []
        for name in (name for name in order if name in fields):
            lead = pick(*(each.get(name, ABSENT) for each in leads))
            if lead is MIXED:
                return None
            members.append(
                (next(each[name] for each in leads if name in each) if lead is ABSENT else lead) + fields[name]
            )
        body: bytes = opening + separator.join(members) + closing
        return body


def _separator(parts: Sequence[Parts | None]) -> Any:
    """Returns what stands between members, or MIXED; an object with one member says nothing about it."""
    base, ours, theirs = (part.separators[0] if part is not None and part.separators else ABSENT for part in parts)
    if ABSENT in (ours, theirs):
        known = theirs if ours is ABSENT else ours
        return b"," if known is ABSENT else known
    return pick(base, ours, theirs)


def _lines(data: bytes) -> Iterator[tuple[int, Record]]:
    lines = data.split(b"\n")
    last = lines.pop()
    for number, line in enumerate(lines, 1):
        yield number, Record(line[:-1], b"\r\n") if line.endswith(b"\r") else Record(line, b"\n")
    if last:
        yield len(lines) + 1, Record(last, b"")


def identity_of(value: bytes) -> Hashable:
    """Returns what a value is told apart by: what a string says; of others what is written, without space."""
    if value.startswith(b'"'):
        return (str, json.loads(value))
    return _without_space(value)


def _without_space(value: bytes) -> bytes:
    if not value.startswith((b"{", b"[")):
        return value
    return b"".join(value[start:end] for start, end in _tokens(value, 0, 0))


def _end_of_nested(text: bytes, at: int, number: int) -> int:
    return deque(_tokens(text, at, number), maxlen=1)[0][1]


def _tokens(text: bytes, at: int, number: int) -> Iterator[tuple[int, int]]:
    """Yields where the tokens of a value are, however deep it is nested; raises NoKey where it is none."""
    open_signs: list[bytes] = []
    # What may come next: a value, a name, a colon, or what follows a value; `is_first` after an opening sign.
    expected, is_first = "value", False
    while expected != "after" or open_signs:
        match = _TOKEN.match(text, at)
        kind = match.lastgroup if match is not None else None
        if match is None or kind is None:
            raise _no_json(number, at)
        start, end = match.span(kind)
        found = _next(text[start:end], kind, expected, is_first, open_signs)
        if found is None:
            raise _no_json(number, start)
        expected, is_first = found
        at = end
        yield start, end


def _next(token: bytes, kind: str, expected: str, is_first: bool, open_signs: list[bytes]) -> tuple[str, bool] | None:
    """Returns what may come after a token, or None where it may not stand."""
    if expected in ("value", "name") and is_first and token == (b"]" if expected == "value" else b"}"):
        open_signs.pop()
        return "after", False
    if expected == "name" and kind == "string":
        return "colon", False
    if expected == "colon" and token == b":":
        return "value", False
    if expected == "value":
        if token in (b"{", b"["):
            open_signs.append(token)
            return ("name" if token == b"{" else "value"), True
        return ("after", False) if kind != "sign" else None
    if expected == "after":
        is_object = open_signs[-1] == b"{"
        if token == b",":
            return ("name" if is_object else "value"), False
        if token == (b"}" if is_object else b"]"):
            open_signs.pop()
            return "after", False
    return None
