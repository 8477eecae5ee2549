"""Arrays by their headers: names, types and dimensions of `.npy`, `.npz` and `.safetensors`, whatever their size.

Both headers are a line of text with a length before it; reading them here needs no library and none of the numbers.
"""

from __future__ import annotations

import ast
import io
import json
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

from vfs.cli.formats.detail import EXAMPLES_MAX, Detail, NotThisFormat, Readable, Stream, more_than_shown

_NPY_MAGIC = b"\x93NUMPY"
_HEADER_BYTES_MAX = 64 * 1024 * 1024


class Array(NamedTuple):
    """One array: its type as the file names it, and its dimensions."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {' x '.join(map(str, self.shape)) or 'scalar'}"


def describe(name: bytes, old: Readable, new: Readable) -> Detail:
    """Returns which arrays came, went and changed type or dimensions. Raises NotThisFormat."""
    before, after = arrays_in(name, old), arrays_in(name, new)
    changed = [key for key in before if key in after and before[key] != after[key]]
    added, removed = [key for key in after if key not in before], [key for key in before if key not in after]
    same = len(before) - len(changed) - len(removed)
    if list(before) == list(after) == [""]:
        one = f"{before['']} → {after['']}" if changed else f"{after['']}, other values"
        return Detail("array", [one], {"old": _json(before[""]), "new": _json(after[""])})
    lines = [f"~ {key}: {before[key]} → {after[key]}" for key in changed]
    lines += [f"+ {key}: {after[key]}" for key in added] + [f"- {key}: {before[key]}" for key in removed]
    shown = lines[:EXAMPLES_MAX] + more_than_shown(len(lines), "arrays")
    shown.append(f"{same:,} of {len(after):,} arrays with the same type and dimensions")
    value = {
        "added": {key: _json(after[key]) for key in added},
        "removed": {key: _json(before[key]) for key in removed},
        "changed": {key: {"old": _json(before[key]), "new": _json(after[key])} for key in changed},
        "same": same,
    }
    return Detail("arrays", shown, value)


def arrays_in(name: bytes, source: Readable) -> Mapping[str, Array]:
    """Returns the arrays of a file by name; the one of a `.npy` has the empty name. Raises NotThisFormat."""
    try:
        if name.endswith(b".safetensors"):
            return _safetensors(source)
        if name.endswith(b".npz"):
            return _npz(source)
        return {"": _npy(Stream(source))}
    except (ValueError, TypeError, KeyError, SyntaxError, struct.error, zipfile.BadZipFile, RecursionError):
        raise NotThisFormat from None


def _json(array: Array) -> dict[str, Any]:
    return {"dtype": array.dtype, "shape": list(array.shape)}


def _npy(stream: Any) -> Array:
    head = stream.read(8)
    if head[:6] != _NPY_MAGIC:
        raise NotThisFormat
    size = struct.unpack("<H", stream.read(2))[0] if head[6] == 1 else struct.unpack("<I", stream.read(4))[0]
    if size > _HEADER_BYTES_MAX:
        raise NotThisFormat
    header = ast.literal_eval(stream.read(size).decode("utf-8" if head[6] > 2 else "latin-1"))
    return Array(_dtype_words(header["descr"]), tuple(int(length) for length in header["shape"]))


def _dtype_words(descr: Any) -> str:
    """Returns `<f4` and its like as people name them; records as their fields."""
    if isinstance(descr, list):
        return "{" + ", ".join(f"{field[0]}: {_dtype_words(field[1])}" for field in descr) + "}"
    kinds = {"f": "float", "i": "int", "u": "uint", "c": "complex"}
    text = str(descr)
    if len(text) > 2 and text[1] in kinds and text[2:].isdigit():
        return f"{kinds[text[1]]}{int(text[2:]) * 8}"
    return {"|b1": "bool", "?": "bool"}.get(text, text)


def _npz(source: Readable) -> Mapping[str, Array]:
    found = {}
    with zipfile.ZipFile(io.BufferedReader(Stream(source))) as archive:
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as member:
                    found[name.removesuffix(".npy")] = _npy(member)
    return found


def _safetensors(source: Readable) -> Mapping[str, Array]:
    (size,) = struct.unpack("<Q", bytes(source.read(0, 8)))
    if size > min(_HEADER_BYTES_MAX, source.size):
        raise NotThisFormat
    header = json.loads(bytes(source.read(8, size)))
    return {
        name: Array(str(tensor["dtype"]).lower(), tuple(int(length) for length in tensor["shape"]))
        for name, tensor in header.items()
        if name != "__metadata__"
    }
