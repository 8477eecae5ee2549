"""`vfs ls`."""

from __future__ import annotations

import click

from vfs.api.documents import entry_document
from vfs.cli.arguments.version_or_path import split_arguments, version_of
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.display.entry_format import mode_text, shown_name
from vfs.cli.opening.locate import path_in
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.terminal.columns import echo_table
from vfs.cli.terminal.output import echo, echo_json, human_time
from vfs.formats.quantities import human_size
from vfs.model.layout import LATEST
from vfs.model.names import join_path
from vfs.model.objects import Entry, Kind
from vfs.store.trees.directories import entries, resolve_path, walk

_ROWS_AT_ONCE = 1000


@vfs_command(
    "ls",
    "vfs ls                          the newest version",
    "vfs ls v3 images                a directory of version 3",
    "vfs ls -l paper labels.csv      one file of the version tagged `paper`, with its details",
    "vfs ls -r --json v3             all files and directories, one JSON object a line",
    is_paged=True,
)
@click.argument("words", metavar="[VERSION] [PATH]", nargs=-1)
@click.option("-l", "--long", is_flag=True, help="Show mode, owner, size and time.")
@click.option("-r", "--recursive", is_flag=True, help="List everything below as well.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, words: tuple[str, ...], long: bool, recursive: bool, as_json: bool) -> None:
    """List a directory of a version, or one file of it.

    Directories end in `/`; a directory's size is that of all files below it, since a version knows it.
    """
    with open_repository(invocation) as opened:
        source = opened.repository.store
        versions, paths = split_arguments(opened, words, paths_max=1)
        root = (versions or [version_of(opened, LATEST)])[0].commit.root
        start = paths[0] if paths else path_in(opened.place, ".")
        entry = resolve_path(source, root, start).entry
        if entry.kind != Kind.DIR:
            found = iter([(start, entry)])
        elif recursive:
            found = ((where, each) for where, _, each in walk(source, entry, start))
        else:
            found = ((join_path(start, each.name), each) for each in entries(source, entry))
        rows: list[tuple[bytes, Entry]] = []
        for where, each in found:
            if as_json:
                echo_json(entry_document(where, each))
                continue
            shown = where if recursive or entry.kind != Kind.DIR else each.name
            if not long:
                echo(
                    shown_name(each, shown).partition(" -> ")[0]
                    if each.kind == Kind.SYMLINK
                    else shown_name(each, shown)
                )
                continue
            rows.append((shown, each))
            if len(rows) == _ROWS_AT_ONCE:
                _echo_long(rows)
                rows = []
        _echo_long(rows)


def _echo_long(rows: list[tuple[bytes, Entry]]) -> None:
    echo_table(
        [
            [
                mode_text(entry),
                f"{entry.uid}:{entry.gid}",
                human_size(entry.size),
                human_time(entry.mtime_ns),
                shown_name(entry, shown),
            ]
            for shown, entry in rows
        ],
        right=(1, 2),
        styles=("dim", "dim", "", "dim", ""),
        droppable=(1, 3, 0),
    )
