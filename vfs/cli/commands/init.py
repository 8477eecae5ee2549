"""`vfs init`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

from vfs.api.repository_documents import repository_document
from vfs.cli.command import DirectoryType, Invocation, json_option, vfs_command
from vfs.cli.opening.open_repository import repository_named
from vfs.cli.terminal.output import echo, echo_json
from vfs.model.names import show_path
from vfs.repo.config import Config
from vfs.repo.repository import Repository
from vfs.repo.repository_creation import PRIVATE
from vfs.store.packs.compression import NODE_BLOCKS


class Mode(click.ParamType[int]):
    """Permissions in octal digits, which leave the owner all of theirs."""

    name = "mode"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the permissions; fails for anything else."""
        if isinstance(value, int):
            return value
        if not re.fullmatch(r"0?[0-7]{3,4}", value) or int(value, 8) & PRIVATE != PRIVATE or int(value, 8) > 0o7777:
            self.fail(f"{value!r} is no mode like 700 or 750, with all rights of the owner", param, ctx)
        return int(value, 8)


@vfs_command(
    "init",
    "vfs init repo                   makes the directory `repo`",
    "vfs init repo && vfs mount repo data",
    "vfs init --compact repo         stores many small files in a tenth less room",
)
@click.argument("repo", type=DirectoryType())
@click.option("--mode", type=Mode(), default="700", metavar="OCTAL", help="The directory's permissions, else 700.")
@click.option(
    "--compact", is_flag=True, help="Store small files in a tenth less room; the first read of one takes twice as long."
)
@json_option
@click.pass_obj
def command(_invocation: Invocation, repo: Path, mode: int, compact: bool, as_json: bool) -> None:
    """Make a new repository: a directory that holds everything, to be kept on a local filesystem.

    Only its owner can access it. A user who can read it, as with --mode 750, can read the bytes of all files of all
    versions, whatever the files' own permissions are. Share data through a mount (`vfs mount --allow-other`) instead.
    """
    path = Path(os.path.abspath(repo))
    config = Config(features=(NODE_BLOCKS,)) if compact else Config()
    with repository_named(path), Repository.init(path, config, mode=mode) as made:
        if as_json:
            echo_json(repository_document(path, made.config.id))
            return
    shown = show_path(os.fsencode(repo))
    echo(f"Made the repository {shown}.")
    echo(f"  Next: `vfs mount {shown} MNT` and copy data into MNT, or `vfs --repo {shown} import DIR -m MESSAGE`.")
