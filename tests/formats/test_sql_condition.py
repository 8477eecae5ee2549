"""Conditions from a request: what is allowed gives rows, and what takes long or much memory is refused in words."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from support.contents import Bytes
from vfs.formats.detail import NotThisFormat
from vfs.formats.loaded_table import LoadedTable

_QUERY = """SELECT 5 AS id, 'cat 100%' AS label, [1, 2] AS tags, '{"a": [1, 2]}'::JSON AS j, DATE '2024-01-31' AS day"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedTable]:
    """A table of one row."""
    top = tmp_path_factory.mktemp("conditions")
    duckdb.execute(f"COPY ({_QUERY}) TO '{top}/made.parquet' (FORMAT parquet)")
    (top / "engine").mkdir()
    table = LoadedTable(b"a.parquet", Bytes((top / "made.parquet").read_bytes()), top / "engine")
    yield table
    table.close()


@pytest.mark.parametrize(
    "condition",
    [
        "label LIKE 'c%t%1%0%'",
        "label LIKE '_at%'",
        "label LIKE '%a_ 1%'",
        "label NOT LIKE '%x%y%'",
        "label ILIKE '%T 1%'",
        "label LIKE '%100!%%' ESCAPE '!'",
        "label GLOB '*at*'",
        "(label LIKE NULL) IS NULL",
        "regexp_matches(label, 'c.*t.*0')",
        "id & 4 = 4 AND id | 2 = 7 AND id << 1 = 10 AND id >> 1 = 2 AND xor(id, 1) = 4",
        "tags @> [1] AND [1] <@ tags AND tags && [2, 3] AND list_has_any(tags, [1]) AND list_has_all(tags, [2])",
        "label ^@ 'cat'",
        "regexp_extract(label, '[0-9]+') = '100'",
        "typeof(id) = 'INTEGER'",
        "hash(id) = hash(5)",
        "json_array_length(j, '$.a') = 2 AND json_exists(j, '$.a') AND json_type(j) = 'OBJECT'",
        "json_extract(j, '$.a[0]') = 1 AND j ->> '$.a[1]' = '2'",
        "day < current_date AND day < today()",
        "date_add(day, INTERVAL 1 DAY) = DATE '2024-02-01' AND date_sub('day', day, DATE '2024-02-02') = 2",
        "id::VARCHAR(10) = '5'",
        "concat(label, id, label) = 'cat 100%5cat 100%'",
    ],
)
def test_what_compares_values_is_allowed(table: LoadedTable, condition: str) -> None:
    assert table.matching(table.where([], condition)) == 1


@pytest.mark.parametrize(
    "condition",
    [
        "label LIKE label",
        "label NOT LIKE label",
        "label ILIKE label",
        "label NOT ILIKE label",
        "label GLOB label",
        "label LIKE label ESCAPE '!'",
        "label LIKE '%a%' || '%_'",
        "label LIKE '%a%b_'",
        "label NOT LIKE '%a%b_%'",
        "label ILIKE '%a%b'",
        "label NOT ILIKE '%a%b'",
        "label GLOB '*a*b'",
        "label LIKE '%a%b' ESCAPE '!'",
        "label NOT LIKE '%a%b' ESCAPE '!'",
        "label ILIKE '%a%b' ESCAPE '!'",
        "label NOT ILIKE '%a%b' ESCAPE '!'",
    ],
)
def test_patterns_that_take_long_are_refused(table: LoadedTable, condition: str) -> None:
    with pytest.raises(NotThisFormat, match=r"use regexp_matches\(column, 'pattern'\).*for example: label = 'cat'"):
        table.where([], condition)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("id = 1 OR " * 400 + "true", "at most 4,000 characters"),
        (f"concat({', '.join(['label'] * 17)}) = 'a'", "joins at most 16 values"),
        ("(" + " || ".join(["label"] * 17) + ") = 'a'", "joins at most 16 values"),
        (f"[{', '.join(['label'] * 17)}] = ['a']", "joins at most 16 values"),
        (f"row({', '.join(['label'] * 17)}) IS NULL", "joins at most 16 values"),
        ("json_extract(j, '$.*') IS NULL", "path into JSON"),
        ("json_extract_string(j, '$..a') IS NULL", "path into JSON"),
        ("json_extract(j, ['$.a', '$.a']) IS NULL", "path into JSON"),
        ("json_extract(j, label) IS NULL", "path into JSON"),
        ("json_type(j, '$.a[*]') IS NULL", "path into JSON"),
        ("j ->> '$.*' IS NULL", "path into JSON"),
        ("id = 1) OR (id = 2", "is one expression"),
        (f"true) GROUP BY ({'NOT ' * 300}true", "nested so deep|is one expression"),
    ],
)
def test_what_takes_memory_or_is_more_than_one_expression_is_refused(
    table: LoadedTable, condition: str, words: str
) -> None:
    with pytest.raises(NotThisFormat, match=words):
        table.where([], condition)
