"""`vfs recover`."""

from __future__ import annotations

import click

from vfs.api.repository_documents import recovered_document
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.terminal.output import echo, echo_json
from vfs.control.access import release


@vfs_command(
    "recover",
    "vfs recover -R repo                    recovers the intact part of damaged uncommitted changes",
    "vfs recover -R repo && vfs status -R repo",
    interrupted="Nothing was lost: run it again.",
)
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, as_json: bool) -> None:
    """Recover the intact part of damaged uncommitted changes.

    For a working layer that cannot be opened because its files are damaged. Changes that can be read are applied again,
    also those after the damage; each change that is lost or cannot be applied is listed. The damaged files are kept
    beside the others as `….damaged`, until you remove them. Look at the result with `vfs status` and `vfs diff` before
    you commit it: it may mix what was there at different times. Unmount the branch first.
    """
    with open_repository(invocation) as opened:
        release(opened.repository.path, opened.branch)
        with opened.repository.open_overlay(opened.branch, passes_damage=True) as overlay:
            notices = overlay.recovery.warnings()
            records = overlay.recovery.records
    if as_json:
        echo_json(recovered_document(opened.branch, records, notices))
        return
    for notice in notices:
        echo(notice)
    if not notices:
        echo("Nothing is damaged.")
