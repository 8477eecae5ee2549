"""Goal: rows of tables are called the same where an independent reader says so, and what else differs is named."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.contents import compared
from vfs.api.hints import hint_text
from vfs.errors import InvalidInput


def first_line(detail: Any) -> str:
    return str(detail.lines[0])


def test_rows_of_csv_are_followed_by_a_unique_column() -> None:
    old = b"file,label\n1.png,cat\n2.png,dog\n3.png,cta\n"
    new = b"file,label,weight\n3.png,cat,1\n2.png,dog,1\n4.png,dog,2\n"
    detail = compared("labels.csv", old, new)
    assert detail.lines == [
        "3 rows: 1 added, 1 removed, 1 changed (by file)",
        "+ column weight",
        "- 1.png: label cat",
        "~ 3.png: label cta → cat",
        "+ 4.png: label dog",
    ]
    assert detail.value["rows"] == {
        "old": 3,
        "new": 3,
        "added": 1,
        "removed": 1,
        "changed": 1,
        "by_column": {"label": 1},
    }


def test_rows_without_a_unique_column_are_compared_whole() -> None:
    detail = compared("t.tsv", b"a\tb\n1\t1\n1\t1\n2\t1\n", b"a\tb\n1\t1\n2\t2\n2\t1\n")
    assert detail.lines == ["3 rows: 1 added, 1 removed", "+ a 2, b 2", "- a 1, b 1"]
    assert detail.value["key"] is None


def test_a_key_can_be_named_and_must_be_a_column() -> None:
    old, new = b"a,b,id\n1,1,x\n2,1,y\n", b"a,b,id\n1,2,x\n3,1,y\n"
    assert first_line(compared("t.csv", old, new, key="id")) == "2 rows: 2 changed (by id)"
    with pytest.raises(InvalidInput, match="no column"):
        compared("t.csv", old, new, key="c")


def test_quoted_cells_and_quoted_names_are_read_as_csv_says() -> None:
    old, new = b'id,"a ""b"""\n1,"x\ny"\n', b'id,"a ""b"""\n1,"x\nz"\n'
    assert compared("t.csv", old, new).lines == ["1 row: 1 changed (by id)", '~ 1: a "b" x\\ny → x\\nz']


@pytest.mark.parametrize("name", ["here", "HERE", "rowid", "count", "o", "n", "c0", 'a"b', "", "select", "a; drop"])
def test_no_name_of_a_column_is_taken_for_anything_else(name: str) -> None:
    def written(value: str) -> bytes:
        text = io.StringIO()
        csv.writer(text).writerows([["id", name], ["1", "a"], ["2", value]])
        return text.getvalue().encode()

    assert compared("t.csv", written("b"), written("c")).value["rows"]["changed"] == 1
    assert first_line(compared("t.csv", written("b"), written("b").replace(b"\r", b""))).startswith("2 rows: the same")


def test_columns_of_one_name_and_names_that_differ_in_case_are_columns_of_their_own() -> None:
    old, new = b"id,v,v,V\n1,a,b,c\n", b"id,v,v,V\n1,a,x,C\n"
    assert compared("t.csv", old, new).lines == ["1 row: 1 changed (by id)", "~ 1: v (2) b → x, V c → C"]


def test_keys_that_are_there_twice_are_matched_row_by_row() -> None:
    old, new = b"k,v\n1,a\n1,b\n2,c\n", b"k,v\n1,b\n1,d\n2,c\n1,b\n"
    detail = compared("t.csv", old, new, key="k")
    assert detail.lines == [
        "3 → 4 rows: 1 added, 1 changed (by k)",
        "keys that more than one of these rows has: 1",
        "~ 1: v a → d",
        "+ 1: v b",
    ]


WRITTEN = [
    ("order", b"id,t\n1,a\n2,b\n", b"id,t\n2,b\n1,a\n", "in another order"),
    ("order of columns", b"id,t\n1,a\n", b"t,id\na,1\n", "order of columns"),
    ("line ends", b"id,t\n1,a\n", b"id,t\r\n1,a\r\n", "line ends LF → CRLF"),
    ("mixed ends", b"id,t\n1,a\n", b"id,t\r\n1,a\n", "line ends LF → 1 LF and 1 CRLF"),
    ("last end", b"id,t\n1,a\n", b"id,t\n1,a", "end of the last line there → missing"),
    ("mark", b"id,t\n1,a\n", b"\xef\xbb\xbfid,t\n1,a\n", "encoding UTF-8 → UTF-8 with a byte order mark"),
    ("UTF-16", "id,t\n1,é\n".encode(), "id,t\n1,é\n".encode("utf-16"), "encoding UTF-8 → UTF-16"),
    ("quotes", b"id,t\n1,a\n", b'id,"t"\n1,a\n', "quotes"),
    ("delimiter", b"id,t\n1,a\n", b"id;t\n1;a\n", "delimiter comma → semicolon"),
    ("blank lines", b"id,t\n1,a\n", b"id,t\n\n1,a\n\n", "blank lines none → 2"),
    ("header alone", b"id,t\n", b"id,t\r\n", "line ends LF → CRLF"),
]


