"""Aligned columns that fit the terminal, by the display width of characters."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from vfs.cli.terminal.output import echo, style, terminal_width

LAST_MIN = 20
"""Least characters of the last column; other columns are left out before it gets fewer."""
NAME_MAX = 30
"""Characters of an author's name that lists show."""


def display_width(text: str) -> int:
    """Returns how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def cut(text: str, width: int) -> str:
    """Returns a text that takes at most so many columns of a terminal, its end replaced by `…` where it is longer."""
    if display_width(text) <= width:
        return text
    kept = ""
    width_left = width - 1
    for each in text:
        width_left -= display_width(each)
        if width_left < 0:
            break
        kept += each
    return kept + "…"


def columns(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[list[str]]:
    """Returns the rows with each column but the last padded to its widest cell; those in `right` align right."""
    if not rows:
        return []
    aligned = set(right)
    widths = _widths(rows)
    last = len(widths) - 1
    return [
        [
            cell if i == last and i not in aligned else _padded(cell, widths[i], i in aligned)
            for i, cell in enumerate(row)
        ]
        for row in rows
    ]


def fitting(
    rows: Sequence[Sequence[str]], width: int | None, droppable: Sequence[int], *, last_min: int = LAST_MIN
) -> list[int]:
    """Returns the columns that are shown: all, or without the first ones of `droppable` where all are too wide.

    The last one counts with at most `last_min` characters: it can be cut.
    """
    kept = list(range(len(rows[0]))) if rows else []
    widths = _widths(rows)
    for column in droppable:
        if width is None or not kept:
            break
        if sum(widths[i] + 2 for i in kept[:-1]) + min(widths[kept[-1]], last_min) <= width:
            break
        kept.remove(column)
    return kept


def echo_table(
    rows: Sequence[Sequence[str]],
    *,
    right: Iterable[int] = (),
    styles: Sequence[str] = (),
    droppable: Sequence[int] = (),
) -> None:
    """Writes rows as aligned columns, two spaces apart; `styles` names one style a column, empty for none.

    On a terminal that is too narrow the columns of `droppable` are left out, the first one first, and then the last
    column is cut with `…`, but never below 20 characters.
    """
    width = terminal_width()
    kept = fitting(rows, width, droppable)
    aligned = {place for place, column in enumerate(kept) if column in set(right)}
    named = [styles[column] if column < len(styles) else "" for column in kept]
    for row in columns([[row[column] for column in kept] for row in rows], aligned):
        echo(styled(row, named, width))


def styled(row: list[str], styles: Sequence[str], width: int | None) -> str:
    """Returns padded cells as one line, the last one cut where a width is given."""
    if width is not None:
        taken = sum(display_width(cell) + 2 for cell in row[:-1])
        row[-1] = cut(row[-1], max(width - taken, LAST_MIN))
    return "  ".join(style(cell, name) if name else cell for cell, name in zip(row, styles, strict=True)).rstrip()


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(display_width(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []


def _padded(cell: str, width: int, to_the_right: bool) -> str:
    padding = " " * (width - display_width(cell))
    return padding + cell if to_the_right else cell + padding
