"""Goal: rows of Parquet are called the same where every cell is, whatever its type, and what else differs is named."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import duckdb
import pytest

from support.contents import compared


@pytest.fixture
def parquet(tmp_path: Path) -> Any:
    """Writes the rows of a query as Parquet and returns the bytes."""

    def write(query: str, options: str = "") -> bytes:
        path = tmp_path / "made.parquet"
        duckdb.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet{options})")
        return path.read_bytes()

    return write


def test_parquet_is_compared_by_its_types(parquet: Any) -> None:
    old = parquet("SELECT 1 AS id, 2 AS n, [1] AS l UNION ALL SELECT 2, 3, [2]")
    new = parquet("SELECT 1 AS id, 2.5::DOUBLE AS n, [1, 9] AS l UNION ALL SELECT 2, 3, [2]")
    assert compared("t.parquet", old, new).lines == [
        "2 rows: 1 changed (by id)",
        "~ column n: INTEGER → DOUBLE",
        "~ 1: n 2 → 2.5, l [1] → [1, 9]",
    ]
    assert compared("t.parquet", old, new).value["examples"][0]["cells"]["n"] == {"old": 2, "new": 2.5}


CELLS = [
    ("'nan'::DOUBLE", "1::DOUBLE"),
    ("0.0::DOUBLE", "-0.0::DOUBLE"),
    ("[0.0::FLOAT]", "[-0.0::FLOAT]"),
    ("INTERVAL 1 MONTH", "INTERVAL 30 DAY"),
    ("['a, b']", "['a', 'b']"),
    ("[NULL]::VARCHAR[]", "['NULL']"),
    ("['']", "[]::VARCHAR[]"),
    ("MAP(['a=1, b'], [1])", "MAP(['a', 'b'], [1, 1])"),
    ("{'k': 'x', 'l': NULL}::STRUCT(k VARCHAR, l VARCHAR)", "{'k': 'x', 'l': 'NULL'}"),
    ("'\\x41\\x00'::BLOB", "'A'::BLOB"),
    ("TIMESTAMP_NS '2024-01-01 00:00:00.123456789'", "TIMESTAMP_NS '2024-01-01 00:00:00.123456788'"),
    ("TIMESTAMPTZ '2024-01-01 00:00:00+00'", "TIMESTAMPTZ '2024-01-01 00:00:00+02'"),
    ("9007199254740993::BIGINT", "9007199254740992::BIGINT"),
    ("1.10::DECIMAL(18, 3)", "1.101::DECIMAL(18, 3)"),
    ("NULL::VARCHAR", "''"),
    ("NULL::VARCHAR", "'null'"),
    ("18446744073709551615::UBIGINT", "18446744073709551614::UBIGINT"),
]


@pytest.mark.parametrize(("old", "new"), CELLS)
def test_values_of_parquet_that_differ_in_any_bit_differ(parquet: Any, old: str, new: str) -> None:
    sides = [parquet(f"SELECT 1 AS id, {value} AS v") for value in (old, new)]
    assert compared("t.parquet", *sides).lines[0] == "1 row: 1 changed (by id)"
    other = parquet(f"SELECT 1 AS id, {old} AS v", ", COMPRESSION zstd")
    assert compared("t.parquet", sides[0], other).lines == [
        "1 row: the same rows (by id)",
        "written differently: compression SNAPPY → ZSTD",
    ]


RETYPED = [
    ("1::INTEGER", "1::BIGINT", True),
    ("1::INTEGER", "2::BIGINT", False),
    ("1::INTEGER", "1::DOUBLE", True),
    ("9007199254740993::BIGINT", "9007199254740993::DOUBLE", False),
    ("0.1::FLOAT", "0.1::DOUBLE", False),
    ("0.1::FLOAT", "0.1::FLOAT::DOUBLE", True),
    ("1.5::DECIMAL(4, 1)", "1.500::DECIMAL(9, 3)", True),
    ("'nan'::FLOAT", "'nan'::DOUBLE", True),
    ("TIMESTAMP '2024-01-01'", "TIMESTAMPTZ '2024-01-01 00:00:00+00'", False),
    ("1::INTEGER", "'01'", False),
    ("true", "1", False),
]


@pytest.mark.parametrize(("old", "new", "is_same"), RETYPED)
def test_a_column_of_another_type_is_compared_too(parquet: Any, old: str, new: str, is_same: bool) -> None:
    lines = compared("t.parquet", parquet(f"SELECT 7 AS k, {old} AS v"), parquet(f"SELECT 7 AS k, {new} AS v")).lines
    verdict = "no difference but the types of columns" if is_same else "1 changed"
    assert lines[0] == f"1 row: {verdict} (by k)"
    assert lines[1].startswith("~ column v: ")


@pytest.mark.parametrize(
    ("query", "options", "words"),
    [
        ("SELECT 1 AS a, 'x' AS b", ", KV_METADATA {note: 'y'}", "metadata note"),
        ("SELECT 'x' AS b, 1 AS a", "", "order of columns"),
        ("SELECT 1 AS a, 'x' AS b", ", PARQUET_VERSION v2", "encodings PLAIN →"),
    ],
)
def test_of_the_same_rows_of_parquet_it_is_said_what_differs(
    parquet: Any, query: str, options: str, words: str
) -> None:
    lines = compared("t.parquet", parquet("SELECT 1 AS a, 'x' AS b"), parquet(query, options)).lines
    assert "the same rows" in lines[0]
    assert words in lines[1]


def test_rows_of_parquet_in_another_order_and_other_groups_are_the_same(parquet: Any) -> None:
    old = parquet("SELECT i AS id, i % 3 AS v FROM range(5000) t(i)", ", ROW_GROUP_SIZE 5000")
    new = parquet("SELECT i AS id, i % 3 AS v FROM range(5000) t(i) ORDER BY id DESC", ", ROW_GROUP_SIZE 2048")
    lines = compared("t.parquet", old, new).lines
    assert lines[0] == "5,000 rows: the same rows, in another order (by id)"
    assert "row groups 1 → 3" in lines[1]


@pytest.mark.parametrize(
    ("old", "new"), [("[0.1::FLOAT]", "[0.1::DOUBLE]"), ("'\\x5C'::BLOB", "'\\x5C'"), ("1::INTEGER", "'1'")]
)
def test_text_that_two_types_share_proves_nothing(parquet: Any, old: str, new: str) -> None:
    lines = compared("t.parquet", parquet(f"SELECT 7 AS k, {old} AS v"), parquet(f"SELECT 7 AS k, {new} AS v")).lines
    assert lines[0] == "1 row: no difference seen (by k)"
    assert lines[2].startswith("column v is not compared to the last bit: its type changed")


def test_wide_parquet_is_compared(parquet: Any) -> None:
    def wide(last: int) -> str:
        return "SELECT " + ", ".join(f"{number} AS c{number}" for number in range(2999)) + f", {last} AS c2999"

    lines = compared("t.parquet", parquet(wide(1)), parquet(wide(2))).lines
    assert lines == ["1 row: 1 changed (by c0)", "~ 0: c2999 1 → 2"]


def test_parquet_that_cannot_be_read_is_not_compared_and_the_reason_is_said() -> None:
    detail = compared("t.parquet", b"PAR1 not", b"PAR1 \0 nor")
    assert detail.kind == "not-compared"
    assert detail.lines[0].startswith("not compared row by row: the reader says ")
    assert "/" not in detail.lines[0]
    assert compared("t.parquet", b"PARE\0", b"PARE\0\0").lines[0] == "not compared row by row: it is encrypted"


def test_parquet_with_times_that_the_reader_rounds_is_not_called_the_same() -> None:
    def int96(nanoseconds: int) -> bytes:
        value = struct.pack("<QI", nanoseconds, 2_460_311)
        return _parquet_of_one_int96(value)

    detail = compared("t.parquet", int96(1001), int96(1002))
    assert "the same rows" not in detail.lines[0]
    assert "not compared to the last bit" in " ".join(detail.lines)


def _parquet_of_one_int96(value: bytes) -> bytes:
    """Returns a Parquet file with one column `t` of type INT96 and one row, in Thrift's compact protocol by hand."""
    page_header = bytes(
        [0x15, 0x00, 0x15, 0x18, 0x15, 0x18, 0x2C, 0x15, 0x02, 0x15, 0x00, 0x15, 0x06, 0x15, 0x06, 0, 0]
    )
    page = page_header + value
    schema = (
        bytes([0x48, 0x04])
        + b"root"
        + bytes([0x15, 0x02, 0x00])
        + bytes([0x15, 0x06, 0x25, 0x00, 0x18, 0x01])
        + b"t"
        + b"\0"
    )
    column = bytes([0x15, 0x06, 0x19, 0x15, 0x00, 0x19, 0x18, 0x01]) + b"t" + bytes([0x15, 0x00, 0x16, 0x02])
    column += bytes([0x16, 2 * len(page), 0x16, 2 * len(page), 0x26, 0x08, 0x00])
    chunk = bytes([0x26, 0x08, 0x1C]) + column + b"\0"
    group = bytes([0x19, 0x1C]) + chunk + bytes([0x16, 2 * len(page), 0x16, 0x02, 0x00])
    footer = bytes([0x15, 0x02, 0x19, 0x2C]) + schema + bytes([0x16, 0x02, 0x19, 0x1C]) + group + b"\0"
    return b"PAR1" + page + footer + struct.pack("<I", len(footer)) + b"PAR1"
