"""Goal: what changed inside a file is said in the words of its kind, and no file can make the command fail."""

from __future__ import annotations

import io
import json
import re
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vfs.cli.formats import documents, tables, text
from vfs.cli.formats.choosing import describe
from vfs.cli.formats.detail import Detail
from vfs.errors import InvalidInput


class Bytes:
    """A file in memory that counts what is read of it."""

    def __init__(self, data: bytes, size: int | None = None) -> None:
        self._data = data
        self.size = len(data) if size is None else size
        self.bytes_read = 0

    def read(self, offset: int, size: int) -> bytes:
        self.bytes_read += size
        piece = self._data[offset : offset + size]
        return piece + b"." * max(min(self.size, offset + size) - offset - len(piece), 0)


def compared(name: str, old: bytes, new: bytes, **options: Any) -> Detail:
    return describe(name.encode(), Bytes(old), Bytes(new), **options)


# Text.


def patched(old: bytes, lines: list[str]) -> bytes:
    """Returns what a text becomes by the lines that were shown, read as `patch` reads them."""
    left = old.decode().splitlines(keepends=True)
    made: list[str] = []
    taken = 0
    was_new = False
    for line in lines:
        place = re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@", line)
        if place:
            start = int(place[1]) - (place[2] != "0")
            made += left[taken:start]
            taken = start
        elif line.startswith("\\"):
            if was_new:
                made[-1] = made[-1].removesuffix("\n")
        else:
            was_new = line[0] != "-"
            if line[0] != "+":
                assert left[taken].removesuffix("\n") == line[1:]
                taken += 1
            if was_new:
                made.append(line[1:] + "\n")
    return "".join(made + left[taken:]).encode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"a\nb\nc\n", b"a\nB\nc\n"),
        (b"a\nb\nc\n", b"a\nb\nc\nd"),
        (b"a\nb\nc", b"a\nb\nc\n"),
        (b"x\n", b"y\nx\n"),
        (b"".join(b"%d\n" % n for n in range(100)), b"".join(b"%d\n" % n for n in range(100) if n % 17)),
    ],
)
def test_lines_are_in_the_form_that_patch_takes(old: bytes, new: bytes) -> None:
    assert patched(old, list(compared("f.txt", old, new).lines)) == new


@given(st.lists(st.sampled_from([b"a", b"b", b"c", b""]), max_size=12), st.lists(st.sampled_from([b"a", b"b", b"d"])))
def test_hunks_have_every_line_that_came_and_went(old: list[bytes], new: list[bytes]) -> None:
    detail = text.compare_lines([line + b"\n" for line in old], [line + b"\n" for line in new])
    shown = [line for hunk in detail.value["hunks"] for line in hunk["lines"]]
    assert detail.value["lines_added"] == sum(line.startswith("+") for line in shown)
    assert len(old) - detail.value["lines_removed"] + detail.value["lines_added"] == len(new)


def test_a_line_cannot_drive_the_terminal() -> None:
    assert "+\\x1b[2J\ttab" in compared("f", b"a\n", b"\x1b[2J\ttab\n").lines


def test_large_and_binary_files_are_said_to_be_so_and_not_read() -> None:
    old, new = Bytes(b"text\n", 10 << 30), Bytes(b"text\n", (10 << 30) + 1)
    for name in (b"f.log", b"f.csv", b"f.json", b"f.parquet"):
        assert "larger than" in describe(name, old, new).lines[0]
    assert old.bytes_read < 1 << 20
    middle = Bytes(b"a\n", 40 << 20)
    lines = describe(b"f.csv", middle, middle).lines
    assert lines == ["not compared row by row: larger than 32.0 MiB", "--full compares them all the same"]
    assert compared("f", b"\0one", b"\0more").lines == ["binary, 4 B → 5 B"]


# JSON.


def test_json_is_compared_key_by_key() -> None:
    old = {"lr": 0.1, "layers": [1, 2, 3], "gone": None, "same": {"x": 1}}
    new = {"lr": 0.01, "layers": [1, 5], "new key": "n", "same": {"x": 1}}
    detail = compared("c.json", json.dumps(old).encode(), json.dumps(new, indent=2).encode())
    assert detail.lines == [
        "~ lr: 0.1 → 0.01",
        "~ layers[1]: 2 → 5",
        "- layers[2]: 3",
        "- gone: null",
        '+ "new key": "n"',
    ]
    assert detail.value["removed"] == ["layers[2]", "gone"]
    assert compared("c.json", b'{"a":1}', b'{ "a": 1 }').lines == ["the same values, written differently"]
    assert compared("c.json", b"true", b"1").lines == ["~ the whole document: true → 1"]


def test_what_is_no_json_is_compared_as_lines() -> None:
    assert compared("c.json", b"{\n", b"[\n").kind == "text"
    assert compared("c.json", b"[" * 200_000, b"[").kind == "text"


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3),
    lambda inner: st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=6,
)


@given(_values, _values)
def test_keys_that_differ_are_all_there(old: Any, new: Any) -> None:
    detail = documents.describe(Bytes(json.dumps(old).encode()), Bytes(json.dumps(new).encode()))
    is_same = json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)
    assert is_same == (not any(detail.value.values()))


