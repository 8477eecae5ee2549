"""Goal: a table merged by row has what both sides changed, as the bytes they wrote, or is a conflict that says why."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vfs.history.merge_lines import Labels, join_regions
from vfs.history.merge_rows import merge_rows, rows_by_key
from vfs.history.table_records import NoKey

LABELS = Labels("ours", "base", "theirs")
Three = tuple[bytes, bytes, bytes]


def merged(path: bytes, base: bytes, ours: bytes, theirs: bytes) -> bytes:
    return join_regions(merge_rows(path, "id", base, ours, theirs), LABELS)


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
        (b'3,"a,z\n', "line 4 has a quote that is never closed"),
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
        # One side wrote every row with other space.
        (b'{"id":1,"v":0,"w":"\\u00e9"}\n{"id":2,"v":0}\n', LINES.replace(b"0,", b"[1, 2],"),
         b'{"id":1,"v":[1, 2],"w":"\\u00e9"}\n{"id":2,"v":0}\n'),
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
def test_invalid_json_is_refused_with_the_line(line: bytes, reason: str) -> None:
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


def test_rows_of_a_table_are_identified_by_their_values() -> None:
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
