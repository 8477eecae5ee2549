"""Headers of arrays: names, types and dimensions in `.npy` and `.safetensors`, and where the values lie.

Both headers are a line of text with a length before it.
"""

from __future__ import annotations

import ast
import json
import math
import re
import struct
import warnings
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vfs.formats.detail import NotThisFormat, Readable

_NPY_MAGIC = b"\x93NUMPY"
_NPY_KEYS = {"descr", "fortran_order", "shape"}
_NPY_HEADER_BYTES_MAX = 1024 * 1024
_HEADER_BYTES_MAX = 32 * 1024 * 1024
_SIMPLE = re.compile(r"([<>|=])([A-Za-z])([0-9]+)(\[.*\])?")
_SWAPPED = {2: "H", 4: "I", 8: "Q"}
_SAFETENSORS_BYTES = {"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4} | {
    "F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1
}  # fmt: skip

Reading = Callable[[int, int], bytes]
"""Reads a number of bytes at an offset behind the header: in sequence, as archives must. Raises NotThisFormat."""


@dataclass(frozen=True, slots=True)
class Array:
    """One array: its type as the file names it, its dimensions, and how its values lie in the file.

    `descr` is the type as it is written, `byte_order` `<`, `>` or empty where a type has none, `swapped_bytes` the
    size of what is swapped between them, 0 where that is not known. `offset` is that of the values in `source`, -1
    where they are packed. `uncompared` says why values cannot be read, `is_pickled` that they are objects. Without
    `is_array` the values are plain bytes.
    """

    words: str
    shape: tuple[int, ...]
    dtype: str
    source: Readable
    read: Reading
    bytes: int
    item_bytes: int = 1
    offset: int = -1
    descr: str = ""
    byte_order: str = ""
    swapped_bytes: int = 0
    is_column_major: bool = False
    is_pickled: bool = False
    is_array: bool = True
    uncompared: str = ""

    def as_json(self) -> dict[str, Any]:
        """Returns type and dimensions."""
        return {"dtype": self.dtype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Arrays:
    """A file's arrays by name, and its other metadata, by name."""

    arrays: Mapping[str, Array]
    facts: Mapping[str, Any]


def differing(old: Arrays, new: Arrays) -> list[str]:
    """Returns the names of metadata in which two files differ."""
    names = [name for name in {**old.facts, **new.facts} if old.facts.get(name) != new.facts.get(name)]
    if any(old.arrays[key].byte_order != new.arrays[key].byte_order for key in old.arrays if key in new.arrays):
        names.append("byte order")
    return names


def swapped(data: bytes, unit_bytes: int) -> bytes:
    """Returns the values with the bytes of each unit turned around."""
    values = array(_SWAPPED[unit_bytes], data)
    values.byteswap()
    return values.tobytes()


def npy(source: Readable) -> Arrays:
    """Returns the one array of a `.npy`, under the empty name. Raises NotThisFormat."""
    at = 0

    def forward(size: int) -> bytes:
        nonlocal at
        data = bytes(source.read(at, size))
        at += len(data)
        return data

    header = npy_header(forward)
    found = npy_array(header, source, lambda offset, size: read_at(source, at + offset, size), source.size - at, at)
    rest = source.size - at - found.bytes
    facts = {
        "header": bytes(source.read(0, at)),
        "bytes after the array": bytes(source.read(at + found.bytes, min(rest, _HEADER_BYTES_MAX)))
        if rest > 0
        else b"",
        "number of bytes after the array": max(rest, 0),
    }
    return Arrays({"": found}, facts)


def npy_header(read: Callable[[int], bytes]) -> Mapping[str, Any]:
    """Returns a header of `.npy`; `read` goes on through the bytes. Raises NotThisFormat."""
    head = read(8)
    if head[:6] != _NPY_MAGIC or len(head) < 8:
        raise NotThisFormat("it does not begin as .npy does")
    try:
        size = struct.unpack("<H", read(2))[0] if head[6] == 1 else struct.unpack("<I", read(4))[0]
        if size > _NPY_HEADER_BYTES_MAX:
            raise NotThisFormat("its header is too long")
        data = read(size)
        if len(data) < size:
            raise NotThisFormat("its header is cut short")
        with warnings.catch_warnings():
            # Python's warnings about the spelling of a header are of no use to the user.
            warnings.simplefilter("ignore")
            header: Mapping[str, Any] = ast.literal_eval(data.decode("utf-8" if head[6] > 2 else "latin-1"))
        is_known = isinstance(header, dict) and header.keys() == _NPY_KEYS
        if not is_known or not isinstance(header["shape"], tuple) or not isinstance(header["fortran_order"], bool):
            raise NotThisFormat("its header makes no sense")
        if not all(isinstance(length, int) and length >= 0 for length in header["shape"]):
            raise NotThisFormat("its header makes no sense")
        return header
    except (ValueError, TypeError, KeyError, SyntaxError, struct.error, RecursionError, MemoryError):
        raise NotThisFormat("its header makes no sense") from None


def npy_array(header: Mapping[str, Any], source: Readable, read: Reading, rest_bytes: int, offset: int) -> Array:
    """Returns the array of a header before `rest_bytes` of values and of what follows. Raises NotThisFormat."""
    try:
        return _npy_array(header, source, read, rest_bytes, offset)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        raise NotThisFormat("its header makes no sense") from None


def _npy_array(header: Mapping[str, Any], source: Readable, read: Reading, rest_bytes: int, offset: int) -> Array:
    shape: tuple[int, ...] = header["shape"]
    descr = header["descr"]
    simple = _SIMPLE.fullmatch(descr) if isinstance(descr, str) else None
    item_bytes = _item_bytes(descr)
    is_pickled = _has_objects(descr)
    size = rest_bytes if is_pickled else math.prod(shape) * (item_bytes or 0)
    reason = ""
    if item_bytes is None and not is_pickled:
        reason = "its type is not known"
    elif size > rest_bytes:
        reason, size = f"it is cut short, {rest_bytes:,} of {size:,} bytes", rest_bytes
    unit = {"c": int(simple[3]) // 2, "U": 4}.get(simple[2], int(simple[3])) if simple else 0
    dtype = _dtype_words(descr)
    return Array(
        f"{dtype} {_dimensions(shape)}",
        shape,
        dtype,
        source,
        read,
        size,
        item_bytes=1 if is_pickled else item_bytes or 1,
        offset=offset,
        descr=repr(descr),
        byte_order=simple[1] if simple and simple[1] in "<>" and unit > 1 else "",
        swapped_bytes=unit if unit in _SWAPPED else 0,
        is_column_major=header["fortran_order"],
        is_pickled=is_pickled,
        uncompared=reason,
    )


def _dimensions(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def _dtype_words(descr: Any) -> str:
    """Returns `<f4` and its like as people name them; records as their fields."""
    if isinstance(descr, list):
        return "{" + ", ".join(_field_words(field) for field in descr) + "}"
    kinds = {"f": "float", "i": "int", "u": "uint", "c": "complex"}
    text = str(descr)
    if len(text) > 2 and text[1] in kinds and text[2:].isdigit():
        return f"{kinds[text[1]]}{int(text[2:]) * 8}"
    return {"|b1": "bool", "?": "bool", "|O": "object"}.get(text, text.lstrip("<>|="))


def _field_words(field: Any) -> str:
    dimensions = f" {_dimensions(tuple(field[2]))}" if len(field) > 2 else ""
    return f"{field[0]}: {_dtype_words(field[1])}{dimensions}"


def _item_bytes(descr: Any) -> int | None:
    if isinstance(descr, list):
        sizes = [(_item_bytes(field[1]), math.prod(field[2]) if len(field) > 2 else 1) for field in descr]
        known = [size * times for size, times in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None
    match = _SIMPLE.fullmatch(descr) if isinstance(descr, str) else None
    if match is None or match[2] == "O":
        return None
    return int(match[3]) * (4 if match[2] == "U" else 1)


def _has_objects(descr: Any) -> bool:
    if isinstance(descr, list):
        return any(_has_objects(field[1]) for field in descr)
    return isinstance(descr, str) and descr.lstrip("<>|=").startswith("O")


def read_at(source: Readable, offset: int, size: int) -> bytes:
    """Returns bytes of a file. Raises NotThisFormat where it ends before."""
    data = bytes(source.read(offset, size))
    if len(data) != size:
        raise NotThisFormat("it is cut short")
    return data


def safetensors(source: Readable) -> Arrays:
    """Returns the tensors of a `.safetensors`. Raises NotThisFormat."""
    start = bytes(source.read(0, 8))
    size = int.from_bytes(start, "little")
    if len(start) < 8 or size > min(_HEADER_BYTES_MAX, source.size - 8):
        raise NotThisFormat("it does not begin as .safetensors does")
    data = bytes(source.read(8, size))
    try:
        header = json.loads(data, object_pairs_hook=_once)
        found = {name: _tensor(source, 8 + size, tensor) for name, tensor in header.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise NotThisFormat("its header makes no sense") from None
    return Arrays(found, {"metadata": repr(header.get("__metadata__")), "header": data})


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


def _tensor(source: Readable, data_start: int, tensor: Mapping[str, Any]) -> Array:
    dtype = str(tensor["dtype"])
    shape = tuple(tensor["shape"])
    begin, end = tensor["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)) or begin > end:
        raise ValueError("impossible numbers")
    count, size = math.prod(shape), end - begin
    item_bytes = _SAFETENSORS_BYTES.get(dtype)
    reason = ""
    if data_start + end > source.size:
        reason = "it is cut short"
    elif item_bytes is not None and item_bytes * count != size:
        reason = "its size is not that of its type and dimensions"
    offset = data_start + begin
    words = f"{dtype.lower()} {_dimensions(shape)}"
    return Array(
        words,
        shape,
        dtype.lower(),
        source,
        lambda at, length: read_at(source, offset + at, length),
        size,
        # Of types that are smaller than a byte, or unknown, bytes are counted.
        item_bytes=item_bytes or 1,
        offset=offset,
        descr=dtype,
        is_array=item_bytes is not None,
        uncompared=reason,
    )
