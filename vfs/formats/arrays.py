"""Arrays, bit by bit: `.npy`, `.npz`, `.safetensors`, and the storages in the archives of PyTorch.

Headers are read here, so that it takes no library. Nothing is unpickled: pickled objects are the same where their bytes
are, and else not compared.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from vfs.formats import array_archives, array_headers
from vfs.formats.array_headers import Array
from vfs.formats.detail import (
    EXAMPLES_MAX,
    Detail,
    NotThisFormat,
    Readable,
    cut,
    more_than_shown,
    same_chunks,
    written_differently,
)
from vfs.formats.quantities import human_size
from vfs.formats.text_diff import shown_line

ENDINGS = (b".npy", b".npz", b".safetensors", b".pt", b".pth")
"""The file name extensions that this module knows."""
QUICK_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of arrays that are read unless the caller is patient; chunks that both versions share need no reading."""
_PIECE_BYTES = 1024 * 1024
_COUNTED_MAX = 16 * 1024 * 1024
"""Values that are compared one by one, to count those that differ."""
_NAME_CHARACTERS_MAX = 80
_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}


def describe(name: bytes, old: Readable, new: Readable, *, patient: bool = False) -> Detail:
    """Returns which arrays were added, were removed, or changed type, dimensions or values. Raises NotThisFormat."""
    before, after = arrays_in(name, old), arrays_in(name, new)
    return _Comparison(before.arrays, after.arrays, patient=patient).detail(array_headers.differing(before, after))


def arrays_in(name: bytes, source: Readable) -> array_headers.Arrays:
    """Returns the arrays of a file by name; the one of a `.npy` has the empty name. Raises NotThisFormat."""
    if name.endswith(b".safetensors"):
        return array_headers.safetensors(source)
    if name.endswith(b".npy"):
        return array_headers.npy(source)
    return array_archives.members(source, with_arrays=name.endswith(b".npz"))


