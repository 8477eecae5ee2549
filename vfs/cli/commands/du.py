"""`vfs du`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from vfs.cli.entries import entry_json, shown_name
from vfs.cli.locate import path_in
from vfs.cli.output import human_count, human_size, say_json, say_table
from vfs.cli.reach import opened
from vfs.cli.verb import Invocation, branch_option, json_option, repository_option, verb
from vfs.model.names import join_path, show_path
from vfs.model.objects import Entry, Kind
from vfs.store.directories import entries, resolve_path
from vfs.store.objectstore import ObjectSource


@verb(
    "du",
    "vfs du                          the newest version: its directories, largest first, and the sum",
    "vfs du v3 images --depth 2      two levels below a directory of version 3",
    "vfs du v3 --files               files as well as directories",
)
@click.argument("version", default="latest")
@click.argument("path", default="")
@click.option("-d", "--depth", type=click.IntRange(min=0), default=1, show_default=True, help="Levels to list.")
@click.option("-a", "--files", is_flag=True, help="List files as well.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, version: str, path: str, depth: int, files: bool, as_json: bool) -> None:
    """Show how much data a version holds, by directory, largest first.

    Sizes are those of the files' bytes, before compression and with everything that versions share counted in full;
    `vfs stats` shows what is stored. Takes no longer for a large directory than for a small one.
    """
    with opened(invocation) as at:
        source = at.repository.store
        start = path_in(at.place, path)
        entry = resolve_path(source, at.repository.resolve(version).commit.root, start).entry
        found = list(_levels(source, start, entry, depth, files=files))
        found.sort(key=lambda pair: (-pair[1].size, pair[0]))
        if as_json:
            for where, each in found:
                say_json(entry_json(where, each))
            say_json(entry_json(start, entry))
            return
        rows = [[human_size(each.size), _files(each), shown_name(each, where)] for where, each in found]
        total = show_path(start) or "all"
        say_table([*rows, [human_size(entry.size), _files(entry), total]], right=(0, 1), styles=("", "dim", ""))


def _files(entry: Entry) -> str:
    return human_count(entry.files, "file") if entry.kind == Kind.DIR else ""


def _levels(
    source: ObjectSource, path: bytes, directory: Entry, depth: int, *, files: bool
) -> Iterator[tuple[bytes, Entry]]:
    if depth == 0 or directory.kind != Kind.DIR:
        return
    for entry in entries(source, directory):
        where = join_path(path, entry.name)
        if entry.kind == Kind.DIR:
            yield where, entry
            yield from _levels(source, where, entry, depth - 1, files=files)
        elif files:
            yield where, entry
