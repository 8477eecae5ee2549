"""`vfs switch`."""

from __future__ import annotations

import click

from vfs.cli.author import author
from vfs.cli.output import note, say, say_json
from vfs.cli.reach import opened
from vfs.cli.verb import Invocation, json_option, repository_option, verb
from vfs.cli.versions import short_id
from vfs.cli.working import switch_working


@verb(
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
    with opened(invocation) as at:
        done = switch_working(at, name, author())
        head = at.repository.head(name)
        if as_json:
            say_json(
                {
                    "branch": name,
                    "version": None if head is None else head.name,
                    "id": None if head is None else head.id.hex(),
                    "switched": done,
                }
            )
            return
        where = "no version yet" if head is None else f"{head.name} {short_id(head.id)}"
        say(f"{'The current branch is' if done else 'Already on'} {name}: {where}")
        if done and at.place.position and at.place.branch is None:
            note('This shell is still in the directory that it was in: `cd "$PWD"` goes to the same place here.')