@pytest.mark.parametrize(("old", "new", "words"), [case[1:] for case in WRITTEN], ids=[case[0] for case in WRITTEN])
def test_of_the_same_rows_it_is_said_what_does_differ(old: bytes, new: bytes, words: str) -> None:
    lines = compared("t.csv", old, new).lines
    assert "the same rows" in lines[0]
    assert words in " ".join(lines)


ILL_FORMED = [
    (b"id,a\n1,2\n3\n4,5,6\n", b"id,a\n1,2\n3\n4,5,7\n", "line 3 has 1 field, the first line 2"),
    (
        b'id,a\n1,5" pipe\n2,b\n',
        b'id,a\n1,5" pipe\n2,c\n',
        'line 2 has a quote (") inside a field without quotes around it',
    ),
    (b'id,a\n1,5"x" y\n', b'id,a\n1,5"x" z\n', 'line 2 has a quote (") inside a field without quotes around it'),
    (b'id,a\n1,"x"y\n', b'id,a\n1,"x"z\n', "line 2 has text after a closing quote"),
    (b"id,a\r1,b\r", b"id,a\r1,c\r", "line 1 has a carriage return inside a field without quotes"),
    (b"exported by a tool\nid,t\n1,a\n", b"exported by a tool\nid,t\n1,b\n", "line 2 has 2 fields, the first line 1"),
]


@pytest.mark.parametrize(("old", "new", "reason"), ILL_FORMED)
def test_an_invalid_table_is_compared_by_lines_and_reported_as_such(old: bytes, new: bytes, reason: str) -> None:
    detail = compared("t.csv", old, new)
    assert detail.kind == "text"
    assert first_line(detail) == f"not compared row by row: {reason}"
    assert detail.value["lines_added"] == detail.value["lines_removed"] == 1


def test_nothing_is_guessed_away() -> None:
    hashes = b"id,t\n1,a\n#2,b\n#3,c\n4,d\n"
    assert compared("t.csv", hashes, hashes.replace(b"b", b"X")).lines[1] == "~ #2: t b → X"
    one = b"text\nhello;my\nworld;of\n"
    assert compared("t.csv", one, one.replace(b"of", b"x")).lines[0] == "2 rows: 1 added, 1 removed (by text)"
    assert compared("t.csv", b"c\nnan\n\nNULL\n", b"c\nNaN\n\nNULL\n").lines[1:] == ["+ c NaN", "- c nan"]
    assert compared("t.csv", b"c\n1\n", b"c\n1.0\n").lines[1:] == ["+ c 1.0", "- c 1"]
    latin, utf8 = b"id,t\n1,caf\xe9\n", b"id,t\n1,caf\xc3\xa9\n"
    assert compared("t.csv", latin, utf8).lines == ["1 row: 1 changed (by id)", "~ 1: t caf\\xe9 → café"]


def test_a_blank_line_of_a_single_column_is_no_empty_cell() -> None:
    assert compared("t.csv", b"a\n\nx\n", b'a\n""\nx\n').lines == ["2 rows: 1 added, 1 removed", "+ a ", "- a null"]
    assert compared("t.csv", b"a\nx\n", b"a\nx\n\n").lines == ["1 → 2 rows: 1 added", "+ a null"]


def test_empty_files_and_headers_alone_are_tables() -> None:
    assert compared("t.csv", b"", b"id,a\n1,2\n3,4\n").lines == ["0 → 2 rows: 2 added", "+ column id", "+ column a"]
    assert compared("t.csv", b"id,a\n", b"id,b\n").lines == [
        "0 rows: no difference in the columns of both",
        "+ column b",
        "- column a",
    ]
    assert compared("t.csv", b"a\n1\n", b"b\n1\n").lines[0] == "1 row: not compared, no column is on both sides"


def test_wide_tables_are_compared_and_shown_in_part() -> None:
    def wide(value: str) -> bytes:
        header = ",".join(f"c{number}" for number in range(10_000))
        row = ",".join(str(number) for number in range(9_999))
        return f"{header}\n{row},{value}\n{row}1,1\n".encode()

    detail = compared("t.csv", wide("1"), wide("2"), key="c9998")
    assert detail.lines == ["2 rows: 1 changed (by c9998)", "~ 9998: c9999 1 → 2"]
    assert all(len(line) < 2000 for line in compared("t.csv", wide("1"), b"c0\n1\n2\n").lines)
    with pytest.raises(InvalidInput) as error:
        compared("t.csv", wide("1"), wide("2"), key="none")
    assert len(hint_text(error.value.hint)) < 1000


