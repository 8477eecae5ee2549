"""Patterns for paths: `*` and `?` within a name, `[…]` for a letter, `**` for any directories."""

from __future__ import annotations

import re
from collections.abc import Callable

_SPECIAL = re.compile(r"[*?\[]")


def compiled(pattern: str) -> tuple[str, Callable[[str], bool]]:
    """Returns the directory that all matches are below, and what tells whether a path matches."""
    parts = [part for part in pattern.split("/") if part and part != "."]
    fixed = []
    for part in parts[:-1]:
        if _SPECIAL.search(part):
            break
        fixed.append(part)
    expression = re.compile("".join(_expressions(parts)) + r"\Z", re.DOTALL)
    return "/".join(fixed), lambda path: expression.match(path) is not None


def _expressions(parts: list[str]) -> list[str]:
    found = []
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        if part == "**":
            found.append(".+" if is_last else "(?:[^/]+/)*")
        else:
            found.append(_name(part) + ("" if is_last else "/"))
    return found


def _name(part: str) -> str:
    pieces = re.split(r"(\*+|\?|\[!?\]?[^\]]*\])", part)
    return "".join(map(_piece, pieces))


def _piece(piece: str) -> str:
    if piece.startswith("*"):
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    if len(piece) > 2 and piece.startswith("[") and piece.endswith("]"):
        inside = piece[1:-1].replace("\\", r"\\").replace("^", r"\^").replace("[", r"\[")
        return f"(?!/)[^{inside[1:]}]" if inside.startswith("!") else f"(?!/)[{inside}]"
    return re.escape(piece)
