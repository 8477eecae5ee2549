"""Goal: values of arrays are called the same where every bit of them is, in every format, and nothing is unpickled."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.contents import Bytes, compared
from vfs.formats.detection import describe


def npy(shape: tuple[int, ...], data: bytes, descr: Any = "<f4", *, columns_first: bool = False, pad: int = 0) -> bytes:
    header = repr({"descr": descr, "fortran_order": columns_first, "shape": shape}).encode() + b" " * pad + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def archive(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as target:
        for name, data in members.items():
            # One time for all, so that archives differ in what a test makes differ.
            target.writestr(zipfile.ZipInfo(name), data, compression)
    return buffer.getvalue()


def tensors(values: Mapping[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None) -> bytes:
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, shape, content) in values.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_one_array_shows_type_dimensions_and_which_values_differ() -> None:
    assert compared("a.npy", npy((1, 2), floats(1, 2)), npy((2, 1), b"\1\0", "|b1")).lines == [
        "float32 1 x 2 → bool 2 x 1"
    ]
    old, new = npy((2, 2), floats(1, 2, 3, 4)), npy((2, 2), floats(1, 2, 3, 5))
    detail = compared("a.npy", old, new)
    assert detail.lines == ["float32 2 x 2, 1 of 4 values differ, the first at [1, 1]"]
    assert detail.value["values_differ"] is True
    assert compared("a.npy", npy((), floats(1)), npy((), floats(2))).lines == ["float32 scalar, another value"]


def test_only_bits_count() -> None:
    nan = struct.pack("<f", float("nan"))
    assert "the same values" in compared("a.npy", npy((1,), nan), npy((1,), nan, pad=9)).lines[0]
    assert "another value" in compared("a.npy", npy((1,), floats(0.0)), npy((1,), floats(-0.0))).lines[0]


WRITTEN = [
    ("header", npy((2,), floats(1, 2)), npy((2,), floats(1, 2), pad=64), "written differently: header"),
    (
        "byte order",
        npy((2,), floats(1, 2)),
        npy((2,), struct.pack(">2f", 1, 2), ">f4"),
        "written differently: header, byte order",
    ),
    (
        "byte order of complex numbers",
        npy((1,), struct.pack("<2d", 1, 2), "<c16"),
        npy((1,), struct.pack(">2d", 1, 2), ">c16"),
        "written differently: header, byte order",
    ),
    (
        "more bytes",
        npy((2,), floats(1, 2)),
        npy((2,), floats(1, 2, 3)),
        "written differently: bytes after the array, number of bytes after the array",
    ),
]


@pytest.mark.parametrize(("old", "new", "words"), [case[1:] for case in WRITTEN], ids=[case[0] for case in WRITTEN])
def test_of_the_same_values_it_is_said_what_does_differ(old: bytes, new: bytes, words: str) -> None:
    lines = compared("a.npy", old, new).lines
    assert lines[0].endswith("the same values")
    assert lines[1] == words


RECORD = [("x", "<i4"), ("y", "<f8", (2,))]
UNCOMPARED = [
    ("type", npy((1,), floats(1)), npy((1,), floats(1), "<i4"), "float32 1 → int32 1, values not compared"),
    (
        "columns first",
        npy((2, 2), floats(1, 2, 3, 4)),
        npy((2, 2), floats(1, 3, 2, 4), columns_first=True),
        "values not compared: rows come first on one side, columns on the other",
    ),
    (
        "cut short",
        npy((3,), floats(1)),
        npy((3,), floats(1, 2, 3)),
        "values not compared: it is cut short, 4 of 12 bytes",
    ),
    (
        "objects",
        npy((1,), pickle.dumps([1]), "|O"),
        npy((1,), pickle.dumps([2]), "|O"),
        "values not compared: pickled objects are not loaded",
    ),
    (
        "byte order of records",
        npy((1,), bytes(20), RECORD),
        npy((1,), bytes(20), [("x", ">i4"), ("y", ">f8", (2,))]),
        "values not compared: its type is written in another way",
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "words"), [case[1:] for case in UNCOMPARED], ids=[case[0] for case in UNCOMPARED]
)
def test_what_was_not_compared_is_called_so(old: bytes, new: bytes, words: str) -> None:
    for name, sides in (("a.npy", (old, new)), ("a.npz", (archive({"x.npy": old}), archive({"x.npy": new})))):
        line = compared(name, *sides).lines[0]
        assert line.endswith(words)
        assert "the same" not in line


def headed(header: bytes, size: int | None = None) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) if size is None else size) + header


NONSENSE = "its header makes no sense"
DAMAGED = {
    "begins otherwise": (b"\x93NUMPX\x01\x00" + bytes(20), "it does not begin as .npy does"),
    "begins and ends": (b"\x93NUM", "it does not begin as .npy does"),
    "no length": (b"\x93NUMPY\x01\x00\x01", NONSENSE),
    "a length without end": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31), "its header is too long"),
    "cut short": (headed(b"{'descr'", 200), "its header is cut short"),
    "no Python": (headed(b"{'descr': "), NONSENSE),
    "nested": (headed(b"(" * 5000), NONSENSE),
    "no dictionary": (headed(b"[1, 2]\n"), NONSENSE),
    "another key": (headed(b"{'descr': '<f4', 'fortran_order': False, 'size': (1,)}\n"), NONSENSE),
    "a list for a shape": (headed(b"{'descr': '<f4', 'fortran_order': False, 'shape': [1]}\n"), NONSENSE),
    "a negative dimension": (headed(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}\n"), NONSENSE),
}


@pytest.mark.parametrize(("damaged", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_a_header_that_makes_no_sense_is_reported_with_the_reason(damaged: bytes, reason: str) -> None:
    detail = compared("a.npy", damaged, npy((1,), floats(1)))
    assert f"not compared value by value: {reason}" in detail.lines
    assert detail.kind == "not-compared"
    assert detail.value["reason"] == f"not compared value by value: {reason}"


def test_records_are_compared() -> None:
    old, new = npy((2,), bytes(40), RECORD), npy((2,), bytes(39) + b"\1", RECORD)
    assert compared("a.npy", old, new).lines == ["{x: int32, y: float64 2} 2, 1 of 2 values differ, the first at [1]"]


def test_archives_show_what_came_went_and_changed() -> None:
    one, two = npy((1,), floats(1)), npy((2,), floats(1, 2))
    old = archive({"x.npy": one, "y.npy": npy((), floats(1)), "z.npy": one, "v.npy": two})
    new = archive({"x.npy": two, "z.npy": one, "v.npy": npy((2,), floats(1, 3)), "w.npy": npy((3,), floats(1, 2, 3))})
    assert compared("a.npz", old, new).lines == [
        "~ x: float32 1 → float32 2",
        "~ v: float32 2, 1 of 2 values differ, the first at [1]",
        "+ w: float32 3",
        "- y: float32 scalar",
        "1 of 4 arrays with the same values",
    ]
    packed = archive({"x.npy": one, "y.npy": two}, zipfile.ZIP_DEFLATED)
    assert compared("a.npz", archive({"x.npy": one, "y.npy": two}), packed).lines == [
        "2 of 2 arrays with the same values",
        "written differently: compression",
    ]
    turned = archive({"y.npy": two, "x.npy": one})
    assert "order of the members" in compared("a.npz", archive({"x.npy": one, "y.npy": two}), turned).lines[1]


def test_archives_that_are_damaged_or_encrypted_are_not_compared() -> None:
    old = archive({"x.npy": npy((64,), bytes(256)), "y.npy": npy((1,), floats(1))})
    at = old.index(bytes(64))
    broken = compared("a.npz", old, old[:at] + b"\1" + old[at + 1 :])
    assert broken.lines[0] == "~ x: float32 64 → unreadable, values not compared: its member is damaged"
    locked = bytearray(old)
    locked[old.index(b"PK\1\2") + 8] |= 1
    assert "it is encrypted" in compared("a.npz", old, bytes(locked)).lines[0]
    assert compared("a.npz", b"PK\3\4 no archive", b"nor this").lines[0] == (
        "not compared value by value: it is no ZIP archive that can be read"
    )


class Trap:
    """An object that a reader which unpickles would notice."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('unpickled')",)


