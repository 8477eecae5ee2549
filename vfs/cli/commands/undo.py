"""`vfs undo`."""

from __future__ import annotations

import click

from vfs.cli.author import author
from vfs.cli.operations import operation_json, operation_words
from vfs.cli.output import say, say_json
from vfs.cli.reach import opened
from vfs.cli.verb import Invocation, json_option, repository_option, verb
from vfs.cli.working import on_layer, undo_names
from vfs.repo.layer_services import Nothing, UndoArgs
from vfs.repo.undoing import last_operation, layer_of


@verb(
    "undo",
    "vfs undo                        takes back what `vfs operations` lists first",
    "vfs undo && vfs undo            takes it back, and does it again",
    interrupted="Either it was undone or not: `vfs operations` tells.",
)
@json_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, as_json: bool) -> None:
    """Take back the last operation, whatever it was. Undoing the undo does it again.

    After an undone commit its files are still there, as changes. Whatever an operation took out of the working layer
    comes back. Refused where changes that were made since would be lost. What gc removed is not missed by anybody; what
    forget removed is gone.
    """
    with opened(invocation) as at:
        operation = last_operation(at.repository)
        branch = layer_of(operation)
        if branch is not None:
            on_layer(at, "undo", UndoArgs(operation.seq, author()), Nothing, branch=branch)
        else:
            undo_names(at, operation, author())
        if as_json:
            say_json({"undone": operation_json(operation)})
            return
        say(f"Undone: {operation_words(at.repository, operation)}")
        if branch is not None:
            say("  `vfs status` shows what is not committed now; `vfs undo` does it again.")
