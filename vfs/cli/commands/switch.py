"""`vfs switch`."""

from __future__ import annotations

import click

from vfs.api.repository_documents import switch_document
from vfs.cli.arguments.author import author
from vfs.cli.arguments.version_or_path import exists, named
from vfs.cli.command import Invocation, json_option, repository_option, vfs_command
from vfs.cli.display.version_format import short_id
from vfs.cli.opening.locate import path_in
from vfs.cli.opening.open_repository import OpenRepository, open_repository
from vfs.cli.opening.working_layer import STAYS_BEHIND, switch_working
from vfs.cli.terminal.output import echo, echo_err, echo_json
from vfs.errors import NotFound


@vfs_command(
    "switch",
    "vfs switch relabel              the mount's root shows the branch `relabel` from now on",
    "vfs switch main                 and back; each branch keeps its uncommitted changes",
)
@click.argument("name")
@json_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, name: str, as_json: bool) -> None:
    """Make a branch the current one: what a mount shows, and what commands work on.

    Every branch has a working layer of its own, so nothing that is not committed moves or is lost. Mounts that were
    made with --branch stay where they are.
    """
    with open_repository(invocation) as opened:
        try:
            opened.repository.require_branch(name)
        except NotFound as error:
            raise _no_branch(opened, name) or error from None
        done = switch_working(opened, name, author())
        head = opened.repository.head(name)
        if as_json:
            echo_json(switch_document(name, head, switched=done))
            return
        where = "no version yet" if head is None else f"{head.name} {short_id(head.id)}"
        echo(f"{'The current branch is' if done else 'Already on'} {name}: {where}")
        if done and opened.place.position and opened.place.branch is None:
            echo_err(STAYS_BEHIND)


def _no_branch(opened: OpenRepository, name: str) -> NotFound | None:
    """Returns the error for the name of a version or a path where a branch is meant, None for one of nothing."""
    version = named(opened, name)
    message = f"there is no branch {name!r}"
    if version is not None:
        there, back = f"MNT/@{version.name} shows it, `vfs branch NAME {name}` begins a branch there", "restores it"
        return NotFound(f"{message}: it is a version", hint=f"{there}, `vfs restore {name}` {back}.")
    if name and exists(opened, path_in(opened.place, name)):
        return NotFound(f"{message}: it is a path", hint=f"`vfs restore {name}` restores it as it was committed.")
    return None
