"""`vfs operations`."""

from __future__ import annotations

from itertools import islice

import click

from vfs.api.repository_documents import operation_document
from vfs.cli.command import CountType, Invocation, json_option, repository_option, vfs_command
from vfs.cli.display.operation_format import operation_text
from vfs.cli.display.version_format import author_cell
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.terminal.columns import echo_table
from vfs.cli.terminal.output import echo_json, human_time


@vfs_command(
    "operations",
    "vfs operations                  the last 20, newest first; `vfs undo` undoes the first",
    "vfs operations -n 100 --json    for programs: one JSON object a line, as the log has it",
    is_paged=True,
)
@click.option("-n", "--max-count", type=CountType(min=1), default=20, show_default=True, help="How many.")
@json_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, max_count: int, as_json: bool) -> None:
    """List what was done to the repository, newest first.

    Each with when, by whom, and what moved. `vfs undo` undoes the first that can be undone.
    """
    with open_repository(invocation) as opened:
        found = list(islice(opened.repository.refs.operations(), max_count))
        if as_json:
            for operation in found:
                echo_json(operation_document(operation))
            return
        rows = [
            [
                str(operation.seq),
                human_time(operation.time_ns),
                author_cell(operation.author),
                operation_text(opened.repository, operation),
            ]
            for operation in found
        ]
        echo_table(rows, right=(0,), styles=("yellow", "", "cyan", ""), droppable=(2, 1, 0))
