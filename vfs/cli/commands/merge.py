"""`vfs merge`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from vfs.api.documents import made_document, merge_step_document, merged_document
from vfs.cli.author import author, checked_message
from vfs.cli.change_format import counts_text
from vfs.cli.command import Invocation, branch_option, json_option, meta_option, repository_option, vfs_command
from vfs.cli.locate import path_in
from vfs.cli.merge_output import echo_conflicts, parted_text
from vfs.cli.open_repository import OpenRepository, open_repository, tags_by_commit
from vfs.cli.output import echo, echo_err, echo_json
from vfs.cli.progress import FileBar
from vfs.cli.version_format import short_id
from vfs.cli.version_or_path import version_of
from vfs.cli.working_layer import commit_working, perform
from vfs.control.messages import AuthorArgs, DecideArgs, MergeArgs, MergeResult
from vfs.control.services import MERGE, MERGE_ABORT, MERGE_DECIDE
from vfs.history.diff import count_changed_files
from vfs.history.merge import Parted
from vfs.history.merge_contents import Key, parse_keys
from vfs.model.layout import unmarked
from vfs.model.objects import Version
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
@click.option("--ours", "decision", flag_value="ours", help="Take our side of PATHs, or of all conflicts.")
@click.option("--theirs", "decision", flag_value="theirs", help="Take their side of PATHs, or of all conflicts.")
@click.option("--resolved", "decision", flag_value="resolved", help="Take PATHs, or all conflicts, as they are now.")
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
    decision: str | None,
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
            _no_more(words, decision)
            perform(opened, MERGE_ABORT, AuthorArgs(author()))
            _tell(as_json, {"aborted": True}, "The merge is taken back; the working layer is as it was before.")
            return 0
        if action == "continue":
            _no_more(words, decision)
            require_merge(opened.repository, opened.branch)
            with FileBar("committing") as progress:
                version = commit_working(opened, text, author(), meta=meta, allow_empty=False, progress=progress)
            return _echo_version(opened, version, as_json)
        if decision is not None and merge_state(opened.repository, opened.branch) is not None:
            args = DecideArgs([path_in(opened.place, word) for word in words], decision)  # type: ignore[arg-type]
            return _echo_undecided(opened, perform(opened, MERGE_DECIDE, args), as_json)
        return _begin(opened, words, decision, [key for word in keys for key in parse_keys(word)], text, meta, as_json)


def _begin(
    opened: OpenRepository,
    words: list[str],
    decision: str | None,
    keys: list[Key],
    message: str,
    meta: dict[str, str],
    as_json: bool,
) -> int:
    if not words:
        raise click.UsageError("Name what to merge: a branch, a tag or a version.")
    if decision == "resolved" or (len(words) > 1 and decision is None):
        raise click.UsageError("PATHs go with --ours or --theirs; --resolved is for a merge that is under way.")
    theirs = version_of(opened, words[0])
    args = MergeArgs(
        unmarked(words[0]),
        theirs.id,
        author(),
        message,
        meta,
        decision,  # type: ignore[arg-type]
        [path_in(opened.place, word) for word in words[1:]],
        keys,
    )
    with FileBar("merging") as progress:
        done = perform(opened, MERGE, args, progress=progress)
    for parted in done.parted:
        echo_err(f"vfs: {parted_text(parted)}")
    if done.id is not None:
        return _echo_version(
            opened, Version(done.id, opened.repository.store.get_commit(done.id)), as_json, done.parted
        )
    if done.state is None:
        _tell(as_json, {"up_to_date": True}, f"Already up to date: {words[0]} has nothing that is not here.")
        return 0
    return _echo_undecided(opened, done, as_json, done.parted)


def _no_more(words: list[str], decision: str | None) -> None:
    if words or decision is not None:
        raise click.UsageError("--continue and --abort stand alone.")


def _echo_version(
    opened: OpenRepository, version: Version, as_json: bool, parted: Sequence[Parted] | None = None
) -> int:
    counts = count_changed_files(opened.repository.store, version)
    if as_json:
        tags = tags_by_commit(opened.repository)
        echo_json(
            made_document(version, tags, counts) if parted is None else merged_document(version, tags, counts, parted)
        )
    else:
        echo(f"{version.name} {short_id(version.id)}")
        echo_err(f"  {counts_text(counts)}")
    return 0


def _echo_undecided(
    opened: OpenRepository, done: MergeResult, as_json: bool, parted: Sequence[Parted] | None = None
) -> int:
    assert done.state is not None
    if as_json:
        echo_json(merge_step_document(done.state, done.left, parted))
    elif done.left:
        echo_conflicts(done.state, done.left)
        echo_err("  Edit the marks away, or `vfs merge --ours PATH`, `--theirs PATH`, `--resolved PATH`;")
        echo_err("  then `vfs merge --continue`. `vfs merge --abort` takes all of it back.")
    else:
        echo("All conflicts are resolved: `vfs merge --continue` commits the merge.")
    return CONFLICTS_STATUS if done.left else 0


def _tell(as_json: bool, value: dict[str, Any], words: str) -> None:
    if as_json:
        echo_json(value)
    else:
        echo(words)
