"""`vfs diff`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from vfs.cli.changes import Totals, change_json, counted, say_changes
from vfs.cli.locate import path_in
from vfs.cli.output import say, say_json, style
from vfs.cli.reach import Opened, opened
from vfs.cli.verb import Invocation, branch_option, json_option, repository_option, verb
from vfs.cli.working import differences, uncommitted
from vfs.errors import NotADirectory, NotFound
from vfs.history.diff import PathChange, diff_trees
from vfs.model.names import show_path
from vfs.model.objects import Entry
from vfs.store.directories import resolve_path

DIFFERENCES_STATUS = 1


@verb(
    "diff",
    "vfs diff v1 v2                  what changed between two versions",
    "vfs diff v1 v2 images           below one directory",
    "vfs diff v1                     between version 1 and the working layer",
    "vfs diff                        what is not committed yet",
    "vfs diff v1 v2 --json           for programs: one JSON object a changed path",
)
@click.argument("a", default="latest")
@click.argument("b", required=False)
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("--all", "whole", is_flag=True, help="List every path in directories that came or went, not their sum.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing: the exit status tells.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation, a: str, b: str | None, paths: tuple[str, ...], whole: bool, quiet: bool, as_json: bool
) -> int:
    """Compare two versions, or a version and the working layer.

    Exits with 1 when there are differences, as diff does. Takes as long as the change is large, not the data. To
    compare contents line by line, compare the directories: diff -r MNT/@v1 MNT/@v2.
    """
    with opened(invocation) as at:
        changes = _changes(at, a, b, [path_in(at.place, path) for path in paths])
        if quiet:
            return DIFFERENCES_STATUS if next(changes, None) is not None else 0
        totals = Totals()
        if as_json:
            for change in counted(changes, totals):
                say_json(change_json(change))
        else:
            say_changes(counted(changes, totals), whole=whole)
            if totals:
                say(style(totals.words(), "bold"))
        return DIFFERENCES_STATUS if totals else 0


def _changes(at: Opened, a: str, b: str | None, paths: list[bytes]) -> Iterator[PathChange]:
    if b is None:
        if a == "latest" and at.repository.head(at.branch) is None:
            yield from uncommitted(at)
        else:
            yield from differences(at, at.repository.resolve(a))
        return
    source = at.repository.store
    old, new = at.repository.resolve(a).commit.root, at.repository.resolve(b).commit.root
    for path in paths or [b""]:
        old_entry, new_entry = _find(at, old, path), _find(at, new, path)
        if old_entry is None and new_entry is None:
            raise NotFound(f"neither version has {show_path(path)}", hint="`vfs ls VERSION` lists what one has.")
        yield from diff_trees(source, old_entry, new_entry, path)


def _find(at: Opened, root: Entry, path: bytes) -> Entry | None:
    try:
        return resolve_path(at.repository.store, root, path).entry
    except (NotFound, NotADirectory):
        return None
