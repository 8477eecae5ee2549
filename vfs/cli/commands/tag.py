"""`vfs tag`."""

from __future__ import annotations

import click

from vfs.api.repository_documents import TagDocument, tag_document
from vfs.cli.arguments.author import author
from vfs.cli.arguments.version_or_path import looks_like_a_version, version_of
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.display.version_format import first_line, short_id
from vfs.cli.opening.open_repository import OpenRepository, open_repository
from vfs.cli.terminal.columns import echo_table
from vfs.cli.terminal.output import echo, echo_err, echo_json, human_time
from vfs.model.ids import CommitId
from vfs.model.layout import LATEST
from vfs.model.objects import Version
from vfs.repo.notes import described
from vfs.repo.protection import protect
from vfs.repo.tags import create_tag, delete_tag, list_tags
from vfs.store.refs.operation import TAGS
from vfs.store.refs.refs import PROTECTED


@vfs_command(
    "tag",
    "vfs tag                         lists the tags",
    "vfs tag paper                   names the newest version `paper`: MNT/@paper",
    "vfs tag baseline v3             names version 3",
    "vfs tag --force paper v5        moves a tag",
    "vfs tag --protect paper         neither --force nor --delete, until --unprotect",
    "vfs tag --delete paper          removes the name; the version stays",
)
@click.argument("name", required=False)
@click.argument("version", required=False)
@click.option("-d", "--delete", "action", flag_value="delete", help="Remove the tag.")
@click.option("--protect", "action", flag_value="protect", help="Keep the tag where it is.")
@click.option("--unprotect", "action", flag_value="unprotect", help="Let the tag move again.")
@click.option("-f", "--force", is_flag=True, help="Move a tag that exists.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation, name: str | None, version: str | None, action: str | None, force: bool, as_json: bool
) -> None:
    """Name a version, or list the names. Without VERSION the newest one is named.

    A tag moves only when told to with --force, and one that is protected not even then.
    """
    if action is not None and (name is None or version is not None):
        raise click.UsageError(f"--{action} takes one NAME and no VERSION.")
    if version is not None and looks_like_a_version(name or ""):
        raise click.UsageError(f"The name comes first: `vfs tag {version} {name}`.")
    with open_repository(invocation) as opened:
        repository = opened.repository
        if name is None:
            _list(opened, as_json=as_json)
        elif action == "delete":
            was = delete_tag(repository, name, author=author())
            if not as_json:
                echo(f"Removed the tag {name}; it named {short_id(was.commit_id)}.")
        elif action is not None:
            on = action == "protect"
            done = protect(repository, TAGS + name, author=author(), on=on)
            if not as_json:
                state = "protected" if on else "not protected"
                echo(f"The tag {name} is {state}." if done else f"The tag {name} was {state} already.")
        else:
            named = version_of(opened, version or LATEST)
            create_tag(repository, name, named, author=author(), replace=force)
            if as_json:
                echo_json(_document(opened, name, named))
            else:
                echo(f"{name} names {named.name} {short_id(named.id)}")


def _version(opened: OpenRepository, commit_id: CommitId) -> Version:
    return described(opened.repository, Version(commit_id, opened.repository.store.get_commit(commit_id)))


def _list(opened: OpenRepository, *, as_json: bool) -> None:
    tags = [(tag.name, _version(opened, tag.commit_id)) for tag in list_tags(opened.repository)]
    if as_json:
        for name, version in tags:
            echo_json(_document(opened, name, version))
        return
    if not tags:
        echo_err("No tags. `vfs tag NAME [VERSION]` makes one.")
    echo_table(
        [
            [
                name,
                version.name,
                short_id(version.id),
                human_time(version.commit.time_ns),
                first_line(version.commit.message),
            ]
            for name, version in tags
        ],
        styles=("", "yellow", "dim", "", ""),
        droppable=(2, 3),
    )


def _document(opened: OpenRepository, name: str, version: Version) -> TagDocument:
    kept = bool(opened.repository.refs.setting(PROTECTED + TAGS + name))
    return tag_document(name, version, is_protected=kept)
