"""`vfs operations`."""

from __future__ import annotations

from itertools import islice

import click

from vfs.cli.columns import say_table
from vfs.cli.command import Count, Invocation, json_option, repository_option, verb
from vfs.cli.open_repository import opened
from vfs.cli.operation_format import operation_json, operation_words
from vfs.cli.output import human_time, say_json
from vfs.cli.version_format import author_cell


@verb(
    "operations",
    "vfs operations                  the last 20, newest first: what `vfs undo` would take back stands first",
    "vfs operations -n 100 --json    for programs: one JSON object a line, as the log has it",
    is_paged=True,
)
@click.option("-n", "--max-count", type=Count(min=1), default=20, show_default=True, help="How many.")
@json_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, max_count: int, as_json: bool) -> None:
    """List what was done to the repository, newest first.

    Each with when, by whom, and what moved. `vfs undo` takes back the first that can be.
    """
    with opened(invocation) as at:
        found = list(islice(at.repository.refs.operations(), max_count))
        if as_json:
            for operation in found:
                say_json(operation_json(operation))
            return
        rows = [
            [
                str(operation.seq),
                human_time(operation.time_ns),
                author_cell(operation.author),
                operation_words(at.repository, operation),
            ]
            for operation in found
        ]
        say_table(rows, right=(0,), styles=("yellow", "", "cyan", ""), droppable=(2, 1, 0))
