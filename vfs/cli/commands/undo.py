"""`vfs undo`."""

from __future__ import annotations

import click

from vfs.api.repository_documents import undo_document
from vfs.cli.arguments.author import author
from vfs.cli.command import Invocation, json_option, repository_option, vfs_command
from vfs.cli.display.operation_format import state_text, undone_text
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.opening.working_layer import STAYS_BEHIND, perform, uncommitted, undo_refs
from vfs.cli.terminal.output import echo, echo_err, echo_json
from vfs.control.messages import UndoArgs
from vfs.control.services import UNDO
from vfs.formats.quantities import human_count
from vfs.repo.undo import UNDO as UNDO_KIND
from vfs.repo.undo import last_operation, layer_of
from vfs.store.refs.operation import BRANCHES, CURRENT


@vfs_command(
    "undo",
    "vfs undo                        undoes the operation that `vfs operations` lists first",
    "vfs undo && vfs undo            undoes it, and redoes it",
    interrupted="Either it was undone or not: `vfs operations` tells.",
)
@json_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, as_json: bool) -> None:
    """Undo the last operation of any kind, and print the state after it. Undoing the undo redoes it.

    After a switch it goes back to the previous branch. The files of an undone commit stay as uncommitted changes.
    Files that an operation removed from the working layer are restored. Refused where changes made since would be lost.
    What gc removed is not needed; what forget removed is gone.
    """
    with open_repository(invocation) as opened:
        operation = last_operation(opened.repository)
        branch = layer_of(operation)
        if branch is not None:
            perform(opened, UNDO, UndoArgs(operation.seq, author()), branch=branch)
        else:
            undo_refs(opened, operation, author())
        left = sum(1 for _ in uncommitted(opened, branch)) if branch is not None else None
        repository = opened.repository
        if as_json:
            heads = repository.refs.list(BRANCHES)
            branches = {name.removeprefix(BRANCHES): commit_id for name, commit_id in heads}
            echo_json(undo_document(operation, repository.current_branch, left, branches))
            return
        echo(undone_text(operation))
        for line in state_text(repository, operation):
            echo(f"  Now {line}.")
        if left is not None:
            count = human_count(left, "change")
            echo(
                f"  Not committed on {branch}: {count} (`vfs status`)." if left else f"  All of {branch} is committed."
            )
        echo_err("  `vfs undo` redoes it." if operation.kind != UNDO_KIND else "  `vfs undo` undoes it again.")
        if (
            any(each.name == CURRENT for each in operation.settings)
            and opened.place.position
            and opened.place.branch is None
        ):
            echo_err(STAYS_BEHIND)
