"""Goal: what changed inside a text or a document is said in its words, and no file can make the command fail."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.contents import Bytes, compared
from vfs.formats import json_documents, text_diff
from vfs.formats.detection import describe

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
    detail = text_diff.compare_lines([line + b"\n" for line in old], [line + b"\n" for line in new])
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
    assert compared("c.json", b'{"a":1}', b'{ "a": 1 }').lines == [
        "the same values",
        "written differently: white space",
    ]
    assert compared("c.json", b"true", b"1").lines == ["~ the whole document: true → 1"]


def test_keys_that_are_there_twice_are_compared_one_by_one() -> None:
    assert compared("c.json", b'{"v":1,"v":2}', b'{"v":3,"v":2}').lines == ["~ v: 1 → 3"]
    assert compared("c.json", b'{"v":1,"v":2}', b'{"v":1}').lines == ["- v (2): 2"]
    assert compared("c.json", b'{"v":NaN,"w":1}', b'{"v":NaN,"w":2}').lines == ["~ w: 1 → 2"]


def test_how_a_document_is_written_is_said_where_its_values_are_the_same() -> None:
    written = '{"a": "é"}'
    assert compared("c.json", written.encode(), written.encode("utf-16")).lines[1] == (
        "written differently: encoding UTF-8 → UTF-16"
    )
    assert compared("c.json", b'{"a":\n1}\n', b'{"a":\r\n1}\r\n').lines[1] == (
        "written differently: line ends LF → CRLF, white space"
    )
    assert (
        compared("c.json", written.encode(), written.encode("latin-1")).lines[0]
        == "not compared key by key: it is no UTF-8"
    )


def test_invalid_json_is_compared_as_lines() -> None:
    assert compared("c.json", b"{\n", b"[\n").kind == "text"
    assert compared("c.json", b"[" * 200_000, b"[").kind == "text"
    nested = compared("c.json", b"[" * 9000 + b"]" * 9000, b"[" * 9000 + b"1" + b"]" * 9000)
    assert nested.lines[0] == "not compared key by key: it is nested too deeply"


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3),
    lambda inner: st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=6,
)


@given(_values, _values)
def test_keys_that_differ_are_all_there(old: Any, new: Any) -> None:
    detail = json_documents.describe(Bytes(json.dumps(old).encode()), Bytes(json.dumps(new).encode()))
    is_same = json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)
    assert is_same == (not any(detail.value[name] for name in ("added", "removed", "changed")))


# Anything.


ENDINGS = [
    "npy",
    "npz",
    "pt",
    "safetensors",
    "png",
    "tiff",
    "gif",
    "parquet",
    "csv",
    "tsv",
    "json",
    "jsonl",
    "h5",
    "txt",
]


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=20)
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_under_any_name_are_described(ending: str, old: bytes, new: bytes) -> None:
    starts = {"npy": b"\x93NUMPY\1\0", "npz": b"PK\3\4", "gif": b"GIF89a", "tiff": b"II*\0", "parquet": b"PAR1"}
    for start in (b"", starts.get(ending, b"")):
        lines = compared(f"f.{ending}", start + old, start + new).lines
        assert old == new or all(line.isprintable() or "\t" in line for line in lines)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "d.json", "a.npy", "i.png", "t.parquet", "a.npz"])
def test_nothing_in_a_file_drives_the_terminal(name: str) -> None:
    old, new = (
        b'{"\x1b[2J": "\\u202e"}\n\x1b[2J,\x9b\n\x1b]0;,\x07\n',
        b'{"\x1b[2J": "\\u202f"}\n\x1b[3J,\x9b\n\x1b]0;,\x08\n',
    )
    assert all(line.isprintable() for line in compared(name, old, new).lines)


def test_without_a_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in the table of modules is how Python itself marks one that cannot be imported.
    monkeypatch.setitem(sys.modules, "duckdb", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    for name, extra in (("t.parquet", "tables"), ("i.png", "images")):
        detail = compared(name, b"\0a", b"\0bb")
        assert detail.kind == "not-compared"
        assert f"vfs-versions[{extra}]" in detail.lines[0]
        assert detail.lines[1] == "2 B → 3 B"
    assert compared("t.csv", b"a\n1\n", b"a\n2\n").kind == "table"


def test_a_format_that_differs_from_the_name_comes_first_and_is_in_the_values() -> None:
    detail = compared("t.jsonl", b"{\n", b"[\n")
    assert detail.lines[0].startswith("not compared row by row: line 1: no JSON: ")
    assert detail.as_json()["reason"] == detail.lines[0]
