"""Goal: whatever tables are merged by row, every change is in the result or in conflict, by a second reader's count."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from support import tables
from support.tables import Row, Table
from vfs.history.merge_lines import Labels, Region, join_regions
from vfs.history.merge_rows import merge_rows
from vfs.history.table_records import NoKey

LABELS = Labels("ours", "base", "theirs")
Three = tuple[bytes, bytes, bytes]

# What is written, and what is not.

_CELLS = [
    b"a",
    b"b",
    b"",
    b'""',
    b'"a"',
    b'"x,y;z"',
    b'"two\nlines"',
    b'"two\r\nlines"',
    b'"a""b"',
    b" a ",
    "é".encode(),
]
_STRAY = [b'5" pipe', b'"a"b', b'"a" ', b"a\rb", b'"', b"\xff", b"\0", b'"x\n']
_VALUES = [
    b"1", b"1.0", b"true", b'"1"', b"1e400", b"-0", b"0", b"0.0", b"NaN", b"null", b'"\\ud800"', '"é"'.encode(),
    b'"\\u00e9"', b"1" * 4500, b'[1, {"k":1,"k":2}]', b"[1,{}]", b'{"id": 2}', b'"a,\\"b\\\\"', b"[]",
]  # fmt: skip
_NO_VALUES = [
    b"",
    b"01",
    b"nan",
    b"1.",
    b"tru",
    b'"\xff"',
    b"[1",
    b"{1:2}",
    b'"a\tb"',
    b"1 2",
    b"[1,]",
    b'"\\x"',
    b"\0",
]
_ENDS = [b"\n", b"\n", b"\n", b"\r\n"]


@st.composite
def _csv_sides(draw: st.DrawFn) -> tuple[bytes, Three]:
    """A delimiter and three versions of a table, which may have been written by programs that do it wrong."""
    delimiter = draw(st.sampled_from([b",", b";", b"\t"]))
    cell = st.sampled_from([cell for cell in _CELLS if draw(st.booleans())] or _CELLS)
    if draw(st.integers(0, 4)) == 0:
        cell |= st.sampled_from(_STRAY)
    columns = draw(st.permutations(["id", "u", "v"]))
    base = {str(number): {name: draw(cell) for name in columns} for number in range(draw(st.integers(0, 4)))}

    def side(rows: dict[str, Any], names: list[str]) -> tuple[dict[str, Any], list[str]]:
        rows, names = {key: dict(row) for key, row in rows.items()}, list(names)
        for _ in range(draw(st.integers(0, 3))):
            kind = draw(st.integers(0, 9))
            if kind <= 3 and rows:
                rows[draw(st.sampled_from(sorted(rows)))][draw(st.sampled_from(names))] = draw(cell)
            elif kind == 4 and rows:
                del rows[draw(st.sampled_from(sorted(rows)))]
            elif kind <= 6:
                rows[str(draw(st.integers(0, 6)))] = {name: draw(cell) for name in names}
            elif kind == 7:
                rows = {key: rows[key] for key in draw(st.permutations(list(rows)))}
            elif kind == 8:
                names = draw(st.permutations([*names, draw(st.sampled_from(["w", "z"]))]))
            elif len(names) > 2:
                names.remove(draw(st.sampled_from([name for name in names if name != "id"])))
            names = list(dict.fromkeys(names))
        return rows, names

    def written(rows: dict[str, Any], names: list[str]) -> bytes:
        end = draw(st.sampled_from(_ENDS))
        lines = [delimiter.join(name.encode() for name in names)]
        for key, row in rows.items():
            quoted = b'"%s"' if draw(st.integers(0, 9)) == 0 else b"%s"
            lines.append(
                delimiter.join(quoted % key.encode() if name == "id" else row.get(name, b"") for name in names)
            )
        text = end.join(lines) + end
        changed = draw(st.integers(0, 19))
        if changed == 0:
            return b""
        if changed == 1:
            at = draw(st.integers(0, len(text)))
            return text[:at] + draw(st.sampled_from([b'"', b"\n", delimiter, b"\r", b"\xe9"])) + text[at:]
        bom = b"\xef\xbb\xbf" if changed == 2 else b""
        return bom + (text.removesuffix(end) if changed in (3, 4) else text + end if changed == 5 else text)

    sides = [(base, columns), side(base, columns), side(base, columns)]
    return delimiter, tuple(written(*each) for each in sides)  # type: ignore[return-value]


@given(_csv_sides())
def test_a_merged_csv_has_every_change_or_is_a_conflict(given_sides: tuple[bytes, Three]) -> None:
    delimiter, sides = given_sides
    read = [tables.read_csv(data, "id", delimiter) for data in sides]
    _check(b"x.tsv" if delimiter == b"\t" else b"x.csv", sides, read, delimiter)


@st.composite
def _json_sides(draw: st.DrawFn) -> Three:
    value = st.sampled_from([value for value in _VALUES if draw(st.booleans())] or _VALUES)
    if draw(st.integers(0, 4)) == 0:
        value |= st.sampled_from(_NO_VALUES)
    names = [b"id", b"u", b"v", b"\\u0076"] if draw(st.integers(0, 4)) == 0 else [b"id", b"u", b"v", b"w"]
    members = st.lists(st.tuples(st.sampled_from(names[1:]), value), max_size=3)
    base = {number: draw(members) for number in range(draw(st.integers(0, 4)))}

    def side(rows: dict[int, Any]) -> dict[int, Any]:
        rows = {key: list(row) for key, row in rows.items()}
        for _ in range(draw(st.integers(0, 3))):
            kind = draw(st.integers(0, 9))
            row = rows[draw(st.sampled_from(sorted(rows)))] if rows else []
            if kind <= 3 and row:
                row[draw(st.integers(0, len(row) - 1))] = (draw(st.sampled_from(names[1:])), draw(value))
            elif kind == 4 and rows:
                del rows[draw(st.sampled_from(sorted(rows)))]
            elif kind == 5:
                rows[draw(st.integers(0, 6))] = draw(members)
            elif kind == 6:
                rows = {key: rows[key] for key in draw(st.permutations(list(rows)))}
            elif kind == 7:
                row.reverse()
            elif kind == 8 and row:
                row.pop()
            else:
                row.append((draw(st.sampled_from(names[1:])), draw(value)))
        return rows

    def written(rows: dict[int, Any]) -> bytes:
        end = draw(st.sampled_from(_ENDS))
        comma = draw(st.sampled_from([b",", b",", b", "]))
        lines = [
            b"{" + comma.join(b'"%s":%s' % member for member in ((b"id", b"%d" % key), *row)) + b"}"
            for key, row in rows.items()
        ]
        text = end.join(lines) + end if lines else b""
        changed = draw(st.integers(0, 19))
        if changed == 0:
            return b""
        if changed == 1:
            at = draw(st.integers(0, len(text)))
            return text[:at] + draw(st.sampled_from([b'"', b"\n", b",", b"}", b" ", b"\xe9"])) + text[at:]
        bom = b"\xef\xbb\xbf" if changed == 2 else b""
        return bom + (text.removesuffix(end) if changed in (3, 4) else text + end if changed == 5 else text)

    return written(base), written(side(base)), written(side(base))


@given(_json_sides())
def test_merged_json_lines_have_every_change_or_are_a_conflict(sides: Three) -> None:
    _check(b"x.jsonl", sides, [tables.read_json_lines(data, "id") for data in sides], b"")


def _soup(*pieces: bytes) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(pieces), max_size=12).map(b"".join)


@given(st.tuples(*[_soup(b"1", b"2", b",", b"\n", b'"', b'""', b"\r\n", b"\r", b"a", b"1,a\n", b'2,"', b"3,\n")] * 3))
def test_any_bytes_below_a_header_merge_as_they_are_or_not_at_all(rows: Three) -> None:
    sides = (b"id,t\n" + rows[0], b"id,t\n" + rows[1], b"id,t\n" + rows[2])
    _check(b"x.csv", sides, [tables.read_csv(data, "id", b",") for data in sides], b",")


_PIECES = (
    b'{"id":1}\n',
    b'{"id":2,"u":',
    b'"',
    b"1",
    b"}",
    b"\n",
    b"{",
    b"[",
    b"]",
    b",",
    b'"u":',
    b"true",
    b" ",
    b"\\",
)


@given(st.tuples(_soup(*_PIECES), _soup(*_PIECES), _soup(*_PIECES)))
def test_any_bytes_merge_as_json_lines_or_not_at_all(sides: Three) -> None:
    _check(b"x.jsonl", sides, [tables.read_json_lines(data, "id") for data in sides], b"")


def _check(path: bytes, sides: Three, read: list[Table | None], delimiter: bytes) -> None:
    base, ours, theirs = sides
    regions, reason = _attempt(path, sides)
    if reason:
        assert len(set(sides)) == 3
        assert any(table is None for table in read) or _disagree(read, sides), reason
        return
    if ours == theirs or base in (ours, theirs):
        assert join_regions(regions, LABELS) == (theirs if ours == base else ours)
        return
    assert None not in read, "what is no table was merged by row"
    tables_read = [table for table in read if table is not None]
    keys = set().union(*(table.rows for table in tables_read))
    text = b"".join(raw for region in regions for raw in region.merged or ())
    again = tables.read_csv(text, "id", delimiter) if delimiter else tables.read_json_lines(text, "id")
    assert again is not None, text
    conflicts = [region for region in regions if region.merged is None]
    rows_of = [{row.body: key for key, row in table.rows.items()} for table in tables_read]
    marked = set()
    for region in conflicts:
        for side, lines in zip(rows_of, (region.base, region.ours, region.theirs), strict=True):
            marked |= {side[raw.rstrip(b"\r\n") if raw.rstrip(b"\r\n") in side else raw] for raw in lines}
    assert not marked & set(again.rows)
    for key in marked:
        # Nothing is in conflict that one side left, or that both sides changed alike.
        rows = [table.rows.get(key) for table in tables_read]
        same_columns = len({tuple(table.columns) for table in tables_read}) == 1
        if same_columns and all(row is None or row.end for row in rows):
            assert len({row and (row.body, row.end) for row in rows}) == 3
    for key in keys - marked:
        old, mine, other = (table.rows.get(key) for table in tables_read)
        _check_row(old, mine, other, again.rows.get(key), again.columns)
    if not conflicts:
        _check_layout(tables_read, again, sides, text)


def _attempt(path: bytes, sides: Three) -> tuple[list[Region], str]:
    """Returns the merged regions, or why there are none."""
    try:
        return merge_rows(path, "id", *sides), ""
    except NoKey as error:
        return [], error.message or "no reason"


def _disagree(read: list[Table | None], sides: Three) -> bool:
    """Returns True if both sides changed what concerns all rows: columns, header, order, trailing lines."""
    base, ours, theirs = (table or Table([], {}) for table in read)
    if not all(side.removeprefix(b"\xef\xbb\xbf").strip() for side in sides):
        return True
    orders = [[key for key in table.rows if all(key in each.rows for each in (base, ours, theirs))]
              for table in (base, ours, theirs)]  # fmt: skip
    heads = [side.split(b"\n")[0] for side in sides]
    tails = [side[len(side.rstrip(b" \t\r\n")) :] not in (b"", b"\n", b"\r\n") for side in sides]
    return len({*map(tuple, orders)}) == 3 or len(set(heads)) == 3 or any(tails)


def _check_row(old: Row | None, mine: Row | None, other: Row | None, found: Row | None, columns: list[str]) -> None:
    for side, rest in ((mine, other), (other, mine)):
        if side is None:
            # A row that one side lacks is gone if it was there and the other side has not changed it.
            if old is not None:
                assert found is None
                assert rest is None or _is_unchanged(old, rest)
            continue
        if found is None:
            assert rest is None
            continue
        before = old.cells if old is not None else {}
        for name in {*side.cells, *before}:
            was, now = before.get(name), side.cells.get(name)
            if was == now:
                continue
            if columns and name not in columns:
                assert now in (None, b"", b'""'), name
            elif columns and now is None:
                assert found.cells[name] == b"" or found.cells[name] in ((rest.cells if rest else {}).get(name),)
            else:
                assert found.cells.get(name) == now
    if found is None:
        return
    # Nothing is there that no side has.
    for name, cell in found.cells.items():
        assert cell == b"" or cell in [side.cells.get(name) for side in (mine, other) if side is not None]
    if mine is not None and other is not None and mine.body == other.body:
        assert found.body == mine.body


def _is_unchanged(old: Row, new: Row) -> bool:
    return all(old.cells.get(name, b'""') == cell or (cell in (b"", b'""') and name not in old.cells)
               for name, cell in new.cells.items())  # fmt: skip


def _check_layout(read: list[Table], found: Table, sides: Three, text: bytes) -> None:
    orders = [[key for key in table.rows if all(key in each.rows for each in read)] for table in [*read, found]]
    assert orders[3] == (orders[2] if orders[1] == orders[0] else orders[1])
    ends = [side[len(side.rstrip(b"\r\n")) :].replace(b"\r", b"") for side in (*sides, text)]
    marks = [side.startswith(b"\xef\xbb\xbf") for side in (*sides, text)]
    for base, ours, theirs, merged_one in (ends, marks):
        if all(side.removeprefix(b"\xef\xbb\xbf").strip() for side in (*sides, text)):
            assert merged_one == (theirs if ours == base else ours)
