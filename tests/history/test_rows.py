"""Goal: a table merged by row has what both sides changed, as the bytes they wrote, or is a conflict that says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import tables
from support.tables import Row, Table
from vfs.history.lines import Labels, Stretch, join
from vfs.history.records import NoKey
from vfs.history.rows import merge_rows, rows_by_key

LABELS = Labels("ours", "base", "theirs")
Three = tuple[bytes, bytes, bytes]


def merged(path: bytes, base: bytes, ours: bytes, theirs: bytes) -> bytes:
    return join(merge_rows(path, "id", base, ours, theirs), LABELS)


def refused(path: bytes, base: bytes, ours: bytes, theirs: bytes) -> str:
    with pytest.raises(NoKey) as caught:
        merge_rows(path, "id", base, ours, theirs)
    return caught.value.message


CSV = b"id,t,u\n1,a,x\n2,b,y\n"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (b"x.csv", lambda text: text),
        (b"X.CSV", lambda text: text),
        (b"x.csv", lambda text: text.replace(b",", b";")),
        (b"x.csv", lambda text: text.replace(b",", b"\t")),
        (b"x.tsv", lambda text: text.replace(b",", b"\t")),
        (b"X.TSV", lambda text: text.replace(b",", b"\t")),
        (b"x.csv", lambda text: text.replace(b"\n", b"\r\n")),
        (b"x.csv", lambda text: text.removesuffix(b"\n")),
        (b"x.csv", lambda text: text.replace(b"\n", b"\r\n").removesuffix(b"\r\n")),
        (b"x.csv", lambda text: text + b"\n\n"),
        (b"x.csv", lambda text: b"\xef\xbb\xbf" + text),
        (b"x.csv", lambda text: b"\xef\xbb\xbf" + text.replace(b"id", b'"id"')),
        (b"x.csv", lambda text: text.replace(b"x", b"x" * 300_000)),
        (b"x.csv", lambda text: text.replace(b"x", b'"' + b'x""' * 100_000 + b'"')),
        (b"x.csv", lambda text: text.replace(b"x", b'"two\nlines, and ""quotes"""')),
        (b"x.csv", lambda text: text.replace(b"x", '"\N{CJK UNIFIED IDEOGRAPH-4E2D}"'.encode())),
    ],
)
def test_a_csv_keeps_how_it_is_written(name: bytes, change: Callable[[bytes], bytes]) -> None:
    ours, theirs = CSV.replace(b"1,a", b"1,A"), CSV.replace(b"2,b", b"2,B") + b"3,c,z\n"
    both = ours.replace(b"2,b", b"2,B") + b"3,c,z\n"
    assert merged(name, change(CSV), change(ours), change(theirs)) == change(both)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'3,5" pipe,z\n', 'line 4 has a quote (") inside a field'),
        (b'3,"a"b,z\n', "line 4 has text after a closing quote"),
        (b'3,"a" ,z\n', "line 4 has text after a closing quote"),
        (b'3, "a",z\n', 'line 4 has a quote (") inside a field'),
        (b'3,"a,z\n', "line 4: a quote is never closed"),
        (b"3,a\rb,z\n", "line 4 has a carriage return inside"),
        (b'3,"q",a\rb\n', "line 4 has a carriage return inside"),
        (b"3,\0,z\n", "line 4 has a zero byte"),
        (b"3,\xe9,z\n", "line 4 is not UTF-8"),
        (b"3,a\n", "line 4 has 2 fields where the header has 3"),
        (b"3,a,z,\n", "line 4 has 4 fields where the header has 3"),
        (b"\n3,a,z\n", "line 4 is blank"),
        (b"2,again,z\n", "two rows have the key '2'"),
        (b'"2",again,z\n', "two rows have the key '2'"),
    ],
)
def test_what_rfc_4180_does_not_have_is_refused_with_the_line(line: bytes, reason: str) -> None:
    changed = (CSV + b"4,d,z\n", CSV.replace(b"1,a", b"1,A"))
    for place, side in enumerate(("base", "ours", "theirs")):
        sides = [CSV + b"5,e,z\n", *changed]
        sides[place] = CSV + line
        assert refused(b"x.csv", *sides).startswith(f"{side}: {reason}")


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "reason"),
    [
        (CSV, b"", CSV + b"3,c,z\n", "ours was emptied"),
        (CSV, CSV + b"3,c,z\n", b"\xef\xbb\xbf", "theirs was emptied"),
        (b"", b"id,t\n1,a\n", b"id,u\n2,b\n", "its sides have other columns"),
        (b"", b"id,t\n1,a\n", b"t,id\na,1\n", "its sides have other columns"),
        (CSV, b"id,t,u,v\n1,a,x,\n2,b,y,\n", b"id,t\n1,a\n2,b\n", "both sides changed its columns"),
        (CSV, CSV.replace(b"t,", b'"t",'), CSV.replace(b"t,u\n", b"t,w\n"), "both sides changed its header"),
        (CSV, CSV.replace(b"id", b"key"), CSV + b"3,c,z\n", "ours: it has no single column 'id'"),
        (CSV, CSV.replace(b"t,", b"id,"), CSV + b"3,c,z\n", "ours: it has no single column 'id'"),
        (CSV, CSV.replace(b"t,", b"u,"), CSV + b"3,c,z\n", "ours: two columns have the same name"),
        (CSV, CSV.replace(b",", b";"), CSV + b"3,c,z\n", "its sides have other characters between their fields"),
        (CSV, CSV + b"\n", CSV + b"\n\n", "both sides changed the end of the file"),
        (
            CSV + b"3,c,z\n",
            b"id,t,u\n2,b,y\n1,a,x\n3,c,z\n",
            b"id,t,u\n1,a,x\n3,c,z\n2,b,y\n",
            "both sides changed the order of its rows",
        ),
    ],
)
def test_what_concerns_all_rows_is_a_conflict_that_says_what(
    base: bytes, ours: bytes, theirs: bytes, reason: str
) -> None:
    assert refused(b"x.csv", base, ours, theirs).startswith(reason)