# Tables.


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
    assert compared("t.csv", old, new, key="id").lines[0] == "2 rows: 2 changed (by id)"
    with pytest.raises(InvalidInput, match="no column"):
        compared("t.csv", old, new, key="c")


def test_quoted_cells_and_quoted_names_are_read_as_csv_says() -> None:
    old, new = b'id,"a ""b"""\n1,"x\ny"\n', b'id,"a ""b"""\n1,"x\nz"\n'
    assert compared("t.csv", old, new).lines == ["1 row: 1 changed (by id)", '~ 1: a "b" x\\ny → x\\nz']


def parquet(tmp_path: Path, query: str) -> bytes:
    path = tmp_path / "made.parquet"
    duckdb.execute(f"COPY ({query}) TO '{path}'")
    return path.read_bytes()


def test_parquet_is_compared_by_its_types(tmp_path: Path) -> None:
    old = parquet(tmp_path, "SELECT 1 AS id, 2 AS n, [1] AS l UNION ALL SELECT 2, 3, [2]")
    new = parquet(tmp_path, "SELECT 1 AS id, 2.5::DOUBLE AS n, [1, 9] AS l UNION ALL SELECT 2, 3, [2]")
    assert compared("t.parquet", old, new).lines == [
        "2 rows: 1 changed (by id)",
        "~ column n: INTEGER → DOUBLE",
        "~ 1: l [1] → [1, 9]",
    ]
    assert tables.read_rows(b"t.parquet", Bytes(old)).rows == [(1, 2, "[1]"), (2, 3, "[2]")]
    assert compared("t.parquet", b"PAR1 not", b"PAR1 \0 nor").kind == "binary"


def test_json_lines_are_a_table_too() -> None:
    old, new = b'{"id": 1, "t": "a"}\n{"id": 2, "t": "b"}\n', b'{"id": 1, "t": "c", "n": [1]}\n{"id": 2, "t": "b"}\n'
    lines = compared("r.jsonl", old, new).lines
    assert lines == ["2 rows: 1 changed (by id)", "+ column n", "~ 1: t a → c"]
    assert compared("r.jsonl", b"{\n", b"[\n").kind == "text"


def test_without_the_engine_tables_are_lines_and_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in the table of modules is how Python itself marks one that cannot be imported.
    monkeypatch.setitem(sys.modules, "duckdb", None)
    detail = compared("t.csv", b"a\n1\n", b"a\n2\n")
    assert detail.lines[-4:-1] == [" a", "-1", "+2"]
    assert "vfs-versions[tables]" in detail.lines[-1]


# Images and arrays.


def png(size: tuple[int, int], mode: str = "RGB", dot: tuple[int, int] | None = None, level: int = 6) -> bytes:
    image = Image.new(mode, size)
    if dot is not None:
        image.putpixel(dot, 255)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def test_images_show_dimensions_and_where_pixels_differ() -> None:
    assert compared("i.png", png((4, 3)), png((8, 6), "L")).lines == ["PNG 4 x 3 RGB → PNG 8 x 6 L"]
    assert compared("i.png", png((9, 9), "L"), png((9, 9), "L", (2, 7))).lines == [
        "PNG 9 x 9 L, pixels differ within 1 x 1 at (2, 7)"
    ]
    assert compared("i.png", png((99, 99)), png((99, 99), level=0)).lines == ["PNG 99 x 99 RGB, the same pixels"]
    assert compared("i.png", b"no image", b"nor this").kind == "text"
    assert compared("i.png", png((40, 40))[:60], png((40, 40), level=0)).kind == "image"


def npy(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def test_arrays_show_types_and_dimensions_from_their_headers_alone() -> None:
    assert compared("a.npy", npy((3, 2)), npy((5, 2), "|b1")).lines == ["float32 3 x 2 → bool 5 x 2"]
    assert compared("a.npy", npy((3, 2)), npy((3, 2)) + b"1").lines == ["float32 3 x 2, other values"]

    def npz(**arrays: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in arrays.items():
                archive.writestr(f"{name}.npy", data)
        return buffer.getvalue()

    detail = compared("a.npz", npz(x=npy((1,)), y=npy(()), z=npy((1,))), npz(x=npy((2,)), z=npy((1,)), w=npy((3,))))
    assert detail.lines == [
        "~ x: float32 1 → float32 2",
        "+ w: float32 3",
        "- y: float32 scalar",
        "1 of 3 arrays with the same type and dimensions",
    ]

    def tensors(**shapes: list[int]) -> bytes:
        header = json.dumps({name: {"dtype": "F16", "shape": shape} for name, shape in shapes.items()}).encode()
        return struct.pack("<Q", len(header)) + header

    old, new = Bytes(tensors(a=[2], b=[3]), 10 << 30), Bytes(tensors(a=[4], b=[3]), 10 << 30)
    assert describe(b"m.safetensors", old, new).lines[0] == "~ a: f16 2 → f16 4"
    assert old.bytes_read < 1000


@pytest.mark.parametrize("ending", ["npy", "npz", "safetensors", "png", "parquet", "csv", "json", "jsonl", "txt"])
@settings(max_examples=20)
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_under_any_name_are_described(ending: str, old: bytes, new: bytes) -> None:
    assert compared(f"f.{ending}", old, new).lines is not None
