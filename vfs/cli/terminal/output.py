"""Terminal output: lines, dates, colour and JSON; the only writer of standard output.

Control characters and undecodable bytes in names are escaped: a file's name must not control a terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_NS = 1_000_000_000

OUTPUT = "standard output"
"""The file name in errors of standard output."""


def human_time(time_ns: int) -> str:
    """Returns a time as `2026-11-01 13:00:03 +0100`, in the local zone: it can be typed as a version's name."""
    moment = _moment(time_ns)
    with suppress(OverflowError, ValueError, OSError):
        moment = moment.astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S %z")


def _moment(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns // _NS, UTC)


class _OutputMode(msgspec.Struct):
    """The colour mode of `--color`, and whether standard output goes to a terminal through a pager."""

    colour: str = "auto"
    is_paged: bool = False


_mode = _OutputMode()


def choose_colour(when: str) -> None:
    """Writes colour `always`, `never`, or (`auto`) where a stream is a terminal."""
    _mode.colour = when


@contextmanager
def in_pager() -> Iterator[None]:
    """Treats standard output as a terminal while a pager shows it on one."""
    _mode.is_paged = True
    try:
        yield
    finally:
        _mode.is_paged = False


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() or (_mode.is_paged and stream is sys.stdout)


def uses_colour(stream: TextIO) -> bool:
    """Returns True if colour is on: by `--color`; else on a terminal that is not dumb, with NO_COLOR unset."""
    if _mode.colour != "auto":
        return _mode.colour == "always"
    return _is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def style(text: str, *names: str, stream: TextIO | None = None) -> str:
    """Returns the text with the named styles where the stream (standard output) shows colour, else as it is."""
    if not names or not uses_colour(stream or sys.stdout):
        return text
    return f"\x1b[{';'.join(_STYLES[name] for name in names)}m{text}\x1b[0m"


def echo(text: str = "") -> None:
    """Writes one line to standard output. Errors name it, as those of files name their path."""
    try:
        sys.stdout.write(text + "\n")
    except OSError as error:
        raise _of_output(error) from None


def echo_raw(data: bytes | bytearray | memoryview) -> None:
    """Writes bytes to standard output as they are."""
    try:
        sys.stdout.buffer.write(data)
    except OSError as error:
        raise _of_output(error) from None


def flush_output() -> None:
    """Flushes standard output."""
    try:
        sys.stdout.flush()
    except OSError as error:
        raise _of_output(error) from None


def _of_output(error: OSError) -> OSError:
    error.filename = OUTPUT
    return error


def echo_json(value: Any) -> None:
    """Writes one JSON object on one line, as ASCII.

    Bytes of names that are no UTF-8 appear as the lone surrogates of Python's `surrogateescape`.
    """
    import json

    echo(json.dumps(value, ensure_ascii=True, separators=(", ", ": ")))


def echo_err(text: str) -> None:
    """Writes one line to standard error, which a script that reads standard output does not see.

    A closed standard error changes neither the work nor the exit status.
    """
    # On a terminal both streams are one text, so their order is kept. What standard output does not accept stays in
    # its buffer, and the next write raises the error.
    with suppress(OSError):
        sys.stdout.flush()
    with suppress(OSError):
        sys.stderr.write(text + "\n")


def warn(text: str) -> None:
    """Writes a warning to standard error."""
    echo_err(wrapped(f"{style('vfs: warning:', 'yellow', stream=sys.stderr)} {text}", stream=sys.stderr))


def wrapped(text: str, *, stream: TextIO) -> str:
    """Returns a text in lines that fit the terminal that a stream is, broken between words; else as it is."""
    if not stream.isatty():
        return text
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip(" ")))
        lines += textwrap.wrap(
            line, width, subsequent_indent=indent or "  ", break_long_words=False, break_on_hyphens=False
        ) or [line]
    return "\n".join(lines)


def terminal_width() -> int | None:
    """Returns the columns of the terminal that standard output is, or None where it is none."""
    if not _is_terminal(sys.stdout):
        return None
    import shutil

    return shutil.get_terminal_size().columns
