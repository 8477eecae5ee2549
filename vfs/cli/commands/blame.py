"""`vfs blame`."""

from __future__ import annotations

import click

from vfs.api.blame import blamed
from vfs.api.documents import blamed_document
from vfs.cli.arguments.version_or_path import split_arguments, version_of
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.display.version_format import author_cell, short_id
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.terminal.columns import echo_table
from vfs.cli.terminal.output import echo_json, human_time
from vfs.errors import Unsupported
from vfs.formats.detail import MissingExtra
from vfs.model.layout import LATEST
from vfs.model.names import show_path


@vfs_command(
    "blame",
    "vfs blame notes.txt                    which version added each line",
    "vfs blame labels.csv --key file        which version added each row, at any position: the key names it",
    "vfs blame v7 labels.csv                as it was in version 7; --at v7 means the same",
    "vfs blame table.parquet --json         for programs: one JSON object a row",
    is_paged=True,
)
@click.argument("words", metavar="[VERSION] PATH", nargs=-1, required=True)
@click.option("--at", "at_version", metavar="VERSION", help="The file as it is in this version, too.")
@click.option("--key", metavar="COLUMN", help="Follow the rows of CSV, TSV, JSON Lines or Parquet by this column.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation, words: tuple[str, ...], at_version: str | None, key: str | None, as_json: bool
) -> None:
    """Show which version added each line of a text, or each row of a table.

    Renames are followed. Lines that a merge added are the merge's. Reads the file in the versions that changed it,
    until the version of every line is found.
    """
    with open_repository(invocation) as opened:
        words = words if at_version is None else (at_version, *words)
        versions, paths = split_arguments(opened, words, paths_max=1, paths_first=at_version is None)
        if not paths:
            raise click.UsageError("Name a file: `vfs blame [VERSION] PATH`.")
        version, where = (versions or [version_of(opened, LATEST)])[0], paths[0]
        try:
            items, found = blamed(opened.repository, version, where, key)
        except MissingExtra as missing:
            raise Unsupported(f"{show_path(where)} cannot be read", hint=f"{missing}.") from None
    if as_json:
        for number, (item, revision) in enumerate(zip(items, found, strict=True), 1):
            echo_json(blamed_document(number, revision, item.value))
        return
    echo_table(
        [
            [
                revision.version.name,
                short_id(revision.version.id),
                human_time(revision.version.commit.time_ns),
                author_cell(revision.version.commit.author),
                str(number),
                item.shown,
            ]
            for number, (item, revision) in enumerate(zip(items, found, strict=True), 1)
        ],
        right=(4,),
        styles=("yellow", "dim", "", "cyan", "dim", ""),
        droppable=(1, 2, 3, 4),
    )