def test_archives_of_pytorch_are_compared_storage_by_storage_and_not_unpickled() -> None:
    data = pickle.dumps(Trap())
    old = {"m/data.pkl": data, "m/data/0": floats(1, 2), "m/data/1": floats(3), "m/version": b"3\n"}
    assert compared("m.pt", archive(old), archive(old | {"m/data/0": floats(1, 5)})).lines == [
        "~ data/0: 8 bytes, 1 of 8 bytes differ, the first at [6]",
        "3 of 4 parts with the same values",
    ]
    renamed = {name.replace("m/", "other/"): content for name, content in old.items()}
    assert compared("m.pth", archive(old), archive(renamed)).lines == [
        "4 of 4 parts with the same values",
        "written differently: name of the outer directory",
    ]
    assert compared("m.pt", data, data + b"\0").lines[0].startswith("not compared value by value: ")


def test_tensors_are_compared_one_by_one() -> None:
    old = tensors({"a": ("F32", [2], floats(1, 2)), "b": ("BF16", [1], b"\1\2"), "c": ("F16", [1], b"\0\0")})
    new = tensors({"a": ("F32", [2], floats(1, 2)), "b": ("BF16", [1], b"\1\3"), "c": ("F16", [2], b"\0\0\0\0")})
    assert compared("m.safetensors", old, new).lines == [
        "~ c: f16 1 → f16 2",
        "~ b: bf16 1, another value",
        "1 of 3 arrays with the same values",
    ]
    noted = tensors({"a": ("F32", [1], floats(1))}, {"format": "pt"})
    assert compared("m.safetensors", tensors({"a": ("F32", [1], floats(1))}), noted).lines == [
        "1 of 1 arrays with the same values",
        "written differently: metadata, header",
    ]
    tensor = '"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}'
    twice = f"{{{tensor}, {tensor}}}".encode()
    file = struct.pack("<Q", len(twice)) + twice
    assert compared("m.safetensors", file + b"12", file + b"32").lines[0].startswith("not compared value by value")
    lower = old.replace(b'"F16"', b'"f16"')
    assert compared("m.safetensors", old, lower).lines[0].endswith("not compared: its type is written in another way")
    assert compared("m.safetensors", old, old[:-1]).lines[0] == "~ c: f16 1, values not compared: it is cut short"


