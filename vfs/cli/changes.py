"""How changed paths are shown: one line each with an added or removed directory as one, and one JSON object each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from vfs.cli.entries import entry_json, kind_word
from vfs.cli.output import human_count, human_size, say, style
from vfs.history.diff import PathChange
from vfs.model.names import path_text, show_path
from vfs.model.objects import Entry, Kind

_LETTERS = {"added": ("A", "green"), "modified": ("M", "yellow"), "removed": ("D", "red")}
_WIDTH_MAX = 60
_ROWS_AT_ONCE = 500


@dataclass(slots=True)
class Totals:
    """Sums over changes: paths by kind of change, and the bytes of the regular files among them."""

    added: int = 0
    modified: int = 0
    removed: int = 0
    new_bytes: int = 0
    old_bytes: int = 0

    def add(self, change: PathChange) -> None:
        """Counts one change."""
        if change.kind == "added":
            self.added += 1
        elif change.kind == "modified":
            self.modified += 1
        else:
            self.removed += 1
        self.new_bytes += _file_bytes(change.new)
        self.old_bytes += _file_bytes(change.old)

    def __bool__(self) -> bool:
        return bool(self.added or self.modified or self.removed)

    def words(self) -> str:
        """Returns `2 added, 1 modified; 300 B → 1.2 MiB`: the bytes of these paths before and after."""
        parts = [
            f"{count:,} {word}"
            for count, word in ((self.added, "added"), (self.modified, "modified"), (self.removed, "removed"))
            if count
        ]
        if not parts:
            return "no differences"
        text = ", ".join(parts)
        if self.new_bytes != self.old_bytes:
            text += f"; {human_size(self.old_bytes)} → {human_size(self.new_bytes)}"
        return text


@dataclass(slots=True)
class _Line:
    """One line to be: a changed path, or a whole directory that came or went."""

    change: PathChange
    files: int = 0
    size: int = 0


def counted(changes: Iterable[PathChange], totals: Totals) -> Iterator[PathChange]:
    """Yields the changes and counts them on the way."""
    for change in changes:
        totals.add(change)
        yield change


def say_changes(
    changes: Iterable[PathChange], *, indent: str = "", whole: bool = False, lines_max: int | None = None
) -> None:
    """Writes one line a change in their order, at most `lines_max`.

    What is in an added or removed directory is summed up in the directory's line unless `whole`.
    """
    rows: list[_Line] = []
    for line in islice(_lines(changes, whole=whole), lines_max):
        rows.append(line)
        if len(rows) == _ROWS_AT_ONCE:
            _say_rows(rows, indent)
            rows = []
    _say_rows(rows, indent)


def _lines(changes: Iterable[PathChange], *, whole: bool) -> Iterator[_Line]:
    open_line: _Line | None = None
    for change in changes:
        if open_line is not None:
            inside = change.path.startswith(open_line.change.path + b"/") or not open_line.change.path
            if inside and change.kind == open_line.change.kind:
                if not change.is_directory:
                    open_line.files += 1
                    open_line.size += _file_bytes(change.new) + _file_bytes(change.old)
                continue
            yield open_line
            open_line = None
        if change.is_directory and change.kind != "modified" and not whole:
            open_line = _Line(change)
        else:
            yield _Line(change)
    if open_line is not None:
        yield open_line


def _say_rows(rows: list[_Line], indent: str) -> None:
    shown = [show_path(row.change.path) + ("/" if row.change.is_directory else "") for row in rows]
    width = min(max((len(text) for text in shown), default=0), _WIDTH_MAX)
    for row, text in zip(rows, shown, strict=True):
        letter, colour = _LETTERS[row.change.kind]
        detail = _detail(row)
        say(
            f"{indent}{style(letter, colour)}  {text.ljust(width) if detail else text}  {style(detail, 'dim')}".rstrip()
        )


def _detail(row: _Line) -> str:
    change = row.change
    if change.kind != "modified":
        if change.is_directory:
            return f"{human_count(row.files, 'file')}, {human_size(row.size)}" if row.files else ""
        entry = change.new if change.new is not None else change.old
        if entry is None or entry.kind == Kind.FILE:
            return human_size(entry.size) if entry is not None else ""
        return kind_word(entry)
    if change.old is None or change.new is None:
        return ""
    if change.old.kind != change.new.kind:
        return f"{kind_word(change.old)} → {kind_word(change.new)}"
    aspects: list[str] = [aspect for aspect in change.aspects if aspect not in ("content", "mtime")]
    if "content" in change.aspects and change.new.kind == Kind.FILE:
        aspects.insert(0, _size_change(change.old.size, change.new.size))
    return ", ".join(aspects) if aspects else ", ".join(change.aspects)


def _size_change(old_bytes: int, new_bytes: int) -> str:
    old, new = human_size(old_bytes), human_size(new_bytes)
    if old != new:
        return f"{old} → {new}"
    if old_bytes == new_bytes:
        return new
    sign = "+" if new_bytes > old_bytes else "-"
    return f"{new} ({sign}{human_size(abs(new_bytes - old_bytes))})"


def _file_bytes(entry: Entry | None) -> int:
    return entry.size if entry is not None and entry.kind == Kind.FILE else 0


def change_json(change: PathChange) -> dict[str, Any]:
    """Returns a change as JSON values: path, change, type, what (of a modified path), old and new entry or null."""
    entry = change.new if change.new is not None else change.old
    return {
        "path": path_text(change.path),
        "change": change.kind,
        "type": kind_word(entry) if entry is not None else None,
        "what": list(change.aspects),
        "old": _side(change.path, change.old),
        "new": _side(change.path, change.new),
    }


def _side(path: bytes, entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    value = entry_json(path, entry)
    del value["path"]
    return value
