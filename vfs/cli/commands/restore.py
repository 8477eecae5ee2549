"""`vfs restore`."""

from __future__ import annotations

import click

from vfs.api.result_documents import restored_document
from vfs.cli.arguments.author import author
from vfs.cli.arguments.version_or_path import split_arguments, version_of
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.display.change_format import counts_text
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.opening.working_layer import restore_working
from vfs.cli.terminal.output import echo, echo_json
from vfs.formats.quantities import human_count
from vfs.model.layout import LATEST
from vfs.model.names import show_path
from vfs.repo.merge_state import state_or_initial

_SHOWN_MAX = 10


@vfs_command(
    "restore",
    "vfs restore images                restores a deleted or changed directory from the newest version",
    "vfs restore v3 images             as it was in version 3",
    "vfs restore v3                    all of version 3; `vfs commit` makes it the newest version",
    "vfs restore --discard latest      drops everything that is not committed",
    interrupted="Either nothing was restored or all of it: `vfs status` tells.",
)
@click.argument("words", metavar="[VERSION] [PATH]...", nargs=-1)
@click.option("--discard", is_flag=True, help="Let uncommitted changes to these paths be lost.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, words: tuple[str, ...], discard: bool, as_json: bool) -> None:
    """Restore a version, or some paths of it, in the working layer.

    Paths that the version lacks are removed. The result is an uncommitted change like any other, no version changes,
    and no data is copied, so it takes a moment at any size.
    """
    with open_repository(invocation) as opened:
        versions, wanted = split_arguments(opened, words)
        found = (versions or [version_of(opened, LATEST)])[0]
        done = restore_working(opened, found, wanted, author(), discard=discard)
        # The restore is complete, also where the state of a merge is lost.
        merging = state_or_initial(opened.repository, opened.branch)[1]
    if as_json:
        echo_json(restored_document(found, done.restored, done.removed, done.counts))
        return
    for what, done_paths in (("Restored", done.restored), ("Removed", done.removed)):
        if not done_paths:
            continue
        shown = ", ".join(show_path(path) or "everything" for path in done_paths[:_SHOWN_MAX])
        more = len(done_paths) - _SHOWN_MAX
        rest = f" and {human_count(more, 'path')} more" if more > 0 else ""
        echo(f"{what} {shown}{rest} as in {found.name}.")
    if done.counts is not None:
        echo(f"  {counts_text(done.counts)}. `vfs status` shows the uncommitted changes.")
    else:
        echo("  `vfs status` shows the uncommitted changes.")
    if merging is not None:
        name = show_path(merging.name.encode())
        echo(f"  The merge of {name} goes on: a commit finishes it, `vfs merge --abort` cancels it.")
