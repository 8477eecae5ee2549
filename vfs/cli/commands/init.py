"""`vfs init`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vfs.cli.output import say, say_json
from vfs.cli.reach import repository_named
from vfs.cli.verb import DirectoryWord, Invocation, json_option, verb
from vfs.model.names import show_path
from vfs.repo.repository import Repository


@verb(
    "init",
    "vfs init repo                   makes the directory `repo`",
    "vfs init repo && vfs mount repo data",
)
@click.argument("repo", type=DirectoryWord())
@json_option
@click.pass_obj
def command(_invocation: Invocation, repo: Path, as_json: bool) -> None:
    """Make a new repository: a directory that holds everything, to be kept on a local filesystem."""
    path = Path(os.path.abspath(repo))
    with repository_named(path), Repository.init(path) as made:
        if as_json:
            say_json({"repository": str(path), "id": made.config.id})
            return
    shown = show_path(os.fsencode(repo))
    say(f"Made the repository {shown}.")
    say(f"  Next: `vfs mount {shown} MNT` and copy data into MNT, or `vfs --repo {shown} import DIR -m MESSAGE`.")