class _Comparison:
    """Two files' arrays, and the change of each."""

    def __init__(self, old: Mapping[str, Array], new: Mapping[str, Array], *, patient: bool) -> None:
        self.old, self.new = old, new
        self._bytes_left = math.inf if patient else QUICK_BYTES_MAX
        both = [key for key in old if key in new]
        readable = [key for key in both if not (old[key].uncompared or new[key].uncompared)]
        self.retyped = [key for key in readable if old[key].words != new[key].words]
        verdicts = {key: self._values(old[key], new[key]) for key in both if key not in self.retyped}
        self.differing = {key: words for key, (words, is_compared) in verdicts.items() if words and is_compared}
        self.uncompared = {key: words for key, (words, is_compared) in verdicts.items() if not is_compared}
        self.same = [key for key, (words, is_compared) in verdicts.items() if is_compared and not words]
        self.added = [key for key in new if key not in old]
        self.removed = [key for key in old if key not in new]

    def detail(self, facts: Sequence[str]) -> Detail:
        """Returns all of it; `facts` name what else differs."""
        is_same = len(self.same) == len(self.old) == len(self.new)
        written = [written_differently(facts)] if is_same else []
        if list(self.old) == list(self.new) == [""]:
            return Detail("array", [self._line(""), *written], self._one())
        keys = [*self.retyped, *self.differing, *self.uncompared]
        lines = [f"~ {_shown(key)}: {self._line(key)}" for key in keys]
        lines += [f"+ {_shown(key)}: {self.new[key].words}" for key in self.added]
        lines += [f"- {_shown(key)}: {self.old[key].words}" for key in self.removed]
        shown = lines[:EXAMPLES_MAX] + more_than_shown(len(lines), "arrays")
        noun = "arrays" if all(one.is_array for one in self.new.values()) else "parts"
        shown.append(f"{len(self.same):,} of {len(self.new):,} {noun} with the same values")
        return Detail(
            "arrays", shown + written, self._all() | ({"written_differently": list(facts)} if written else {})
        )

    def _line(self, key: str) -> str:
        if key in self.retyped:
            tail = ", values not compared" if self.old[key].shape == self.new[key].shape else ""
            return f"{self.old[key].words} → {self.new[key].words}{tail}"
        if key in self.uncompared:
            words = [self.old[key].words, self.new[key].words]
            return f"{' → '.join(dict.fromkeys(words))}, values not compared: {self.uncompared[key]}"
        return f"{self.new[key].words}, {self.differing.get(key, 'the same values')}"

    def _one(self) -> dict[str, Any]:
        sides = {"old": self.old[""].as_json(), "new": self.new[""].as_json()}
        if self.retyped:
            return sides
        return sides | ({"not_compared": self.uncompared[""]} if self.uncompared else {"values_differ": not self.same})

    def _all(self) -> dict[str, Any]:
        retyped = {key: {"old": self.old[key].as_json(), "new": self.new[key].as_json()} for key in self.retyped}
        return {
            "added": {key: self.new[key].as_json() for key in self.added},
            "removed": {key: self.old[key].as_json() for key in self.removed},
            "changed": retyped,
            "values_differ": self.differing,
            "not_compared": self.uncompared,
            "same": len(self.same),
        }

    def _values(self, old: Array, new: Array) -> tuple[str, bool]:
        """Returns the line about the values, empty where they are equal; and True if they were compared."""
        reason = old.uncompared or new.uncompared or _other_layout(old, new)
        if reason:
            return reason, False
        if old.bytes != new.bytes:
            # Pickled objects: arrays of one type and shape have one size.
            return "pickled objects are not loaded", False
        try:
            return self._difference(old, new)
        except NotThisFormat as damage:
            return str(damage), False

    def _difference(self, old: Array, new: Array) -> tuple[str, bool]:
        step = max(_PIECE_BYTES // old.item_bytes, 1) * old.item_bytes
        differing = counted = 0
        first: int | None = None
        for at in range(0, old.bytes, step):
            size = min(step, old.bytes - at)
            if old.offset == new.offset >= 0 and same_chunks(old.source, new.source, old.offset + at, size):
                continue
            self._bytes_left -= size
            if self._bytes_left < 0:
                found = "values differ" if first is not None else f"more than {human_size(QUICK_BYTES_MAX)} to read"
                return found, first is not None
            was, now = old.read(at, size), new.read(at, size)
            if old.byte_order != new.byte_order:
                now = array_headers.swapped(now, new.swapped_bytes)
            if was == now:
                continue
            if old.is_pickled:
                return "pickled objects are not loaded", False
            if counted > _COUNTED_MAX:
                break
            places = _differing(was, now, old.item_bytes)
            counted += size // old.item_bytes
            differing += len(places)
            first = at // old.item_bytes + places[0] if first is None else first
        if first is None:
            return "", True
        return _words(old, differing, first, at_least=counted > _COUNTED_MAX), True


def _other_layout(old: Array, new: Array) -> str:
    is_swapped = old.byte_order and new.byte_order and old.swapped_bytes
    if old.descr != new.descr and not is_swapped:
        return "its type is written in another way"
    if old.is_column_major != new.is_column_major and sum(length != 1 for length in old.shape) > 1:
        return "rows come first on one side, columns on the other"
    return ""


def _differing(old: bytes, new: bytes, item_bytes: int) -> list[int]:
    code = _UNSIGNED.get(item_bytes)
    if code is not None:
        # As unsigned numbers a NaN equals itself, and 0.0 is not -0.0.
        pairs = zip(array(code, old), array(code, new), strict=True)
        return [place for place, (was, now) in enumerate(pairs) if was != now]
    starts = range(0, len(old), item_bytes)
    return [at // item_bytes for at in starts if old[at : at + item_bytes] != new[at : at + item_bytes]]


def _words(found: Array, differing: int, first: int, *, at_least: bool) -> str:
    total = found.bytes // found.item_bytes
    noun = "values" if found.is_array else "bytes"
    if total == 1:
        return "another value"
    lengths = found.shape if found.is_column_major else found.shape[::-1]
    place = []
    for length in lengths:
        first, index = divmod(first, length)
        place.append(str(index))
    where = ", ".join(place if found.is_column_major else place[::-1])
    return f"{'at least ' if at_least else ''}{differing:,} of {total:,} {noun} differ, the first at [{where}]"


def _shown(name: str) -> str:
    return cut(shown_line(name.replace("\n", "\\n").encode("utf-8", "surrogatepass")), _NAME_CHARACTERS_MAX)