def test_columns_that_one_side_changed_are_those_of_all_rows() -> None:
    added = b"id,t,u,v\n1,a,x,\n2,b,y,new\n"
    assert merged(b"x.csv", CSV, added, CSV.replace(b"1,a", b"1,A") + b"3,c,z\n") == (
        b"id,t,u,v\n1,A,x,\n2,b,y,new\n3,c,z,\n"
    )
    removed = b"id,u\n1,x\n2,y\n"
    assert merged(b"x.csv", CSV, CSV.replace(b"2,b,y", b"2,b,Y"), removed) == b"id,u\n1,x\n2,Y\n"
    # What the other side wrote into a column that is gone is in conflict, and so is a row that it deleted.
    assert b"\n<<<<<<< ours\n2,B,y\n" in merged(b"x.csv", CSV, CSV.replace(b"2,b", b"2,B"), removed)
    assert b"\n<<<<<<< ours\n3,c,z\n" in merged(b"x.csv", CSV, CSV + b"3,c,z\n", removed)
    assert merged(b"x.csv", CSV, CSV + b"3,,z\n", removed) == b"id,u\n1,x\n2,y\n3,z\n"
    assert merged(b"x.csv", CSV, added, b"id,t,u\n2,b,y\n") == b"id,t,u,v\n2,b,y,new\n"
    assert b"2,b,y,new\n||||||| base" in merged(b"x.csv", CSV, added, b"id,t,u\n1,a,x\n")


def test_rows_stand_where_one_side_put_them() -> None:
    base, ours, theirs = b"id\n1\n2\n3\n", b"id\n1\n2\n3\n4\n", b"id\n3\n9\n2\n1\n"
    assert merged(b"x.csv", base, ours, theirs) == b"id\n3\n9\n4\n2\n1\n"
    assert merged(b"x.csv", base, theirs, ours) == b"id\n3\n9\n4\n2\n1\n"


LINES = b'{"id": 1, "v": 0, "w": "\\u00e9"}\n{"id": 2, "v": 0}\n'


