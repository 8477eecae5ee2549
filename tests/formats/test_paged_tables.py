"""Tables in the SQL engine: pages, filters, histograms, comparisons, and what the engine must not do."""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import duckdb
import pytest

from support.contents import Bytes
from vfs.formats import loaded_table
from vfs.formats.detail import NotThisFormat
from vfs.formats.loaded_table import ROWS_A_PAGE, Filter, LoadedTable, Where
from vfs.formats.sql_engine import OutOfTime, open_engine
from vfs.formats.sql_row_diff import NO_KEY, ComparedTables

CSV = b"id,label,score\n1,cat,0.5\n2,dog,\n3,cat,2.5\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "engine"
    directory.mkdir()
    return directory


def parquet(tmp_path: Path, query: str) -> Bytes:
    path = tmp_path / "made.parquet"
    duckdb.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return Bytes(path.read_bytes())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (b"a.csv", CSV),
        (b"A.TSV", CSV.replace(b",", b"\t")),
        (
            b"a.jsonl",
            b'{"id":1,"label":"cat","score":0.5}\n{"id":2,"label":"dog"}\n{"id":3,"label":"cat","score":2.5}\n',
        ),
    ],
)
def test_pages_filters_and_histograms_of_texts(place: Path, name: bytes, data: bytes) -> None:
    table = LoadedTable(name, Bytes(data), place)
    assert [column.name for column in table.columns] == ["id", "label", "score"]
    assert table.page(Where(), 0, table.columns) == [["1", "cat", "0.5"], ["2", "dog", None], ["3", "cat", "2.5"]]
    cats = table.where([Filter("label", "=", "cat"), Filter("score", ">=", "1")])
    assert table.matching(cats) == 1
    assert table.page(cats, 0, table.columns[:1]) == [["3"]]
    assert table.page(Where(), 0, table.columns[:1], "-id") == [["3"], ["2"], ["1"]]
    labels = table.histogram(Where(), table.columns[1])
    assert [(bar.label, bar.rows) for bar in labels.bars] == [("cat", 2), ("dog", 1)]
    scores = table.histogram(Where(), table.columns[2])
    assert (scores.kind, sum(bar.rows for bar in scores.bars), scores.missing) == ("numbers", 2, 1)
    table.close()


def test_a_page_is_part_of_any_large_table(place: Path, tmp_path: Path) -> None:
    table = LoadedTable(b"a.parquet", parquet(tmp_path, "SELECT i AS n FROM range(250000) t(i)"), place)
    assert table.rows == 250_000
    assert table.page(Where(), 249_950, table.columns) == [[str(n)] for n in range(249_950, 250_000)]
    assert len(table.page(Where(), 1000, table.columns)) == ROWS_A_PAGE
    bars = table.histogram(Where(), table.columns[0]).bars
    assert sum(bar.rows for bar in bars) == 250_000
    table.close()


@pytest.mark.parametrize(
    "condition",
    [
        "exists (SELECT 1 FROM read_text('/etc/passwd'))",
        "exists (SELECT 1 FROM read_csv('/etc/passwd'))",
        "exists (SELECT 1 FROM '/etc/passwd')",
        "exists (SELECT 1 FROM glob('/etc/*'))",
        "exists (SELECT 1 FROM read_text('../../secret'))",
        "id = 1) UNION SELECT content FROM read_text('/etc/passwd') --",
        "true); COPY rows TO '/tmp/out.csv'; SELECT (1",
        "true); ATTACH '/tmp/x.db'; SELECT (1",
        "true); SET enable_external_access = true; SELECT (1",
        "true); INSTALL httpfs; SELECT (1",
        "getenv('HOME') <> ''",
        "id = ?",
        "id = $1",
        ")",
    ],
)
def test_a_condition_reads_and_writes_nothing_outside(place: Path, tmp_path: Path, condition: str) -> None:
    (tmp_path / "secret").write_text("secret")
    table = LoadedTable(b"a.csv", Bytes(CSV), place)
    with pytest.raises(NotThisFormat):
        table.matching(table.where([], condition))
    assert table.page(Where(), 0, table.columns[:1]) == [["1"], ["2"], ["3"]]
    assert not Path("/tmp/out.csv").exists()
    table.close()


def test_filters_that_cannot_be_are_refused_in_words(place: Path) -> None:
    table = LoadedTable(b"a.csv", Bytes(CSV), place)
    for bad in (Filter("none", "=", "1"), Filter("score", ">=", "cat"), Filter("id", "LIKE", "1")):
        with pytest.raises(NotThisFormat):
            table.where([bad])
    quote = table.where([Filter("label", "=", "cat' OR '1'='1")])
    assert table.matching(quote) == 0
    table.close()


def test_damaged_files_are_refused(place: Path, tmp_path: Path) -> None:
    data = parquet(tmp_path, "SELECT 1 AS a").read(0, 1 << 20)
    for name, damaged in ((b"a.parquet", data[:-20]), (b"a.jsonl", b"{\n"), (b"a.parquet", b"PAR1 no")):
        directory = place / str(random.Random(len(damaged)).random())
        directory.mkdir()
        with pytest.raises(NotThisFormat):
            LoadedTable(name, Bytes(damaged), directory).close()


