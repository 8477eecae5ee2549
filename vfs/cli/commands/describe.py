"""`vfs describe`."""

from __future__ import annotations

import click

from vfs.api.documents import version_document
from vfs.cli.arguments.author import author
from vfs.cli.arguments.version_or_path import version_of
from vfs.cli.command import Invocation, branch_option, json_option, meta_option, repository_option, vfs_command
from vfs.cli.display.version_format import first_line, meta_text
from vfs.cli.opening.open_repository import open_repository, tags_by_commit
from vfs.cli.terminal.output import echo, echo_json
from vfs.repo.authorship import checked_message
from vfs.repo.describe import describe


@vfs_command(
    "describe",
    'vfs describe v3 -m "labels by hand"  another message for version 3',
    "vfs describe v3 --meta acc=0.93      a metric, measured after the fact",
    "vfs describe v3 --meta acc=          takes it away again",
)
@click.argument("version")
@click.option("-m", "--message", metavar="TEXT", help="The new message.")
@meta_option
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, version: str, message: str | None, meta: dict[str, str], as_json: bool) -> None:
    """Change a version's message and metadata. The data, the id and the number stay.

    The commit keeps its original message; `vfs undo` restores the message before.
    """
    if message is None and not meta:
        raise click.UsageError("Name the change: -m MESSAGE or --meta KEY=VALUE.")
    with open_repository(invocation) as opened:
        text = checked_message(message) if message is not None else None
        found = describe(opened.repository, version_of(opened, version), author(), text, meta)
        if as_json:
            echo_json(version_document(found, tags_by_commit(opened.repository)))
        else:
            echo(f"{found.name}  {first_line(found.commit.message)}  {meta_text(opened.repository, found)}".rstrip())