def test_of_large_files_headers_are_compared_and_values_where_the_caller_is_patient() -> None:
    size = 1 << 30

    def large(shape: list[int]) -> Bytes:
        header = {"a": {"dtype": "U8", "shape": shape, "data_offsets": [0, size]}}
        text = json.dumps(header).encode()
        return Bytes(struct.pack("<Q", len(text)) + text, 8 + len(text) + size)

    old, new = large([size]), large([size // 2, 2])
    assert describe(b"m.safetensors", old, new).lines[0].startswith("~ a: u8 1073741824 → u8 536870912 x 2")
    assert old.bytes_read < 1000
    assert describe(b"m.safetensors", large([size]), large([size])).lines[0] == (
        "~ a: u8 1073741824, values not compared: more than 256.0 MiB to read"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("f.h5", "nothing here reads HDF5"),
        ("f.HDF5", "nothing here reads HDF5"),
        ("f.pkl", "pickled objects are not loaded"),
    ],
)
def test_formats_that_are_not_read_are_called_not_compared(name: str, words: str) -> None:
    detail = compared(name, b"\x89HDF\r\n\x1a\n\0a", b"\x89HDF\r\n\x1a\n\0bb")
    assert detail.kind == "not-compared"
    assert detail.lines == [f"not compared inside: {words}", "10 B → 11 B"]


@given(
    st.binary(min_size=8, max_size=24), st.data(), st.sampled_from(["<f4", "<i2", "<f8", "|S3", "|u1", "<U1", "<c8"])
)
def test_values_are_the_same_where_their_bytes_are(old: bytes, data: st.DataObject, descr: str) -> None:
    item = {"<f4": 4, "<i2": 2, "<f8": 8, "|S3": 3, "|u1": 1, "<U1": 4, "<c8": 8}[descr]
    old = old[: len(old) // item * item]
    at = data.draw(st.integers(0, len(old) - 1))
    new = data.draw(st.sampled_from([old, old[:at] + bytes([old[at] ^ 1]) + old[at + 1 :]]))
    count = len(old) // item
    files = [npy((count,), content, descr, pad=pad) for pad, content in enumerate((old, new))]
    differing = sum(old[i * item : (i + 1) * item] != new[i * item : (i + 1) * item] for i in range(count))
    for name, sides in (
        ("a.npy", files),
        ("a.npz", [archive({"x.npy": file}) for file in files]),
        ("a.pt", [archive({"x": content, "y": file}) for content, file in zip((old, new), files, strict=True)]),
        (
            "a.safetensors",
            [
                tensors({"x": ("U8", [len(old)], content)}, {"n": name})
                for content, name in zip((old, new), "ab", strict=True)
            ],
        ),
    ):
        lines = compared(name, *sides).lines
        if name == "a.npy":
            assert (differing == 0) == lines[0].endswith("the same values")
            assert differing == 0 or count == 1 or f"{differing} of {count} values differ" in lines[0]
        elif name != "a.pt":
            assert (differing == 0) == (lines[0] == "1 of 1 arrays with the same values")
        else:
            assert (differing == 0) == ("~ x: " not in " ".join(lines))