def test_a_row_that_begins_like_a_comment_is_a_row(place: Path) -> None:
    table = LoadedTable(b"a.csv", Bytes(b"id,name\n1,a\n#2,b\n3,c\n"), place)
    assert table.page(Where(), 0, table.columns) == [["1", "a"], ["#2", "b"], ["3", "c"]]
    table.close()


class _Interrupted:
    """An engine that runs out of time whenever it loads a table."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.loads: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def execute(self, query: str, *values: Any) -> Any:
        if query.startswith("CREATE TABLE"):
            self.loads.append(query)
            raise duckdb.InterruptException("Interrupted!")
        return self.engine.execute(query, *values)


def test_a_table_that_takes_too_long_is_not_loaded_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _Interrupted(open_engine(place))
    monkeypatch.setattr(loaded_table, "open_engine", lambda *_: engine)
    with pytest.raises(OutOfTime):
        LoadedTable(b"a.csv", Bytes(CSV), place)
    assert len(engine.loads) == 1


@pytest.mark.parametrize(
    ("name", "head", "is_wide"),
    [
        (b"a.csv", b"c," * 9_999 + b"c\n", False),
        (b"a.csv", b"c," * 10_000 + b"c\n", True),
        (b"a.csv", b"\xef\xbb\xbf\n" + b'"c\nc","",' * 5_001 + b"c\n", True),
        (b"a.csv", b"title\n" + (b"1," * 10_000 + b"1\n") * 3, True),
        (b"a.csv", b'a,"' + b"x," * 20_000 + b'"\n', False),
        (b"a.tsv", b"c\t" * 10_000 + b"c\n", True),
        (b"a.tsv", b"c," * 10_000 + b"c\n", False),
        (b"a.csv", b"", False),
    ],
)
def test_columns_are_counted_outside_quotes_and_below_a_title(
    place: Path, name: bytes, head: bytes, is_wide: bool
) -> None:
    (place / "table").write_bytes(head)
    with pytest.raises(NotThisFormat, match="10,000 columns") if is_wide else nullcontext():
        loaded_table.check_width(None, name, place / "table")


def test_rows_and_cells_that_differ_are_found_by_key(place: Path, tmp_path: Path) -> None:
    """Compared with the same comparison in plain Python."""
    chosen = random.Random(7)
    old = {key: (chosen.choice("ab"), chosen.random()) for key in range(2000)}
    new = {key: (chosen.choice("ab") if key % 50 == 0 else label, score) for key, (label, score) in old.items()}
    for key in (5, 17):
        del new[key]
    new[99_999] = ("c", 1.5)
    sides = [
        Bytes("".join(["id,label,score\n", *(f"{k},{a},{b}\n" for k, (a, b) in rows.items())]).encode())
        for rows in (old, new)
    ]
    found = ComparedTables(b"a.csv", sides[0], sides[1], place)
    changed = {str(key) for key in old.keys() & new.keys() if old[key] != new[key]}
    assert (found.key, found.counts.added, found.counts.removed) == ("id", 1, 2)
    assert found.counts.changed == len(changed)
    assert found.changed_cells == {"label": len(changed)}
    kinds = {kind: found.page(0, kind) for kind in ("added", "removed", "changed")}
    assert [change.new for change in kinds["added"]] == [("99999", "c", "1.5")]
    assert {(change.old or ["?"])[0] for change in kinds["removed"]} == {"5", "17"}
    assert {(change.new or ["?"])[0] for change in kinds["changed"]} == changed
    found.close()


def test_without_a_key_and_with_one_that_is_there_twice(place: Path) -> None:
    old, new = Bytes(b"a,b\n1,x\n1,x\n1,y\n2,z\n"), Bytes(b"a,b\n1,x\n1,y\n1,q\n2,z\n")
    whole = ComparedTables(b"a.csv", old, new, place, NO_KEY)
    assert (whole.key, whole.counts.added, whole.counts.removed, whole.counts.changed) == (None, 1, 1, 0)
    whole.close()
    by_key = place / "by-key"
    by_key.mkdir()
    keyed = ComparedTables(b"a.csv", old, new, by_key, "a")
    assert keyed.counts.added == keyed.counts.removed == 0
    assert keyed.counts.changed == 2
    keyed.close()
    none = place / "none"
    none.mkdir()
    with pytest.raises(NotThisFormat):
        ComparedTables(b"a.csv", old, new, none, "c")


def test_columns_that_came_went_and_changed_their_type(place: Path, tmp_path: Path) -> None:
    old = parquet(tmp_path, "SELECT 1 AS id, 2 AS n, 'x' AS gone")
    new = parquet(tmp_path, "SELECT 1 AS id, '2' AS n, 'y' AS fresh")
    found = ComparedTables(b"a.parquet", old, new, place)
    assert (found.added_columns, found.removed_columns) == (["fresh"], ["gone"])
    assert found.retyped == {"n": ("INTEGER", "VARCHAR")}
    assert found.counts.changed == 0
    found.close()
