"""Tables of JSON Lines: one object a line, by the value of a member. Rows and members are the bytes that they are.

`vfs/text/json_objects.py` has the grammar.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from vfs.history.table_records import ABSENT, BOM, MIXED, NoKey, Record, Table, add, merged_order, pick, require_utf8
from vfs.text.ill_formed import IllFormed
from vfs.text.json_objects import ObjectParts, identity_of, object_parts, without_space

JSON_ENDINGS = (b".jsonl", b".ndjson")
Known = dict[bytes, tuple[Hashable, bytes]]
"""The identity of a key and its bytes, by the bytes of a row that was read before."""


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


def parts_of(body: bytes, line: int = 0) -> ObjectParts:
    """Returns the members of an object that is a line. Raises NoKey, with the line and the reason."""
    try:
        return object_parts(body, line)
    except IllFormed as error:
        raise NoKey(str(error)) from None


class JsonLines:
    """How rows of JSON Lines are written."""

    def fields(self, _table: Table, record: Record) -> dict[bytes, bytes] | None:
        """Returns the bytes of each member's value by its name; None where a name is there twice."""
        members = parts_of(record.body).members
        fields = {member.name.encode("utf-8", "surrogatepass"): member.value for member in members}
        return fields if len(fields) == len(members) else None

    def identity(self, value: bytes) -> Hashable:
        """Returns what is written, without the space between tokens."""
        return without_space(value)

    def written(self, fields: Mapping[bytes, bytes], sides: Sequence[Record | None]) -> bytes | None:
        """Returns an object with these members, in the order and with the space that a side gave them, or None."""
        parts = [parts_of(record.body) if record is not None else None for record in sides]
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


def _separator(parts: Sequence[ObjectParts | None]) -> Any:
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