@pytest.mark.parametrize(
    ("ours", "theirs", "result"),
    [
        # Values that Python calls equal.
        (LINES + b'{"id": 3}\n', LINES.replace(b"0}", b"0.0}"), LINES.replace(b"0}", b"0.0}") + b'{"id": 3}\n'),
        (LINES + b'{"id": 3}\n', LINES.replace(b"0}", b"false}"), LINES.replace(b"0}", b"false}") + b'{"id": 3}\n'),
        (LINES.replace(b"1,", b"true,"), LINES + b'{"id": 3}\n', LINES.replace(b"1,", b"true,") + b'{"id": 3}\n'),
        # Members that no side changed keep their digits, escapes and order.
        (
            LINES.replace(b"0, ", b"1.50, "),
            LINES.replace(b'9"}', b'9", "x": 1E400}'),
            LINES.replace(b"0, ", b"1.50, ").replace(b'9"}', b'9", "x": 1E400}'),
        ),
        (LINES.replace(b"0, ", b"[1,\t{}], "), LINES.replace(b', "w": "\\u00e9"', b""),
         LINES.replace(b'0, "w": "\\u00e9"', b"[1,\t{}]")),
        (LINES.replace(b'"v": 0, "w": "\\u00e9"', b'"w": "\\u00e9", "v": 0'), LINES.replace(b"0, ", b"5, "),
         LINES.replace(b'"v": 0, "w": "\\u00e9"', b'"w": "\\u00e9", "v": 5')),
        # What cannot be read into Python's values.
        (LINES.replace(b"0}", b"1" * 9999 + b"}"), LINES.replace(b"0,", b"NaN,"),
         LINES.replace(b"0}", b"1" * 9999 + b"}").replace(b"0,", b"NaN,")),
        (LINES.replace(b"0}", b"[" * 99_999 + b"]" * 99_999 + b"}"), LINES.replace(b"0,", b'"\\ud800",'),
         LINES.replace(b"0}", b"[" * 99_999 + b"]" * 99_999 + b"}").replace(b"0,", b'"\\ud800",')),
        (LINES + b'{"id": "\\ud800"}\n', LINES.replace(b"0}", b'0, "v": 1}'),
         LINES.replace(b"0}", b'0, "v": 1}') + b'{"id": "\\ud800"}\n'),
    ],
)  # fmt: skip
def test_json_lines_merge_as_the_bytes_that_they_are(ours: bytes, theirs: bytes, result: bytes) -> None:
    assert merged(b"x.jsonl", LINES, ours, theirs) == result
    assert merged(b"X.NDJSON", LINES, theirs, ours) == result
    mark = b"\xef\xbb\xbf"
    assert merged(b"x.jsonl", mark + LINES, mark + ours, mark + theirs) == mark + result
    turned = [text.replace(b"\n", b"\r\n").removesuffix(b"\r\n") for text in (LINES, ours, theirs, result)]
    assert merged(b"x.jsonl", turned[0], turned[1], turned[2]) == turned[3]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": 3', "line 3 is no JSON"),
        (b"[3]", "line 3 is no JSON object"),
        (b'{"id": 3} x', "line 3 is no JSON"),
        (b'{"id": 03}', "line 3 is no JSON"),
        (b'{"id": 3,}', "line 3 is no JSON"),
        (b'{"id": [1}]}', "line 3 is no JSON"),
        (b'{"id": "\xe9"}', "line 3 is not UTF-8"),
        (b'{"id": 3, "id": 4}', "line 3 has more than one 'id'"),
        (b'{"v": 3}', "line 3 has no 'id'"),
        (b'{"id": 2}', "two rows have the key '2'"),
        (b'{"i\\u0064": 2}', "two rows have the key '2'"),
        (b"[" * 99_999, "line 3 is no JSON"),
        (b'\n{"id": 3}', "line 3 is blank"),
    ],
)
def test_what_is_no_json_is_refused_with_the_line(line: bytes, reason: str) -> None:
    found = refused(b"x.jsonl", LINES, LINES + line + b"\n", LINES + b'{"id": 4}\n')
    assert found.startswith(f"ours: {reason}")


