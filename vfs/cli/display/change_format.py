"""Changed paths as text, one line each; an added, removed or moved directory is one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from vfs.cli.terminal.columns import echo_table
from vfs.cli.terminal.output import echo, echo_json, style
from vfs.formats.quantities import human_count, human_size
from vfs.history.change_totals import Totals
from vfs.history.diff import FileCounts, file_bytes
from vfs.history.renames import AnyChange, Rename
from vfs.model.names import show_path
from vfs.model.objects import Entry, Kind

_LETTERS = {
    "added": ("A", "green"),
    "modified": ("M", "yellow"),
    "removed": ("D", "red"),
    "renamed": ("R", "cyan"),
}
_WIDTH_MAX = 60
_ROWS_AT_ONCE = 500


def totals_text(totals: Totals) -> str:
    """Returns `2 added, 1 modified; 300 B → 1.2 MiB`: the bytes of these paths before and after."""
    parts = [
        f"{count:,} {word}"
        for count, word in (
            (totals.added, "added"),
            (totals.modified, "modified"),
            (totals.removed, "removed"),
            (totals.renamed, "renamed"),
        )
        if count
    ]
    if not parts:
        return "no differences"
    text = ", ".join(parts)
    if totals.new_bytes != totals.old_bytes:
        text += f"; {human_size(totals.old_bytes)} → {human_size(totals.new_bytes)}"
    return text


def counts_text(counts: FileCounts) -> str:
    """Returns `Files: 1 added, 150 removed`."""
    parts = [f"{count:,} {word}" for word, count in counts._asdict().items() if count]
    return "Files: " + (", ".join(parts) or "none changed")


class _Line(msgspec.Struct):
    """One line: a changed path, or a whole directory that was added or removed."""

    change: AnyChange
    files: int = 0
    size: int = 0


def echo_changes(
    changes: Iterable[AnyChange], *, indent: str = "", whole: bool = False, lines_max: int | None = None
) -> None:
    """Writes one line a change in their order, at most `lines_max`.

    The contents of an added or removed directory are summed up in its line unless `whole`.
    """
    rows: list[_Line] = []
    for line in islice(_lines(changes, whole=whole), lines_max):
        rows.append(line)
        if len(rows) == _ROWS_AT_ONCE:
            _echo_rows(rows, indent)
            rows = []
    _echo_rows(rows, indent)


def echo_stat(changes: Iterable[AnyChange], totals: Totals, *, as_json: bool) -> None:
    """Writes counts of files and bytes before and after by the directory that they are in, then the sum of all.

    Directories are not counted; one that moved is listed under its new path with its files.
    """
    found: dict[bytes, Totals] = {}
    for change in changes:
        if not change.is_directory:
            found.setdefault(change.path.rpartition(b"/")[0], Totals()).add(change)
        elif isinstance(change, Rename):
            moved = found.setdefault(change.path, Totals())
            moved.add(change)
            moved.renamed += change.new.files - 1
    if as_json:
        from vfs.api.documents import totals_document

        for path, sums in sorted(found.items()):
            echo_json(totals_document(path, sums))
        return
    echo_table([[show_path(path) + "/" if path else "./", totals_text(sums)] for path, sums in sorted(found.items())])
    if totals:
        echo(style(totals_text(totals), "bold"))


def _lines(changes: Iterable[AnyChange], *, whole: bool) -> Iterator[_Line]:
    open_line: _Line | None = None
    # Other changes in an added or removed directory, shown behind its line.
    inner: list[_Line] = []
    for change in changes:
        if open_line is not None:
            if change.path.startswith(open_line.change.path + b"/") or not open_line.change.path:
                if change.kind != open_line.change.kind:
                    inner.append(_Line(change))
                elif not change.is_directory:
                    open_line.files += 1
                    open_line.size += file_bytes(change.new) + file_bytes(change.old)
                continue
            yield open_line
            yield from inner
            open_line, inner = None, []
        if change.is_directory and change.kind in ("added", "removed") and not whole:
            open_line = _Line(change)
        else:
            yield _Line(change)
    if open_line is not None:
        yield open_line
        yield from inner


def _echo_rows(rows: list[_Line], indent: str) -> None:
    shown = [_shown_path(row.change) for row in rows]
    width = min(max((len(text) for text in shown), default=0), _WIDTH_MAX)
    for row, text in zip(rows, shown, strict=True):
        letter, colour = _LETTERS[row.change.kind]
        detail = _detail(row)
        echo(
            f"{indent}{style(letter, colour)}  {text.ljust(width) if detail else text}  {style(detail, 'dim')}".rstrip()
        )


def _shown_path(change: AnyChange) -> str:
    mark = "/" if change.is_directory else ""
    text = show_path(change.path) + mark
    return f"{show_path(change.old_path)}{mark} → {text}" if isinstance(change, Rename) else text


def _detail(row: _Line) -> str:
    change = row.change
    if isinstance(change, Rename):
        if change.is_directory:
            return f"{human_count(change.new.files, 'file')}, {human_size(change.new.size)}"
        # Rounded down: files that differ are never shown as 100 % the same.
        alike = f", {int(change.similarity * 100)}% the same" if change.similarity < 1 else ""
        return human_size(change.new.size) + alike
    if change.kind != "modified":
        if change.is_directory:
            return f"{human_count(row.files, 'file')}, {human_size(row.size)}" if row.files else ""
        entry = change.new if change.new is not None else change.old
        if entry is None or entry.kind == Kind.FILE:
            return human_size(entry.size) if entry is not None else ""
        return _kind(entry)
    if change.old is None or change.new is None:
        return ""
    if change.old.kind != change.new.kind:
        return f"{_kind(change.old)} → {_kind(change.new)}"
    aspects: list[str] = [aspect for aspect in change.aspects if aspect not in ("content", "mtime")]
    if "content" in change.aspects and change.new.kind == Kind.FILE:
        aspects.insert(0, _size_change(change.old.size, change.new.size))
    if "content" in change.aspects and change.new.kind == Kind.SYMLINK:
        aspects.insert(0, f"{show_path(change.old.content)} → {show_path(change.new.content)}")
    return ", ".join(aspects) if aspects else ", ".join(change.aspects)


def _size_change(old_bytes: int, new_bytes: int) -> str:
    old, new = human_size(old_bytes), human_size(new_bytes)
    if old != new:
        return f"{old} → {new}"
    if old_bytes == new_bytes:
        return new
    sign = "+" if new_bytes > old_bytes else "-"
    return f"{new} ({sign}{human_size(abs(new_bytes - old_bytes))})"


def _kind(entry: Entry) -> str:
    from vfs.api.documents import kind_name

    return kind_name(entry)
