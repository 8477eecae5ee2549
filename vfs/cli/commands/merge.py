"""`vfs merge`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from vfs.api.documents import made_document, merge_step_document, merged_document
from vfs.cli.arguments.author import author
from vfs.cli.arguments.version_or_path import version_of
from vfs.cli.command import Invocation, branch_option, json_option, meta_option, repository_option, vfs_command
from vfs.cli.display.change_format import counts_text
from vfs.cli.display.merge_output import divergent_rename_text, echo_conflicts
from vfs.cli.display.version_format import short_id
from vfs.cli.opening.locate import path_in
from vfs.cli.opening.open_repository import OpenRepository, open_repository, tags_by_commit
from vfs.cli.opening.working_layer import commit_working, perform
from vfs.cli.terminal.output import echo, echo_err, echo_json
from vfs.cli.terminal.progress import FileBar
from vfs.control.messages import AuthorArgs, MergeArgs, MergeResult, ResolveArgs
from vfs.control.services import MERGE, MERGE_ABORT, MERGE_RESOLVE
from vfs.history.diff import count_changed_files
from vfs.history.merge_contents import Key, parse_keys
from vfs.history.merge_kinds import DivergentRename
from vfs.model.layout import unmarked
from vfs.model.objects import Version
from vfs.repo.authorship import checked_message
from vfs.repo.merge_conflicts import require_merge
from vfs.repo.merge_state import merge_state

CONFLICTS_STATUS = 1


@vfs_command(
    "merge",
    "vfs merge relabel                   merges the branch `relabel` into the current one",
    "vfs merge relabel --key id:*.csv    merges the rows of tables by their column `id`",
    "vfs merge relabel --theirs          takes their side of all conflicts",
    "vfs merge --ours labels.csv         in a merge with conflicts: takes our side of one path",
    "vfs merge --continue                commits the merge once all conflicts are resolved",
    "vfs merge --abort                   cancels the merge",
    interrupted="`vfs status` tells whether a merge is under way, `vfs log -n 1` whether it is a version.",
)
@click.argument("name", required=False)
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("--ours", "resolution", flag_value="ours", help="Take our side of PATHs, or of all conflicts.")
@click.option("--theirs", "resolution", flag_value="theirs", help="Take their side of PATHs, or of all conflicts.")
@click.option("--resolved", "resolution", flag_value="resolved", help="Take PATHs, or all conflicts, as they are now.")
@click.option("--continue", "action", flag_value="continue", help="Finish a merge whose conflicts are resolved.")
@click.option("--abort", "action", flag_value="abort", help="Cancel an unfinished merge.")
@click.option(
    "--key", "keys", metavar="COLUMN[:GLOB]", multiple=True, help="Merge CSV and JSON Lines by row, by this column."
)
@click.option("-m", "--message", metavar="TEXT", help="The version's message; else `Merge NAME`.")
@meta_option
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation,
    name: str | None,
    paths: tuple[str, ...],
    resolution: str | None,
    action: str | None,
    keys: tuple[str, ...],
    message: str | None,
    meta: dict[str, str],
    as_json: bool,
) -> int:
    """Merge another branch into this one, as one version.

    A tag or a version can be merged, too. Prints the new version, which has two parents. Files that both sides changed
    are merged by line of text, by row with --key; renamed files and directories are followed. Where that is not
    possible the conflicting paths are printed, with the paths of all three sides, and the exit status is 1: the working
    layer then has the unfinished merge. Resolve the conflict markers or take a side for each path, then `vfs merge
    --continue` or `vfs commit`.
    """
    words = [*([name] if name is not None else []), *paths]
    with open_repository(invocation) as opened:
        text = checked_message(message) if message is not None else ""
        if action == "abort":
            _require_no_arguments(words, resolution)
            perform(opened, MERGE_ABORT, AuthorArgs(author()))
            _echo(as_json, {"aborted": True}, "The merge is cancelled; the working layer is as it was before.")
            return 0
        if action == "continue":
            _require_no_arguments(words, resolution)
            require_merge(opened.repository, opened.branch)
            with FileBar("committing") as progress:
                version = commit_working(opened, text, author(), meta=meta, allow_empty=False, progress=progress)
            return _echo_version(opened, version, as_json)
        if resolution is not None and merge_state(opened.repository, opened.branch) is not None:
            args = ResolveArgs([path_in(opened.place, word) for word in words], resolution)  # type: ignore[arg-type]
            return _echo_conflicts(opened, perform(opened, MERGE_RESOLVE, args), as_json)
        return _begin(
            opened, words, resolution, [key for word in keys for key in parse_keys(word)], text, meta, as_json
        )


def _begin(
    opened: OpenRepository,
    words: list[str],
    resolution: str | None,
    keys: list[Key],
    message: str,
    meta: dict[str, str],
    as_json: bool,
) -> int:
    if not words:
        raise click.UsageError("Name what to merge: a branch, a tag or a version.")
    if resolution == "resolved" or (len(words) > 1 and resolution is None):
        raise click.UsageError("PATHs go with --ours or --theirs; --resolved is for a merge that is under way.")
    theirs = version_of(opened, words[0])
    args = MergeArgs(
        unmarked(words[0]),
        theirs.id,
        author(),
        message,
        meta,
        resolution,  # type: ignore[arg-type]
        [path_in(opened.place, word) for word in words[1:]],
        keys,
    )
    with FileBar("merging") as progress:
        done = perform(opened, MERGE, args, progress=progress)
    for rename in done.divergent_renames:
        echo_err(f"vfs: {divergent_rename_text(rename)}")
    if done.id is not None:
        return _echo_version(
            opened, Version(done.id, opened.repository.store.get_commit(done.id)), as_json, done.divergent_renames
        )
    if done.state is None:
        _echo(as_json, {"up_to_date": True}, f"Already up to date: {words[0]} has nothing that is not here.")
        return 0
    return _echo_conflicts(opened, done, as_json, done.divergent_renames)


def _require_no_arguments(words: list[str], resolution: str | None) -> None:
    if words or resolution is not None:
        raise click.UsageError("--continue and --abort stand alone.")


def _echo_version(
    opened: OpenRepository, version: Version, as_json: bool, renames: Sequence[DivergentRename] | None = None
) -> int:
    counts = count_changed_files(opened.repository.store, version)
    if as_json:
        tags = tags_by_commit(opened.repository)
        echo_json(
            made_document(version, tags, counts) if renames is None else merged_document(version, tags, counts, renames)
        )
    else:
        echo(f"{version.name} {short_id(version.id)}")
        echo_err(f"  {counts_text(counts)}")
    return 0


def _echo_conflicts(
    opened: OpenRepository, done: MergeResult, as_json: bool, renames: Sequence[DivergentRename] | None = None
) -> int:
    assert done.state is not None
    if as_json:
        echo_json(merge_step_document(done.state, done.left, renames))
    elif done.left:
        echo_conflicts(done.state, done.left)
        echo_err("  Remove the conflict markers, or `vfs merge --ours PATH`, `--theirs PATH`, `--resolved PATH`;")
        echo_err("  then `vfs merge --continue`. `vfs merge --abort` cancels it.")
    else:
        echo("All conflicts are resolved: `vfs merge --continue` commits the merge.")
    return CONFLICTS_STATUS if done.left else 0


def _echo(as_json: bool, value: dict[str, Any], words: str) -> None:
    if as_json:
        echo_json(value)
    else:
        echo(words)