def test_members_that_both_sides_changed_are_a_conflict_of_the_row_alone() -> None:
    text = merged(b"x.jsonl", LINES, LINES.replace(b"0}", b"1}"), LINES.replace(b"0}", b"true}").replace(b"9", b"8"))
    assert text == LINES.replace(b"9", b"8").replace(
        b'{"id": 2, "v": 0}\n',
        b'<<<<<<< ours\n{"id": 2, "v": 1}\n||||||| base\n{"id": 2, "v": 0}\n'
        b'=======\n{"id": 2, "v": true}\n>>>>>>> theirs\n',
    )
    # Keys are told apart by type, and strings by what they say.
    text = merged(b"x.jsonl", b"", b'{"id": 1}\n{"id": "1"}\n{"id": true}\n', b'{"id": 1.0}\n{"id": "\\u0031"}\n')
    assert text.count(b"<<<<<<<") == 1
    assert text.count(b"id") == 5


def test_rows_of_a_table_are_told_by_the_values_of_their_fields() -> None:
    first, second = (rows_by_key(b"x.csv", "id", data) for data in (CSV, CSV.replace(b"1,a", b'"1",a')))
    assert [row.identity for row in first] == [row.identity for row in second]
    assert [row.body for row in second] == [b'"1",a,x', b"2,b,y"]
    latin = rows_by_key(b"x.csv", "id", CSV.replace(b"y", b"\xe9"))
    assert latin[1].fields == [("id", b"2"), ("t", b"b"), ("u", b"\xe9")]
    lines = [rows_by_key(b"x.jsonl", "id", b'{"id":1,"v":%s}' % value)[0].identity
             for value in (b"1", b"true", b"1.0", b'"1"', b"[1]")]  # fmt: skip
    assert len(set(lines)) == 5
    with pytest.raises(NoKey, match="quote"):
        rows_by_key(b"x.csv", "id", CSV.replace(b"a", b'5" a'))


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


def _check(path: bytes, sides: Three, read: list[Table | None], delimiter: bytes) -> None:
    base, ours, theirs = sides
    stretches, reason = _attempt(path, sides)
    if reason:
        assert len(set(sides)) == 3
        assert any(table is None for table in read) or _disagree(read, sides), reason
        return
    if ours == theirs or base in (ours, theirs):
        assert join(stretches, LABELS) == (theirs if ours == base else ours)
        return
    assert None not in read, "what is no table was merged by row"
    tables_read = [table for table in read if table is not None]
    keys = set().union(*(table.rows for table in tables_read))
    text = b"".join(raw for stretch in stretches for raw in stretch.merged or ())
    again = tables.read_csv(text, "id", delimiter) if delimiter else tables.read_json_lines(text, "id")
    assert again is not None, text
    conflicts = [stretch for stretch in stretches if stretch.merged is None]
    rows_of = [{row.body: key for key, row in table.rows.items()} for table in tables_read]
    marked = set()
    for stretch in conflicts:
        for side, lines in zip(rows_of, (stretch.base, stretch.ours, stretch.theirs), strict=True):
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


def _attempt(path: bytes, sides: Three) -> tuple[list[Stretch], str]:
    """Returns the merged stretches, or why there are none."""
    try:
        return merge_rows(path, "id", *sides), ""
    except NoKey as error:
        return [], error.message or "no reason"


def _disagree(read: list[Table | None], sides: Three) -> bool:
    """Whether both sides changed what concerns all rows: columns, header, their order, what is behind them."""
    base, ours, theirs = (table or Table([], {}) for table in read)
    if not all(side.removeprefix(b"\xef\xbb\xbf").strip() for side in sides):
        return True
    orders = [[key for key in table.rows if all(key in each.rows for each in (base, ours, theirs))]
              for table in (base, ours, theirs)]  # fmt: skip
    heads = [side.split(b"\n")[0] for side in sides]
    tails = [side[len(side.rstrip(b"\r\n")) :].count(b"\n") > 1 for side in sides]
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