def test_a_full_temporary_directory_is_no_fault_of_the_files() -> None:
    program = """
import resource
from support.contents import compared
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
rows = ["a,b", *(f"{number},x" for number in range(100_000))]
print(compared("t.csv", "\\n".join(rows).encode(), "\\n".join([*rows, "y,z"]).encode()).lines[0])
print(compared("t.parquet", b"PAR1" + bytes(200_000), b"PAR1").lines[0])
"""
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    reason = "not compared row by row: the temporary directory cannot be written to: File too large"
    assert done.stdout.splitlines() == [reason, reason]


def test_long_cells_are_cut_where_they_part() -> None:
    old, new = b"id,t\n1," + b"x" * 200_000 + b"a\n", b"id,t\n1," + b"x" * 200_000 + b"b\n"
    line = compared("t.csv", old, new).lines[1]
    assert len(line) < 200
    assert line.endswith("xa → …" + "x" * 20 + "b")


_cells = st.text(st.sampled_from('ab1;,"\n\r\t #é\udce9'), max_size=4)


def _encoded(rows: Sequence[Sequence[str]], end: str, *, all_quoted: bool) -> bytes:
    def field(cell: str) -> str:
        is_plain = not all_quoted and not set(cell) & set('",;\r\n\t')
        return cell if is_plain else '"' + cell.replace('"', '""') + '"'

    text = "".join(",".join(map(field, row)) + end for row in rows)
    return text.encode("utf-8", "surrogateescape")


@st.composite
def _well_formed(draw: st.DrawFn) -> tuple[list[list[str]], bytes]:
    width = draw(st.integers(1, 3))
    row = st.lists(_cells, min_size=width, max_size=width)
    # Readers disagree about blank lines of a table with one column.
    rows = draw(st.lists(row.filter(lambda cells: cells != [""]), min_size=1, max_size=4))
    return rows, _encoded(rows, draw(st.sampled_from(["\n", "\r\n"])), all_quoted=draw(st.booleans()))


def _is_same(old: Sequence[Sequence[str]], new: Sequence[Sequence[str]]) -> bool:
    """Returns True if two tables have the same columns and rows, whatever their order."""

    def named(rows: Sequence[Sequence[str]]) -> Counter[Any]:
        names: Counter[str] = Counter()
        columns = []
        for name in rows[0]:
            columns.append((name, names[name]))
            names[name] += 1
        return Counter(tuple(sorted(zip(columns, row, strict=True))) for row in rows[1:]) + Counter(
            [tuple(sorted(columns))]
        )

    return named(old) == named(new)


@given(_well_formed(), _well_formed(), st.booleans())
def test_well_formed_csv_is_the_same_where_another_reader_says_so(old: Any, new: Any, shuffled: bool) -> None:
    (was, before), (now, after) = old, new
    if shuffled:
        now = [was[0], *reversed(was[1:])]
        after = _encoded(now, "\r\n", all_quoted=True)
    detail = compared("t.csv", before, after)
    assert ("the same rows" in first_line(detail)) == _is_same(was, now)


@given(st.binary(max_size=12) | st.text('a1,"\n\r;\t#', max_size=16).map(str.encode), st.data())
def test_ill_formed_csv_is_never_called_the_same(old: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(old)))
    new = old[:at] + data.draw(st.text('a1,"\n\r;#', max_size=2)).encode() + old[at + data.draw(st.integers(0, 1)) :]
    for name in ("t.csv", "t.tsv"):
        detail = compared(name, b"k,v\n" + old, b"k,v\n" + new)
        if "the same rows" in detail.lines[0]:
            delimiter = "," if name.endswith("csv") else "\t"
            was, now = (Counter(_lenient(b"k,v\n" + side, delimiter)) for side in (old, new))
            assert was == now


def _lenient(data: bytes, delimiter: str) -> Iterator[tuple[str, ...]]:
    """Yields rows as Python's reader takes them, blank ones left out."""
    text = data.decode("utf-8", "surrogateescape")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return (tuple(row) for row in rows if row)


# JSON Lines.


