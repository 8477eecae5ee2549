"""The conflicts of a merge as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable

from vfs.cli.terminal.output import echo, style
from vfs.history.merge_kinds import DivergentRename
from vfs.model.names import show_path
from vfs.repo.merge_state import MergeConflict, MergeState

_REASONS = {
    "added": "both added it",
    "attributes": "mode, owner or attributes differ",
    "content": "both changed it",
    "deleted": "changed and deleted",
    "symlink": "link targets differ",
    "type": "different kinds of files",
}


def echo_conflicts(state: MergeState, conflicts: Iterable[MergeConflict], indent: str = "") -> None:
    """Writes one line a conflict, and below it where the three sides are files in a mount."""
    for conflict in conflicts:
        marks = "; marked in the file" if conflict.is_marked else ""
        reason = f"; {conflict.note}" if conflict.note else ""
        path = show_path(conflict.path) or "."
        echo(f"{indent}{style('C', 'red')}  {path}  {style(_REASONS[conflict.kind] + marks + reason, 'dim')}")
        for side, where in state.sides_of(conflict).items():
            echo(f"{indent}     {side.ljust(6)}  {show_path(where) if where is not None else '-'}")


def divergent_rename_text(rename: DivergentRename) -> str:
    """Returns the notice for a path that each side renamed differently."""
    old, ours, theirs = map(show_path, rename)
    return f"{old} was renamed to {ours} here and to {theirs} there: both are kept"
