"""`vfs status`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import click

from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.display.tracked_text import apart_text
from vfs.cli.display.version_format import one_line, short_id
from vfs.cli.opening.open_repository import OpenRepository, open_repository
from vfs.cli.opening.working_layer import LiveMount, mounts_of, perform, uncommitted_apart
from vfs.cli.runs.running_runs import running_texts
from vfs.cli.terminal.output import echo, echo_json, human_time, style
from vfs.errors import Corrupt
from vfs.formats.quantities import human_count
from vfs.model.names import is_within, show_path
from vfs.model.objects import Version
from vfs.repo.merge_state import merge_state
from vfs.store.refs.operation import PULLED, REMOTE_REFS

if TYPE_CHECKING:
    from vfs.api.repository_documents import TrackedDocument
    from vfs.control.messages import MergeResult
    from vfs.history.diff import PathChange
    from vfs.repo.branches import Tracked

_LINES_MAX = 200
_CONFLICTS_MAX = 50


@vfs_command(
    "status",
    "vfs status                      from anywhere inside the mount",
    "vfs --repo repo status --json   one JSON object, with all changed paths in `changes`",
)
@click.option("--all", "whole", is_flag=True, help="List every path, also in new directories.")
@click.option("--ignored", "with_ignored", is_flag=True, help="List paths that ignore rules exclude from commits.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, whole: bool, with_ignored: bool, as_json: bool) -> None:
    """Show uncommitted changes: A added, M modified, D removed, R renamed.

    Its time grows with the number of changes.
    """
    with open_repository(invocation) as opened:
        base = opened.repository.head(opened.branch)
        mounts = mounts_of(opened)
        merging: MergeResult | None = None
        lost: Corrupt | None = None
        try:
            if merge_state(opened.repository, opened.branch) is not None:
                from vfs.control.messages import Empty
                from vfs.control.services import MERGE_STATUS

                merging = perform(opened, MERGE_STATUS, Empty())
        except Corrupt as error:
            if as_json:
                raise
            lost = error
        ignored: list[bytes] = []
        kept = _kept(uncommitted_apart(opened), ignored)
        if as_json:
            from vfs.api.documents import change_document
            from vfs.api.repository_documents import mount_document, status_document, unfinished_merge_document
            from vfs.history.renames import renamed

            listed = [change_document(change) for change in renamed(None, kept)]
            merge = None
            if merging is not None and merging.state is not None:
                merge = unfinished_merge_document(merging.state, merging.left)
            shown = [mount_document(mount.path, mount.pid, is_read_only=mount.is_read_only) for mount in mounts]
            echo_json(
                status_document(
                    opened.repository.path,
                    opened.branch,
                    base,
                    listed,
                    ignored,
                    shown,
                    merge,
                    with_ignored=with_ignored,
                    remotes=_tracked_documents(opened),
                )
            )
            return
        _echo_where(opened, base, mounts)
        for there in _tracked(opened):
            echo(f"{there.name}: {apart_text(there)}")
        if merging is None and opened.repository.refs.setting(PULLED + opened.branch):
            _echo_waiting(opened, base)
        for text in running_texts(opened.repository, opened.branch):
            echo(text)
        if merging is not None:
            _echo_merge(merging)
        _echo_uncommitted(
            kept,
            ignored,
            whole=whole,
            with_ignored=with_ignored,
            has_version=base is not None,
            is_merging=merging is not None or lost is not None,
        )
        if lost is not None:
            # The user wants to see the changes before the merge is cancelled.
            raise lost


def _echo_where(opened: OpenRepository, base: Version | None, mounts: list[LiveMount]) -> None:
    where = "no version yet" if base is None else f"{base.name} {short_id(base.id)}, {human_time(base.commit.time_ns)}"
    echo(f"Branch {opened.branch}: {where}")
    for mount in mounts:
        if mount.is_read_only:
            remark = " (read-only)"
        elif mount.pid is None:
            remark = style("  its daemon is gone: `vfs mount` mounts again", "red")
        else:
            remark = ""
        part = f", of which it shows {show_path(mount.root)} alone" if mount.root else ""
        echo(f"Mounted at {show_path(os.fsencode(mount.path))}{part}{remark}")


def _echo_waiting(opened: OpenRepository, base: Version | None) -> None:
    from vfs.history.merge_bases import is_ancestor
    from vfs.repo.transfer.pull import waiting

    own = waiting(opened.repository, opened.branch, base)
    if own is not None and base is not None and not is_ancestor(opened.repository.store, own.id, base.id):
        echo(f"A pull was interrupted: your {own.name} {short_id(own.id)} is not merged yet. `vfs pull` goes on.")


def _tracked_documents(opened: OpenRepository) -> list[TrackedDocument]:
    return [{"name": there.name, "ahead": there.ahead, "behind": there.behind} for there in _tracked(opened)]


def _tracked(opened: OpenRepository) -> list[Tracked]:
    if next(iter(opened.repository.refs.list(REMOTE_REFS)), None) is None:
        return []
    from vfs.repo.branches import tracked

    return tracked(opened.repository, opened.branch)


def _echo_uncommitted(
    kept: Iterator[PathChange],
    ignored: list[bytes],
    *,
    whole: bool,
    with_ignored: bool,
    has_version: bool,
    is_merging: bool,
) -> None:
    first = next(kept, None)
    if first is None:
        empty = "" if has_version or ignored else ": the working layer is empty"
        echo("All files are as in the newest version." if is_merging else f"Nothing to commit{empty}.")
        _echo_ignored(ignored, whole=with_ignored)
        return
    # Most often nothing has changed: what shows changes is imported here.
    from vfs.cli.display.change_format import echo_changes, totals_text
    from vfs.history.change_totals import Totals, counted
    from vfs.history.renames import renamed

    totals = Totals()
    # Rewritten files have no content id yet; moved files keep theirs.
    changes = iter(counted(renamed(None, chain([first], kept)), totals))
    echo()
    echo_changes(changes, indent="  ", whole=whole, lines_max=None if whole else _LINES_MAX)
    for _ in changes:
        # Changes after the last line shown still count.
        continue
    echo()
    echo(f"Not committed: {totals_text(totals)}")
    _echo_ignored(ignored, whole=with_ignored)
    if not is_merging:
        drop = ", `vfs restore --discard latest` drops it" if has_version else ""
        echo(f"  `vfs commit -m MESSAGE` commits it{drop}.")


def _kept(apart: Iterable[tuple[PathChange, bool]], ignored: list[bytes]) -> Iterator[PathChange]:
    """Yields the changes that a commit includes; adds the other paths to `ignored`, of a directory only its own."""
    for change, is_ignored in apart:
        if not is_ignored:
            yield change
        elif not ignored or not is_within(change.path, ignored[-1]):
            ignored.append(change.path)


def _echo_ignored(ignored: list[bytes], *, whole: bool) -> None:
    if not ignored:
        return
    echo(f"Ignored: {human_count(len(ignored), 'name')}" + ("" if whole else " (`vfs status --ignored` lists them)"))
    for path in ignored if whole else ():
        echo(f"  {show_path(path)}")


def _echo_merge(merging: MergeResult) -> None:
    state = merging.state
    assert state is not None
    echo()
    if merging.left:
        from vfs.cli.display.merge_output import echo_conflicts

        echo(f"Merging {one_line(state.name)}: {human_count(len(merging.left), 'conflict')} left")
        echo_conflicts(state, merging.left[:_CONFLICTS_MAX], indent="  ")
        if len(merging.left) > _CONFLICTS_MAX:
            echo("  … all of them: `vfs status --json`")
        echo("  Remove the conflict markers, or `vfs merge --ours PATH`, `--theirs PATH`, `--resolved PATH`.")
    else:
        echo(f"Merging {one_line(state.name)}: all conflicts are resolved")
    echo("  `vfs merge --continue` commits the merge, `vfs merge --abort` cancels it.")
