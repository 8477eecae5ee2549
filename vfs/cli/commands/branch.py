"""`vfs branch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vfs.cli.arguments.author import author
from vfs.cli.arguments.version_or_path import looks_like_a_version, version_of
from vfs.cli.command import Invocation, json_option, repository_option, vfs_command
from vfs.cli.display.tracked_text import apart_text
from vfs.cli.display.version_format import first_line, short_id
from vfs.cli.opening.open_repository import OpenRepository, open_repository
from vfs.cli.terminal.columns import echo_table
from vfs.cli.terminal.output import echo, echo_err, echo_json, human_time
from vfs.model.layout import LATEST
from vfs.model.objects import Version
from vfs.repo.branches import (
    Branch,
    Tracked,
    create_branch,
    delete_branch,
    list_branches,
    list_remote_branches,
    rename_branch,
    tracked,
)
from vfs.repo.notes import described
from vfs.repo.protection import protect
from vfs.store.refs.operation import BRANCHES

if TYPE_CHECKING:
    from vfs.api.repository_documents import BranchDocument, TrackedDocument


@vfs_command(
    "branch",
    "vfs branch                          lists the branches; * is the current one",
    "vfs branch -v                       and how far those of remotes are from them",
    "vfs branch -r                       lists the branches of remotes, as they were last seen",
    "vfs branch relabel                  makes a branch where this one is: MNT/@/branches/relabel",
    "vfs branch old-labels v3            makes one whose newest version is version 3",
    "vfs branch --rename relabel labels  gives a branch another name",
    "vfs branch --protect main           no commit, no removal, until --unprotect",
    "vfs branch --delete relabel         removes a branch; refused where that would lose something",
)
@click.argument("name", required=False)
@click.argument("version", metavar="[VERSION]", required=False)
@click.option("-d", "--delete", "action", flag_value="delete", help="Remove the branch and its working layer.")
@click.option("-m", "--rename", "action", flag_value="rename", help="Rename NAME; the new name follows it.")
@click.option("--protect", "action", flag_value="protect", help="Keep the branch where it is.")
@click.option("--unprotect", "action", flag_value="unprotect", help="Let the branch move again.")
@click.option("-r", "--remotes", is_flag=True, help="List the branches of remotes, as they were last seen.")
@click.option("-v", "--verbose", is_flag=True, help="List how far the branches of remotes are apart, too.")
@click.option("-f", "--force", is_flag=True, help="Remove it even if changes or versions are lost.")
@json_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation,
    name: str | None,
    version: str | None,
    action: str | None,
    remotes: bool,
    verbose: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Make a branch, or list them. The cost does not depend on the size of the data or of the history.

    Without VERSION the new branch begins at the newest version of the branch you are in. Each branch has a working
    layer of its own; `vfs switch NAME` makes a branch the current one.
    """
    if action is not None and (name is None or (version is None) == (action == "rename")):
        raise click.UsageError(f"--{action} takes NAME" + (" and the new name." if action == "rename" else " alone."))
    if force and action != "delete":
        raise click.UsageError("--force belongs to --delete.")
    if (remotes or verbose) and name is not None:
        raise click.UsageError("--remotes and --verbose belong to the list.")
    if version is not None and action is None and looks_like_a_version(name or ""):
        raise click.UsageError(f"The name comes first: `vfs branch {version} {name}`.")
    with open_repository(invocation) as opened:
        if name is None:
            _list(opened, remotes=remotes, verbose=verbose, as_json=as_json)
        elif action is None:
            start = version_of(opened, version or LATEST)
            create_branch(opened.repository, name, start, author=author())
            if not as_json:
                echo(f"{name} begins at {start.name} {short_id(start.id)}")
                echo_err(f"`vfs switch {name}` goes there; in a mount it is @/branches/{name} as well.")
        else:
            _change(opened, action, name, version or "", force=force, quiet=as_json)
        if as_json and name is not None:
            wanted = version if action == "rename" else name
            for branch in list_branches(opened.repository):
                if branch.name == wanted:
                    echo_json(_document(opened, branch))


def _change(opened: OpenRepository, action: str, name: str, new_name: str, *, force: bool, quiet: bool) -> None:
    repository = opened.repository
    if action in ("delete", "rename"):
        # A mount that has the branch open, but not in its root, closes it.
        from vfs.control.access import release

        release(opened.repository.path, name)
    if action == "delete":
        was = delete_branch(repository, name, author=author(), force=force)
        words = f"Removed the branch {name}; its newest version was {short_id(was)}."
    elif action == "rename":
        rename_branch(repository, name, new_name, author=author())
        words = f"The branch {name} is {new_name} now."
    else:
        on = action == "protect"
        done = protect(repository, BRANCHES + name, author=author(), on=on)
        state = "protected" if on else "not protected"
        words = f"The branch {name} is {state}." if done else f"The branch {name} was {state} already."
    if not quiet:
        echo(words)


def _list(opened: OpenRepository, *, remotes: bool, verbose: bool, as_json: bool) -> None:
    repository = opened.repository
    branches = list_remote_branches(repository) if remotes else list_branches(repository)
    there = {branch.name: tracked(repository, branch.name) for branch in branches} if verbose and not remotes else {}
    if as_json:
        for branch in branches:
            echo_json(_document(opened, branch, there.get(branch.name)))
        return
    echo_table(
        [_row(opened, branch, there.get(branch.name, ())) for branch in branches],
        styles=("", "", "yellow", "dim", "", "cyan", ""),
        droppable=(3, 4) if verbose else (3, 4, 5),
    )


def _row(opened: OpenRepository, branch: Branch, there: Sequence[Tracked] = ()) -> list[str]:
    mark = "*" if branch.is_current else ""
    remarks = ["protected"] if branch.is_protected else []
    remark = "; ".join([*remarks, *(f"{each.name} {apart_text(each)}" for each in there)])
    version = _head(opened, branch)
    if version is None:
        return [mark, branch.name, "no version yet", "", "", remark, ""]
    commit = version.commit
    when, why = human_time(commit.time_ns), first_line(commit.message)
    return [mark, branch.name, version.name, short_id(version.id), when, remark, why]


def _document(opened: OpenRepository, branch: Branch, there: Sequence[Tracked] | None = None) -> BranchDocument:
    from vfs.api.repository_documents import branch_document

    head = _head(opened, branch)
    remotes: list[TrackedDocument] | None = None
    if there is not None:
        remotes = [{"name": each.name, "ahead": each.ahead, "behind": each.behind} for each in there]
    return branch_document(
        branch.name, head, is_current=branch.is_current, is_protected=branch.is_protected, remotes=remotes
    )


def _head(opened: OpenRepository, branch: Branch) -> Version | None:
    if branch.head is None:
        return None
    return described(opened.repository, Version(branch.head, opened.repository.store.get_commit(branch.head)))
