"""`vfs commit`."""

from __future__ import annotations

import click

from vfs.api.documents import made_document
from vfs.cli.arguments.author import author, message_from, message_option
from vfs.cli.arguments.exclude_options import exclude_options
from vfs.cli.arguments.version_or_path import path_argument
from vfs.cli.command import (
    Invocation,
    branch_option,
    json_option,
    meta_option,
    no_hooks_option,
    repository_option,
    vfs_command,
)
from vfs.cli.display.change_format import counts_text
from vfs.cli.display.version_format import short_id
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.opening.working_layer import commit_working
from vfs.cli.terminal.output import echo, echo_err, echo_json
from vfs.cli.terminal.progress import FileBar
from vfs.history.diff import count_changed_files
from vfs.repo.describe import check_meta
from vfs.repo.ignore_rules import Excluded
from vfs.repo.merge_state import merge_state


@vfs_command(
    "commit",
    'vfs commit -m "labels repaired"             from anywhere inside the mount',
    'vfs commit -m "trained" --meta acc=0.93     with a metric; `vfs log` and `vfs diff` show it',
    'vfs --repo repo commit -m "labels repaired" from elsewhere, mounted or not',
    'vfs commit labels.csv images -m "labels"    what has changed there; the rest stays uncommitted',
    interrupted="A mount finishes the commit all the same; without one nothing was committed. `vfs log -n 1` tells.",
)
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@message_option
@meta_option
@exclude_options
@no_hooks_option
@click.option("--allow-empty", is_flag=True, help="Commit even if nothing has changed.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation,
    paths: tuple[str, ...],
    message: str | None,
    meta: dict[str, str],
    excluded: Excluded,
    no_hooks: bool,
    allow_empty: bool,
    as_json: bool,
) -> None:
    """Commit the working layer as the next version. Prints the version and its id when it is durable.

    With PATHs, only the changes there and below; all else stays uncommitted. So do files that `.vfsignore` files name,
    written as in .gitignore, except files that the version before has, and PATHs themselves.

    Programs can write meanwhile: the version is the working layer at one moment. A commit also finishes a merge whose
    conflicts are resolved.
    """
    check_meta(meta)
    with open_repository(invocation) as opened:
        wanted = [path_argument(opened, word, ()) for word in paths]
        # A merge has a message of its own.
        in_merge = message is None and merge_state(opened.repository, opened.branch) is not None
        why = "" if in_merge else message_from(message)
        with FileBar("committing") as progress:
            version = commit_working(
                opened,
                why,
                author(),
                meta=meta,
                allow_empty=allow_empty,
                paths=wanted,
                excluded=excluded,
                with_hooks=not no_hooks,
                progress=progress,
            )
        counts = count_changed_files(opened.repository.store, version)
        if as_json:
            echo_json(made_document(version, {}, counts))
        else:
            echo(f"{version.name} {short_id(version.id)}")
            echo_err(f"  {counts_text(counts)}")