def test_json_lines_are_a_table_too() -> None:
    old, new = b'{"id": 1, "t": "a"}\n{"id": 2, "t": "b"}\n', b'{"id": 1, "t": "c", "n": [1]}\n{"id": 2, "t": "b"}\n'
    lines = compared("r.jsonl", old, new).lines
    assert lines == ["2 rows: 1 changed (by id)", "+ column n", '~ 1: t "a" → "c"']
    assert compared("r.jsonl", b"{\n", b"[\n").kind == "text"
    assert compared("r.jsonl", b"[1]\n", b"[2]\n").lines[0] == "not compared row by row: line 1 is no object"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1", "1.5"),
        ("1", "1.0"),
        ("1", "true"),
        ("1", '"1"'),
        ("0", "-0"),
        ("0.0", "-0.0"),
        ("null", '"null"'),
        ("null", "NaN"),
        ("9007199254740993", "9007199254740992"),
        ("0.1", "0.10000000000000000001"),
        ("1e400", "1e401"),
        ('"2024-01-01T00:00:00Z"', '"2024-01-01T00:00:00+00:00"'),
        ('"AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE"', '"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"'),
        ('"\\ud800"', '"\\udfff"'),
        ('{"a":1,"a":2}', '{"a":3,"a":2}'),
        ('{"a":1,"a":2}', '{"a":2}'),
        ("[1,2]", "[2,1]"),
    ],
)
def test_values_of_json_are_compared_before_anything_casts_them(old: str, new: str) -> None:
    rows = [f'{{"id":1,"v":{value}}}\n{{"id":2,"v":0.5}}\n'.encode() for value in (old, new)]
    detail = compared("r.jsonl", *rows)
    assert first_line(detail) == "2 rows: 1 changed (by id)"
    assert "the same values" not in compared("d.json", f"[{old}]".encode(), f"[{new}]".encode()).lines[0]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('{"a":1.0,"b":2}', '{"a":1.00,"b":2}', "spelling of numbers"),
        ('{"a":1e2,"b":2}', '{"a":100.0,"b":2}', "spelling of numbers"),
        ('{"a":1,"b":2}', '{"b":2,"a":1}', "order of keys"),
        ('{"a":{"x":1,"y":2}}', '{"a":{"y":2,"x":1}}', "order of keys"),
        ('{"a":"é"}', '{"a":"\\u00e9"}', "escapes in strings"),
        ('{"a":1}', '{"a": 1}', "white space"),
        ('{"a":NaN}', '{"a":NaN }', "white space"),
        ('{"a":1}', '{"a":1}\r', "line ends LF → CRLF"),
        ('{"a":1}', '\ufeff{"a":1}', "byte order mark"),
        ('{"a":1}', '\n{"a":1}', "blank lines none → 1"),
    ],
)
def test_of_the_same_values_it_is_said_how_they_are_written(old: str, new: str, words: str) -> None:
    lines = compared("r.jsonl", f"{old}\n".encode(), f"{new}\n".encode()).lines
    assert "the same rows" in lines[0]
    assert words in lines[1]


_json = st.recursive(
    st.sampled_from(["1", "1.0", "1.00", "10e-1", "true", "null", "NaN", '"1"', '"\\u0031"', "-0", "0", "1E400"]),
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(st.sampled_from("ab"), inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}"
        )
    ),
    max_leaves=5,
)


def _exact(text: str) -> Any:
    """Returns a value by Python's own reader, with numbers as (kind, ratio) and objects as sorted pairs."""

    def real(word: str) -> Any:
        mantissa, _, power = word.lower().partition("e")
        whole, _, fraction = mantissa.partition(".")
        ratio = (int(whole + fraction) * 10 ** max(int(power or 0) - len(fraction) + 9, 0), word.startswith("-"))
        return ("real", ratio)

    def pairs(items: list[tuple[str, Any]]) -> Any:
        return ("object", sorted(items, key=lambda item: item[0]))

    return json.loads(
        text,
        parse_int=lambda word: ("int", word),
        parse_float=real,
        parse_constant=lambda word: ("constant", word),
        object_pairs_hook=pairs,
    )


def _same(old: Any, new: Any) -> bool:
    return repr(old) == repr(new)


def test_values_for_programs_are_json_that_every_reader_takes() -> None:
    rows = [f'{{"id":1,"v":[NaN,1e999,{number},{"9" * 5000}]}}\n'.encode() for number in (1, 2)]
    for detail in (compared("r.jsonl", *rows), compared("d.json", *rows)):
        assert json.loads(json.dumps(detail.as_json(), allow_nan=False))


@given(_json, _json)
def test_json_is_the_same_where_another_reader_says_so(old: str, new: str) -> None:
    expected = _same(_exact(old), _exact(new))
    assert (compared("d.json", old.encode(), new.encode()).lines[0] == "the same values") == expected
    rows = [f'{{"v":{text}}}\n'.encode() for text in (old, new)]
    assert ("the same rows" in first_line(compared("r.jsonl", *rows))) == expected
