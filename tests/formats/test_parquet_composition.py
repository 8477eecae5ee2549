"""Parquet files of rows of two versions: read by the SQL engine itself, row by row."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import duckdb
import pytest

from vfs.formats.detail import BytesReadable, NotThisFormat
from vfs.formats.parquet_composition import ParquetComposition

TYPES = (
    "SELECT i AS id, 'x' || {} AS \"a name\", i / 3 AS ratio, [i, NULL] AS list, {{'a': i}} AS record, "
    "TIMESTAMP_NS '2020-01-01 00:00:00.123456789' AS at, i::UTINYINT AS small, (i / 7)::DECIMAL(10, 2) AS price, "
    "'\\xAB'::BLOB AS bytes, CASE WHEN i % 2 = 0 THEN i END AS some FROM range({}) t(i)"
)


def file(directory: Path, query: str, options: str = "") -> bytes:
    """Returns a Parquet file with the rows of a query."""
    path = directory / "made.parquet"
    duckdb.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet{options})")
    return path.read_bytes()


def query(directory: Path, data: bytes, what: str) -> list[tuple[Any, ...]]:
    """Returns what the engine says of a file."""
    path = directory / "read.parquet"
    path.write_bytes(data)
    return list(duckdb.execute(what.format(f"'{path}'")).fetchall())


def composition(old: bytes, new: bytes) -> ParquetComposition:
    return ParquetComposition(BytesReadable(old), BytesReadable(new))


def test_any_part_of_the_changes_is_a_file_of_the_same_columns(tmp_path: Path) -> None:
    old = file(tmp_path, TYPES.format("i", 60))
    new = file(tmp_path, TYPES.format("CASE WHEN i % 4 = 1 THEN 99 ELSE i END", 70))
    made = composition(old, new)
    assert [change.new_row for change in made.changes] == [*range(2, 61, 4), *range(61, 71)]
    assert made.content(set()) == old
    assert made.content(range(len(made.changes))) == new
    chosen = set(random.Random(1).sample(range(len(made.changes)), 12))
    rows = query(tmp_path, old, "SELECT * FROM read_parquet({})") + [None] * 10
    newer = query(tmp_path, new, "SELECT * FROM read_parquet({})")
    for number in chosen:
        place = made.changes[number].new_row
        assert place is not None
        rows[place - 1] = newer[place - 1]
    part = made.content(chosen)
    assert query(tmp_path, part, "SELECT * FROM read_parquet({})") == [row for row in rows if row is not None]
    types = "DESCRIBE SELECT * FROM read_parquet({})"
    assert query(tmp_path, part, types) == query(tmp_path, new, types)


def test_rows_that_went_are_changes(tmp_path: Path) -> None:
    old, new = (file(tmp_path, f"SELECT i FROM range(9) t(i) WHERE i NOT IN ({gone})") for gone in ("9", "2, 6"))
    made = composition(old, new)
    assert [(change.old_row, change.new_row, change.old) for change in made.changes] == [
        (3, None, b"2"),
        (7, None, b"6"),
    ]
    assert query(tmp_path, made.content({1}), "SELECT * FROM read_parquet({})") == [
        (number,) for number in range(9) if number != 6
    ]


def test_compression_and_metadata_are_those_of_the_newer_file(tmp_path: Path) -> None:
    metadata = ", KV_METADATA {'pandas': '{\"it''s\": 1}'}"
    old = file(tmp_path, "SELECT i FROM range(9) t(i)", ", COMPRESSION snappy" + metadata)
    new = file(tmp_path, "SELECT -i AS i FROM range(9) t(i)", ", COMPRESSION zstd" + metadata)
    part = composition(old, new).content({3})
    assert query(tmp_path, part, "SELECT DISTINCT compression FROM parquet_metadata({})") == [("ZSTD",)]
    assert query(tmp_path, part, "SELECT key, value FROM parquet_kv_metadata({})") == [(b"pandas", b'{"it\'s": 1}')]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("SELECT 1 AS a", "SELECT 1 AS b", "its columns changed"),
        ("SELECT 1 AS a", "SELECT 1::BIGINT AS a", "types of its columns changed"),
        ("SELECT 1 AS file_row_number", "SELECT 2 AS file_row_number", "names that the reader uses"),
    ],
)
def test_tables_of_other_columns_are_refused_with_the_reason(tmp_path: Path, old: str, new: str, reason: str) -> None:
    with pytest.raises(NotThisFormat, match=reason):
        composition(file(tmp_path, old), file(tmp_path, new))
    with pytest.raises(NotThisFormat):
        composition(file(tmp_path, old), b"PAR1 is not all of it")


def test_columns_stay_optional_where_no_value_is_missing(tmp_path: Path) -> None:
    rows = "SELECT t.i * {} AS i FROM range(9) n(i) LEFT JOIN range(9) t(i) ON t.i = n.i ORDER BY n.i"
    old, new = (file(tmp_path, rows.format(factor)) for factor in (1, -1))
    part = composition(old, new).content({3})
    optional = "SELECT repetition_type FROM parquet_schema({}) WHERE name = 'i'"
    assert [query(tmp_path, data, optional) for data in (new, part)] == [[("OPTIONAL",)]] * 2
