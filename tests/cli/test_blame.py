"""`vfs blame`: lines, rows by key, Parquet; renames; what cannot be explained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from support.commands import Run, commands_on

Keep = Callable[[str, bytes], None]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Returns a function that runs a command in an empty repository and gives its output."""
    return commands_on(tmp_path / "repo", capsys, monkeypatch)


@pytest.fixture
def keep(run: Run, data: Path) -> Keep:
    """Returns a function that commits a new content of a file."""

    def call(name: str, content: bytes) -> None:
        (data / name).write_bytes(content)
        run("import", str(data), "-m", name)

    return call


def versions(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()]


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_each_line_has_the_version_that_added_it_through_renames(run: Run, keep: Keep, data: Path) -> None:
    keep("notes", b"one\ntwo\nthree\n")
    keep("other", b"no matter")
    keep("notes", b"one\n2\nthree\n")
    (data / "notes").rename(data / "read me")
    run("import", str(data), "-m", "renamed")
    keep("read me", b"zero\none\n2\nthree\n")
    assert versions(run("blame", "read me")) == ["v5", "v1", "v3", "v1"]
    assert run("blame", "read me").splitlines()[1].split()[-3:] == ["ann@lab", "2", "one"]
    assert versions(run("blame", "notes", "--at", "v3")) == ["v1", "v3", "v1"]
    last = objects(run("blame", "read me", "--json"))[2]
    assert (last["version"], last["path"], last["number"], last["text"]) == ("v3", "notes", 3, "2")


def test_rows_are_followed_by_their_key_wherever_they_stand(run: Run, keep: Keep) -> None:
    keep("t.csv", b"file,label\na,cat\nb,cta\nc,dog\n")
    keep("t.csv", b"file,label\nc,dog\nb,cat\na,cat\n")
    keep("t.csv", b'file,label\nc,dog\nb,cat\n"a",cat\nd,dog\n')
    assert versions(run("blame", "t.csv", "--key", "file")) == ["v1", "v2", "v1", "v3"]
    assert objects(run("blame", "t.csv", "--key", "file", "--json"))[1]["row"] == {"file": "b", "label": "cat"}
    keep("t.csv", b"name,label\nc,dog\n")
    assert versions(run("blame", "t.csv", "--key", "name")) == ["v4"]
    assert "no single column" in run("blame", "t.csv", "--key", "file", status=2)


def test_rows_are_compared_by_their_text_and_not_by_python_equality(run: Run, keep: Keep) -> None:
    keep("T.JSONL", b'{"id": 1, "v": 1}\n{"id": 2, "v": 0}\n{"id": 3, "v": [1, 2]}\n')
    keep("T.JSONL", b'{"id": 1, "v": true}\n{"id": 2, "v": 0.0}\n{"id":3,"v":[1,2]}\n')
    keep(
        "T.JSONL",
        b'{"id": 1, "v": true}\n{"id": 2, "v": 0.0}\n{"id":3,"v":[1,2]}\n{"id": 4, "v": NaN, "w": "\\ud800"}\n',
    )
    keep("T.JSONL", b'{"id": 5, "v": ' + b"[" * 9999 + b"]" * 9999 + b', "w": ' + b"1" * 9999 + b', "w": 2}\n')
    assert versions(run("blame", "T.JSONL", "--key", "id", "--at", "v3")) == ["v2", "v2", "v1", "v3"]
    rows = objects(run("blame", "T.JSONL", "--key", "id", "--at", "v3", "--json"))
    assert rows[3]["row"] == {"id": 4, "v": "NaN", "w": "\ud800"}
    assert [row["row"]["v"] for row in rows[:3]] == [True, 0.0, [1, 2]]
    # What Python cannot read, and a name that is there twice, are shown as they stand.
    row = objects(run("blame", "T.JSONL", "--key", "id", "--json"))[0]["row"]
    assert row.startswith('{"id": 5, "v": [[[')
    keep("T.JSONL", b'{"id": 5, "v": ' + b"[" * 9999 + b"]" * 9999 + b', "w": ' + b"1" * 9999 + b"}\n")
    row = objects(run("blame", "T.JSONL", "--key", "id", "--json"))[0]["row"]
    assert (row["v"], row["w"]) == ("[" * 9999 + "]" * 9999, "1" * 9999)


def test_rows_of_any_well_formed_csv_are_followed_and_of_no_other(run: Run, keep: Keep) -> None:
    text = b"\xef\xbb\xbfid;t\r\n1;a\r\n2;" + b"x" * 200_000 + b"\r\n3;\xe9"
    keep("T.CSV", text)
    keep("T.CSV", text.replace(b"1;a", b"1;b"))
    assert versions(run("blame", "T.CSV", "--key", "id")) == ["v2", "v1", "v1"]
    assert objects(run("blame", "T.CSV", "--key", "id", "--json"))[2]["row"] == {"id": "3", "t": "\udce9"}
    keep("T.CSV", text.replace(b"1;a", b'1;5" pipe'))
    assert "line 2 has a quote" in run("blame", "T.CSV", "--key", "id", status=2)


def test_parquet_is_explained_row_by_row(run: Run, keep: Keep, tmp_path: Path) -> None:
    for values in ("(1, 'a'), (2, 'b')", "(2, 'b'), (1, 'x')"):
        path = tmp_path / "made.parquet"
        duckdb.execute(f"COPY (SELECT * FROM (VALUES {values}) AS t(id, v)) TO '{path}'")
        keep("t.parquet", path.read_bytes())
    assert versions(run("blame", "t.parquet", "--key", "id")) == ["v1", "v2"]
    assert "no column" in run("blame", "t.parquet", "--key", "x", status=2)


def test_what_has_no_lines_is_said_to_have_none(run: Run, keep: Keep, data: Path) -> None:
    (data / "d").mkdir()
    keep("b", b"\0\1")
    keep("d/f", b"")
    assert "is no text" in run("blame", "b", status=2)
    assert "is a directory" in run("blame", "d", status=3)
    assert run("blame", "d/f") == ""
    assert "no file or directory" in run("blame", "absent", status=3)


def test_a_text_that_was_binary_or_a_directory_begins_where_it_became_text(run: Run, keep: Keep, data: Path) -> None:
    keep("f", b"\0one\n")
    keep("f", b"\0one\n".strip(b"\0"))
    assert versions(run("blame", "f")) == ["v2"]
    (data / "f").unlink()
    (data / "f").mkdir()
    keep("f/x", b"one\n")
    (data / "f/x").unlink()
    (data / "f").rmdir()
    keep("f", b"one\n")
    assert versions(run("blame", "f")) == ["v4"]
