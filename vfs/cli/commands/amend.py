"""`vfs amend`."""

from __future__ import annotations

import click

from vfs.api.documents import version_document
from vfs.cli.arguments.author import author
from vfs.cli.command import Invocation, branch_option, json_option, meta_option, repository_option, vfs_command
from vfs.cli.display.version_format import short_id
from vfs.cli.opening.open_repository import open_repository, tags_by_commit
from vfs.cli.opening.working_layer import perform
from vfs.cli.terminal.output import echo, echo_json
from vfs.control.messages import AmendArgs
from vfs.control.services import AMEND
from vfs.model.objects import Version
from vfs.repo.authorship import checked_message
from vfs.repo.notes import described


@vfs_command(
    "amend",
    "vfs amend                       adds uncommitted changes to the newest version",
    'vfs amend -m "labels repaired"  another message, and the changes if there are any',
    "vfs amend --meta acc=0.93       another metric, and the changes if there are any",
    interrupted="Either it was amended or not: `vfs operations` tells.",
)
@click.option("-m", "--message", metavar="TEXT", help="The new message; else it stays.")
@meta_option
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, message: str | None, meta: dict[str, str], as_json: bool) -> None:
    """Change the newest version.

    Its message and metadata are replaced, and uncommitted changes become part of it. Without uncommitted changes
    this is `vfs describe latest`. With some, another commit takes the version's place, under the same number; the old
    one stays reachable by its id, and `vfs undo` goes back to it. Refused where a tag or another branch has the
    version.
    """
    with open_repository(invocation) as opened:
        text = checked_message(message) if message is not None else None
        commit_id = perform(opened, AMEND, AmendArgs(author(), text, meta)).id
        version = described(opened.repository, Version(commit_id, opened.repository.store.get_commit(commit_id)))
        if as_json:
            echo_json(version_document(version, tags_by_commit(opened.repository)))
        else:
            echo(f"{version.name} {short_id(version.id)}")
