"""`vfs pull`."""

from __future__ import annotations

import time

import click

from vfs.cli.arguments.author import author
from vfs.cli.arguments.transfer_options import ByteBar, limit_option, pace
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.display.fetch_output import echo_fetched, fetched_document
from vfs.cli.display.merge_output import echo_conflicts
from vfs.cli.opening.cloud_credentials import use_profile
from vfs.cli.opening.open_repository import OpenRepository, open_repository
from vfs.cli.opening.working_layer import perform
from vfs.cli.terminal.output import echo, echo_err, echo_json
from vfs.cli.terminal.progress import FileBar
from vfs.control.messages import MergeArgs, MergeResult, PullArgs, PullResult
from vfs.control.services import MERGE, PULL
from vfs.errors import NotFound
from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.repo.transfer.fetch import Fetched, fetch
from vfs.repo.transfer.pull import finish
from vfs.repo.transfer.remotes import only_remote
from vfs.store.refs.operation import REMOTE_REFS

CONFLICTS_STATUS = 1


@vfs_command(
    "pull",
    "vfs pull                    moves the current branch to where that of `origin` is",
    "vfs pull --rebase           puts the own versions behind it one by one, without a merge",
    "vfs pull disk               from another remote",
    interrupted="`vfs log -n 1` tells where the branch is; pull again to go on.",
)
@click.argument("name", required=False)
@click.option("--rebase", is_flag=True, help="Apply your versions again after the remote's; no merge.")
@limit_option("download")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, name: str | None, rebase: bool, limit: float | None, as_json: bool) -> int:
    """Fetch, then move the branch to where the remote's is.

    Versions that the remote lacks are put after its own: their contents are merged into one new version, whose first
    parent is the remote's newest. The remote's numbers stay. With conflicts the exit status is 1 and the merge is
    unfinished, as after `vfs merge`; `vfs merge --abort` goes back to before the pull.
    """
    use_profile()
    with open_repository(invocation) as opened:
        remote = name if name is not None else only_remote(opened.repository)
        started = time.monotonic()
        with ByteBar("fetching") as progress:
            fetched = fetch(opened.repository, remote, author=author(), progress=progress, pace=pace(limit))
        theirs = opened.repository.refs.get(f"{REMOTE_REFS}{remote}/{opened.branch}")
        if theirs is None:
            raise NotFound(f"{remote} has no branch {opened.branch!r}", hint="Push it there first.")
        if not as_json:
            echo_fetched(remote, fetched)
        done = perform(opened, PULL, PullArgs(theirs, author(), rebase))
        merged = _merge(opened, done) if done.own is not None else None
        if merged is None or merged.state is None:
            finish(opened.repository, opened.branch, author())
        document = fetched_document(remote, fetched, time.monotonic() - started)
        return _report(opened, fetched, done, merged, document if as_json else None)


def _merge(opened: OpenRepository, done: PullResult) -> MergeResult:
    assert done.own is not None
    own = _version(opened, done.own)
    with FileBar("merging") as progress:
        return perform(
            opened, MERGE, MergeArgs(f"your {own.name}", own.id, author(), f"Merge {own.name}"), progress=progress
        )


def _report(
    opened: OpenRepository,
    fetched: Fetched,
    done: PullResult,
    merged: MergeResult | None,
    document: dict[str, object] | None,
) -> int:
    del fetched
    before = _version(opened, done.before) if done.before is not None else None
    has_conflicts = merged is not None and merged.state is not None
    made = merged.id if merged is not None and merged.id is not None else done.after
    after = _version(opened, made) if made is not None else None
    if document is not None:
        document |= {
            "before": before.id.hex() if before is not None else None,
            "after": after.id.hex() if after is not None else None,
            "version": after.commit.number if after is not None else None,
            "merged": done.own.hex() if done.own is not None else None,
            "conflicts": len(merged.left) if merged is not None else 0,
        }
        echo_json(document)
    elif merged is not None and merged.state is not None:
        echo_conflicts(merged.state, merged.left)
        echo_err("  Edit the marks away, or `vfs merge --ours PATH`, `--theirs PATH`, `--resolved PATH`;")
        echo_err("  then `vfs merge --continue`. Ours is the remote's side, theirs is yours.")
    elif after is None or (before is not None and before.id == after.id):
        echo(f"Already up to date: {opened.branch} has all that is there.")
    elif merged is not None and done.own is not None:
        own = _version(opened, done.own)
        echo(f"{opened.branch}: {after.name} {after.id.hex()[:8]} (your {own.name} is merged behind the remote's)")
    else:
        echo(f"{opened.branch}: {after.name} {after.id.hex()[:8]}")
    return CONFLICTS_STATUS if has_conflicts else 0


def _version(opened: OpenRepository, commit_id: CommitId) -> Version:
    return Version(commit_id, opened.repository.store.get_commit(commit_id))
