"""Metrics that a program reports: lines `name=0.93` or `name: 0.93`, JSON objects a line, or one JSON document.

The bytes come from the program that runs, so nothing of them is trusted: sizes, depths and counts are bounded, and what
is no metric is counted and skipped.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from vfs.model.decoding import UNDECODABLE

METRICS_BYTES_MAX = 16 << 20
"""What is read of a file of metrics, at most: the end of it, where the newest values are."""
NAME_CHARACTERS_MAX = 200
NAMES_MAX = 1000
POINTS_MAX = 100_000
_DEPTH_MAX = 16
LINE_BYTES_MAX = 1 << 20
"""Longest line that is read as one; a JSON document in a file of its own may be longer."""
_STEP = "step"
_STEPS = (_STEP, "epoch", "iteration")
_STEP_MAX = 2**53

# A pair begins where a word does, and no part of it is tried twice: the time is linear in the line.
_PAIR = re.compile(r"(?<![^\s,;])(?:([^\s=,;]++)\s*+=|([^\s=,;:]++)\s*+:)\s*+([^\s,;]++)")
_NUMBER = re.compile(r"[+-]?(\d++(_\d++)*+\.?\d*+|\.\d++)([eE][+-]?\d++)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)


class Point(NamedTuple):
    """One value of a metric; `step` is the program's own count (an epoch), None where it gave none."""

    name: str
    value: float
    step: int | None = None


class Metrics(NamedTuple):
    """What was reported, in its order. `last`: each metric's newest value, also of points beyond the limit.

    `refused`: how many lines or values were no metric, or beyond a limit. Values may be infinite or no number (`nan`):
    a diverged loss is a result too.
    """

    points: list[Point]
    last: dict[str, float]
    refused: int = 0

    def lines(self) -> bytes:
        """Returns the points as JSON objects a line, those of one step together; infinite ones as texts."""
        lines: list[dict[str, float | int | str]] = []
        step: int | None = None
        for point in self.points:
            if not lines or point.name in lines[-1] or point.step != step:
                step = point.step
                lines.append({_STEP: step} if step is not None else {})
            lines[-1][point.name] = point.value if math.isfinite(point.value) else str(point.value)
        return "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode()


def parse_metrics(data: bytes) -> Metrics:
    """Returns the metrics in the bytes of a file; never raises.

    A file that is one JSON object gives its numbers, those of nested objects as `outer.inner` (as `metrics.json` of
    many tools). Else each line is a JSON object or pairs `name=value` or `name: value`, separated by spaces or commas;
    a pair `step` (else `epoch`, else `iteration`) numbers the others of its line. True and False count 1 and 0. Of more
    than `METRICS_BYTES_MAX` bytes the last ones count, from a whole line on.
    """
    if len(data) > METRICS_BYTES_MAX:
        data = data[-METRICS_BYTES_MAX:].partition(b"\n")[2]
    reader = _Reader()
    document = _decoded(data)
    if isinstance(document, dict):
        reader.add_object(document)
    else:
        for line in data.splitlines():
            reader.add_line(line.strip())
    return Metrics(reader.points, reader.last, reader.refused)


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except UNDECODABLE:
        return None


class _Reader:
    def __init__(self) -> None:
        self.points: list[Point] = []
        self.last: dict[str, float] = {}
        self.refused = 0

    def add_line(self, line: bytes) -> None:
        if not line or line.startswith(b"#"):
            return
        if line.startswith(b"{"):
            found = _decoded(line)
            if isinstance(found, dict) and len(line) <= LINE_BYTES_MAX:
                self.add_object(found)
            else:
                self.refused += 1
            return
        text = line[:LINE_BYTES_MAX].decode("utf-8", "replace")
        pairs = [(name or other, value) for name, other, value in _PAIR.findall(text)]
        if not pairs or _PAIR.sub("", text).strip(" \t,;"):
            self.refused += 1
            return
        self._add([(name, float(value) if _NUMBER.fullmatch(value) else None) for name, value in pairs])

    def add_object(self, value: dict[str, Any]) -> None:
        self._add(list(_numbers(value, "", 0)))

    def _add(self, pairs: list[tuple[str, float | None]]) -> None:
        given = {name: value for name, value in pairs if value is not None and abs(value) <= _STEP_MAX}
        counter = next((name for name in _STEPS if name in given), "")
        step = int(given[counter]) if counter else None
        for name, value in pairs:
            if name == counter and len(pairs) > 1:
                continue
            is_name = 0 < len(name) <= NAME_CHARACTERS_MAX and name.isprintable()
            if value is None or not is_name or (name not in self.last and len(self.last) >= NAMES_MAX):
                self.refused += 1
                continue
            self.last[name] = value
            if len(self.points) < POINTS_MAX:
                self.points.append(Point(name, value, step))
            else:
                self.refused += 1


def _numbers(value: dict[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, float | None]]:
    """Yields the numbers of an object by their dotted names; None for what is no number, once for each."""
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, dict) and depth < _DEPTH_MAX:
            yield from _numbers(item, f"{name}.", depth + 1)
        elif isinstance(item, int | float):
            try:
                yield name, float(item)
            except OverflowError:
                yield name, None
        elif isinstance(item, str) and _NUMBER.fullmatch(item):
            yield name, float(item)
        else:
            yield name, None
