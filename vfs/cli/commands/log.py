"""`vfs log`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import click

from vfs.cli.locate import path_in
from vfs.cli.output import human_count, human_size, human_time, note, say, say_json, say_table, terminal_width
from vfs.cli.reach import Opened, opened, tags_by_commit
from vfs.cli.verb import Invocation, branch_option, json_option, repository_option, verb
from vfs.cli.versions import first_line, safe_text, short_id, version_json
from vfs.errors import NotADirectory, NotFound
from vfs.history.walk import first_parents
from vfs.model.names import show_path
from vfs.model.objects import Entry, Version
from vfs.store.directories import resolve_path

_ROWS_AT_ONCE = 500
"""Rows that share the widths of their columns: all that most histories have, and soon enough for a pipe."""
_WIDE = 110
"""Columns of a terminal that have room for numbers beside the message."""


@verb(
    "log",
    "vfs log                         every version, newest first",
    "vfs log -n 5 labels.csv         the last five versions that changed labels.csv",
    "vfs log --json | jq -r .id      for programs: one JSON object a line",
)
@click.argument("path", required=False)
@click.option("-n", "--max-count", type=click.IntRange(min=1), help="Stop after this many versions.")
@click.option("--full", is_flag=True, help="Show whole messages and whole ids.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, path: str | None, max_count: int | None, full: bool, as_json: bool) -> None:
    """List the versions, newest first; with PATH only those that changed it.

    With --json one object a line: version, id, parents, time (UTC), author, message, files, size, tags.
    """
    with opened(invocation) as at:
        newest = at.repository.head()
        if newest is None:
            if not as_json:
                note(
                    "Nothing is committed yet. Make the first version with `vfs commit -m MESSAGE` or `vfs import DIR`."
                )
            return
        versions = first_parents(at.repository.store, newest.id)
        if path is not None:
            versions = _that_changed(at, versions, path_in(at.place, path))
        versions = islice(versions, max_count)
        tags = tags_by_commit(at.repository)
        if as_json:
            for version in versions:
                say_json(version_json(version, tags))
        elif full:
            for version in versions:
                _say_full(version, tags.get(version.id, []))
        else:
            while rows := [_row(version, tags.get(version.id, [])) for version in islice(versions, _ROWS_AT_ONCE)]:
                _say_rows(rows)


def _row(version: Version, tags: list[str]) -> list[str]:
    commit = version.commit
    named = f"({', '.join(tags)}) " if tags else ""
    return [
        version.name,
        short_id(version.id),
        human_time(commit.time_ns),
        safe_text(commit.author),
        human_count(commit.root.files, "file"),
        human_size(commit.root.size),
        named + first_line(commit.message),
    ]


def _say_rows(rows: list[list[str]]) -> None:
    width = terminal_width()
    styles = ["yellow", "dim", "", "cyan", "dim", "dim", ""]
    right: tuple[int, ...] = (4, 5)
    if width is not None and width < _WIDE:
        rows = [[*row[:4], row[6]] for row in rows]
        styles, right = [*styles[:4], ""], ()
    say_table(rows, right=right, styles=styles, width=width)


def _say_full(version: Version, tags: list[str]) -> None:
    commit = version.commit
    say(f"{version.name}  {version.id.hex()}" + (f"  ({', '.join(tags)})" if tags else ""))
    say(f"    {human_time(commit.time_ns)} UTC  {safe_text(commit.author)}")
    say(f"    {human_count(commit.root.files, 'file')}, {human_size(commit.root.size)}")
    say()
    for line in safe_text(commit.message).splitlines():
        say(f"    {line}".rstrip())
    say()


def _that_changed(at: Opened, versions: Iterator[Version], path: bytes) -> Iterator[Version]:
    """Yields the versions whose entry at a path differs from the version before; raises NotFound if none has it."""
    newer: Version | None = None
    newer_entry: Entry | None = None
    found = False
    for version in versions:
        entry = _entry_at(at, version, path)
        found = found or entry is not None
        if newer is not None and entry != newer_entry:
            yield newer
        newer, newer_entry = version, entry
    if newer is not None and newer_entry is not None:
        yield newer
    if not found:
        raise NotFound(f"no version has {show_path(path)}", hint="`vfs ls latest` lists what the newest version has.")


def _entry_at(at: Opened, version: Version, path: bytes) -> Entry | None:
    try:
        return resolve_path(at.repository.store, version.commit.root, path).entry
    except (NotFound, NotADirectory):
        return None
