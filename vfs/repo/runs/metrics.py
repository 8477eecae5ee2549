"""Metrics and parameters, as programs write them: lines, JSON, `--name value`, `params.yaml`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vfs.errors import InvalidInput
from vfs.model.runs import METRICS_MAX, Metric, cut_text, metric_value

SERIES_BYTES_MAX = 32 << 20
"""Bytes of a run's metrics that are kept; of more the first ones."""
_NAME_MAX = 200
_PAIR = re.compile(r"([^\s=,;:]{1,200})\s{0,8}[=:]\s{0,8}([^\s,;]{1,100})")
_LINE_MAX = 65_536
"""Characters of a line that are searched for pairs."""
_OPTION = re.compile(r"--([A-Za-z][\w.-]*)(?:=(.*))?", re.DOTALL)
_STEP = frozenset({"step", "epoch", "iteration"})
_DEPTH_MAX = 16


def read_lines(data: bytes) -> tuple[dict[str, Metric], bytes]:
    """Returns the last value of each metric, and all lines as JSON, one object a line.

    A line is a JSON object, or pairs such as `accuracy=0.93 loss=0.2`. Lines of no metric are passed over.
    """
    last: dict[str, Metric] = {}
    series = bytearray()
    for line in data[:SERIES_BYTES_MAX].decode("utf-8", "replace").splitlines():
        values = dict(_values(line))
        if not values:
            continue
        series += json.dumps(values, sort_keys=True).encode() + b"\n"
        for name, value in values.items():
            if name not in _STEP and (name in last or len(last) < METRICS_MAX):
                last[name] = value
    return last, bytes(series)


def _values(line: str) -> Iterator[tuple[str, Metric]]:
    text = line.strip()
    if text.startswith("{"):
        try:
            yield from flat(json.loads(text))
            return
        except (ValueError, RecursionError):
            pass
    for name, value in _PAIR.findall(text[:_LINE_MAX]):
        metric = metric_value(value)
        if metric is not None:
            yield name[:_NAME_MAX], metric


def read_document(data: bytes, name: str) -> dict[str, Metric]:
    """Returns the numbers in a JSON document, nested names joined by dots. Raises InvalidInput for another file."""
    try:
        found = json.loads(data)
        values = dict(flat(found))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{name} is no JSON document: {error}", hint='Write metrics as {"accuracy": 0.93}.'
        ) from None
    return dict(list(values.items())[:METRICS_MAX])


def flat(value: Any, above: str = "", depth: int = 0) -> Iterator[tuple[str, Metric]]:
    """Yields the numbers of a decoded document with their names."""
    if isinstance(value, Mapping) and depth < _DEPTH_MAX:
        for name, below in value.items():
            yield from flat(below, f"{above}.{name}" if above else str(name), depth + 1)
    elif above and (metric := metric_value(value)) is not None and not isinstance(value, (list, bytes)):
        yield above[:_NAME_MAX], metric


def options_of(command: Sequence[str]) -> dict[str, str]:
    """Returns the options of a command that are like parameters: `--lr 0.01`, `--lr=0.01`, `--shuffle` (true)."""
    found: dict[str, str] = {}
    for place, word in enumerate(command[1:], 1):
        if word == "--":
            break
        option = _OPTION.fullmatch(word)
        if option is None or len(found) >= METRICS_MAX:
            continue
        following = command[place + 1] if place + 1 < len(command) else "-"
        value = option[2] if option[2] is not None else following if not _is_option(following) else "true"
        found[option[1][:_NAME_MAX]] = cut_text(value)
    return found


def _is_option(word: str) -> bool:
    return word.startswith("-") and metric_value(word) is None


def read_params(text: str) -> dict[str, str]:
    """Returns the scalars of a `params.yaml`, nested names joined by dots: block mappings alone, lists are left out."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        bare = line.split(" #", 1)[0].rstrip()
        if not bare.strip() or bare.lstrip().startswith(("#", "-")):
            continue
        indent = len(bare) - len(bare.lstrip())
        name, colon, value = bare.strip().partition(":")
        if not colon:
            continue
        while above and above[-1][0] >= indent:
            above.pop()
        path = ".".join([*(part for _, part in above), name.strip("'\" ")])
        if value.strip():
            if len(found) < METRICS_MAX:
                found[path[:_NAME_MAX]] = cut_text(value.strip().strip("'\""))
        else:
            above.append((indent, name.strip("'\" ")))
    return found
