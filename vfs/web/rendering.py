"""Documents as HTML: the templates, and the words and pictures that they use. The only importer of `jinja2`."""

from __future__ import annotations

import functools
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from vfs.api.views.file_views import shown_as
from vfs.web.page_addresses import HEX_FIELD, address

STATIC = Path(__file__).with_name("static")
_TEMPLATES = Path(__file__).with_name("templates")
_LANE = 14
_ROW = 44
_BREAKS = {ord(letter): repr(letter)[1:-1] for letter in "\n\r\t\v\f\x85\u2028\u2029"}
_HIDDEN = {*range(32), 127, *range(0x202A, 0x202F), *range(0x2066, 0x206A)} - {ord(letter) for letter in "\n\r\t"}
"""Control characters, and those that turn the direction of a text: with them a name can look like another one."""
_ESCAPES = {number: repr(chr(number))[1:-1] for number in _HIDDEN}
_UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB", "EB")


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
    )
    environment.filters.update(size=size, count=count, when=when, parts=path_parts, folder=folder, signed=signed)
    environment.filters["as_filter"] = _as_filter
    environment.filters.update(commands=commands, one_line=one_line, figure=figure)
    environment.tests["picture"] = _is_picture
    environment.globals.update(path_field=path_field, link=link, address=address, graph=graph, bars=bars, chart=chart)
    return environment


def compile_templates() -> None:
    """Compiles all templates, so that the first page does not wait for it."""
    environment = _environment()
    for name in environment.list_templates():
        environment.get_template(name)


def render(template: str, **values: Any) -> bytes:
    """Returns a page; characters of names that are no UTF-8 appear as escapes."""
    return _environment().get_template(template).render(**values).encode("utf-8", "backslashreplace")


def _visible(value: Any) -> Any:
    """Returns a text with escapes for characters that show nothing, or turn around what is behind them."""
    return value.translate(_ESCAPES) if isinstance(value, str) and not hasattr(value, "__html__") else value


def one_line(name: str) -> str:
    """Returns a file's name with escapes for breaks of lines."""
    return name.translate(_BREAKS)


def figure(value: Any) -> str:
    """Returns a metric or a parameter as people read it: numbers with six digits."""
    if value is None:
        return "—"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def link(page: str, **values: str | int | None) -> str:
    """Returns the address of a page."""
    return address(page, values.items())


def size(number: int) -> str:
    """Returns a number of bytes as people read it: `1.5 MB`."""
    value = float(number)
    for unit in _UNITS:
        if abs(value) < 1000 or unit == _UNITS[-1]:
            return f"{int(value):,} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return ""


def count(number: int) -> str:
    """Returns a count with separators."""
    return f"{number:,}"


def signed(number: int, what: str = "") -> str:
    """Returns a difference with its sign; of bytes, as a size."""
    sign = "+" if number > 0 else "\u2212" if number < 0 else "±"
    return sign + (size(abs(number)) if what == "size" else count(abs(number)))


def when(iso: str) -> str:
    """Returns a time as `2026-11-01 13:00`, in the local zone."""
    moment = datetime.fromisoformat(iso)
    try:
        return moment.astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return iso[:16].replace("T", " ")


def commands(text: str) -> list[tuple[str, bool]]:
    """Returns the parts of a sentence, each with whether it is a command, which stands between backticks."""
    return [(part, at % 2 == 1) for at, part in enumerate(text.split("`")) if part]


def path_parts(path: str) -> list[tuple[str, str]]:
    """Returns the names on the way to a path, each with the path up to it."""
    names = [name for name in path.split("/") if name]
    return [(name, "/".join(names[: at + 1])) for at, name in enumerate(names)]


def path_field(path: str) -> tuple[str, str]:
    """Returns name and value of the field by which a form sends a path."""
    data = os.fsencode(path)
    is_plain = path.isprintable() and data == path.encode("utf-8", "replace")
    return ("path", path) if is_plain else (f"path{HEX_FIELD}", data.hex())


def folder(path: str) -> str:
    """Returns the directory that a path is in."""
    return os.path.dirname(path)


def _as_filter(text: str) -> tuple[str, str]:
    return ("f", text)


def _is_picture(name: str) -> bool:
    return shown_as(os.fsencode(name)) == "image"


def graph(row: dict[str, Any], lanes: int) -> dict[str, Any]:
    """Returns a row of the history's graph in pixels: lines as SVG paths with their lane, the dot, the width."""
    middle = _ROW / 2

    def at(lane: int) -> int:
        return lane * _LANE + 9

    lines = [
        (f"M{at(top)} 0 V{middle}" if top == low else _curve(at(top), 0, at(low), middle), low)
        for top, low in row["above"]
    ]
    lines += [
        (f"M{at(top)} {middle} V{_ROW}" if top == low else _curve(at(top), middle, at(low), _ROW), low)
        for top, low in row["below"]
    ]
    return {
        "lines": lines,
        "x": at(row["lane"]),
        "y": middle,
        "width": lanes * _LANE + 6,
        "height": _ROW,
        "lane": row["lane"],
    }


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    half = (y + to_y) / 2
    return f"M{x} {y} C{x} {half} {to_x} {half} {to_x} {to_y}"


def bars(histogram: dict[str, Any], width: int, height: int) -> list[dict[str, Any]]:
    """Returns the bars of a histogram of numbers in pixels."""
    most = max((bar["rows"] for bar in histogram["bars"]), default=0) or 1
    step = width / max(len(histogram["bars"]), 1)
    return [
        {
            **bar,
            "x": round(at * step, 2),
            "width": round(max(step - 1, 1), 2),
            "height": round(max(bar["rows"] / most * height, 1 if bar["rows"] else 0), 2),
        }
        for at, bar in enumerate(histogram["bars"])
    ]


def chart(curves: list[dict[str, Any]], width: int, height: int) -> dict[str, Any]:
    """Returns curves of one metric in pixels, with rules and the ends of the axes."""
    points = [point for curve in curves for point in curve["points"]]
    steps, values = [point[0] for point in points], [point[1] for point in points]
    start, end, low, high = min(steps), max(steps), min(values), max(values)
    # Halves: the span of two numbers may be none.
    across, up = (end / 2 - start / 2) or 1.0, high / 2 - low / 2

    def at(point: tuple[float, float]) -> str:
        down = (high / 2 - point[1] / 2) / up if up else 0.5
        return f"{65 + (point[0] / 2 - start / 2) / across * width:.1f},{10 + down * height:.1f}"

    lines = [{**curve, "count": len(curve["points"]), "points": " ".join(map(at, curve["points"]))} for curve in curves]
    # A curve that never changes has one number, in the middle.
    parts = [(part, high * (1 - part / 4) + low * (part / 4)) for part in range(5)] if up else [(2, low)]
    rows = [(round(10 + height * part / 4, 1), f"{value:.3g}") for part, value in parts]
    return {
        "lines": lines,
        "rows": rows,
        "start": f"{start:g}",
        "end": f"{end:g}",
        "low": f"{low:g}",
        "high": f"{high:g}",
    }
