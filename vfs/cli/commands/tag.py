"""`vfs tag`."""

from __future__ import annotations

import click

from vfs.cli.author import author
from vfs.cli.output import human_time, note, say, say_json, say_table
from vfs.cli.reach import Opened, opened
from vfs.cli.verb import Invocation, json_option, repository_option, verb
from vfs.cli.versions import first_line, short_id
from vfs.model.objects import Version
from vfs.repo.tagging import create_tag, delete_tag, list_tags


@verb(
    "tag",
    "vfs tag                         lists the tags",
    "vfs tag paper                   names the newest version `paper`: MNT/@paper",
    "vfs tag baseline v3             names version 3",
    "vfs tag --force paper v5        moves a tag",
    "vfs tag --delete paper          removes the name; the version stays",
)
@click.argument("name", required=False)
@click.argument("version", required=False)
@click.option("-d", "--delete", is_flag=True, help="Remove the tag.")
@click.option("-f", "--force", is_flag=True, help="Move a tag that exists.")
@json_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation, name: str | None, version: str | None, delete: bool, force: bool, as_json: bool
) -> None:
    """Name a version, or list the names. Without VERSION the newest one is named."""
    if delete and (name is None or version is not None):
        raise click.UsageError("--delete takes one NAME and no VERSION.")
    with opened(invocation) as at:
        repository = at.repository
        if name is None:
            _list(at, as_json=as_json)
        elif delete:
            was = delete_tag(repository, name, author=author())
            if not as_json:
                say(f"Removed the tag {name}; it named {short_id(was.commit_id)}.")
        else:
            named = repository.resolve(version or "latest")
            create_tag(repository, name, named, author=author(), replace=force)
            if as_json:
                say_json(_tag_json(at, name, named))
            else:
                say(f"{name} names {named.name} {short_id(named.id)}")


def _list(at: Opened, *, as_json: bool) -> None:
    tags = [(tag.name, Version(tag.commit_id, at.repository.store.get_commit(tag.commit_id)))
            for tag in list_tags(at.repository)]  # fmt: skip
    if as_json:
        for name, version in tags:
            say_json(_tag_json(at, name, version))
        return
    if not tags:
        note("No tags. `vfs tag NAME [VERSION]` makes one.")
    say_table(
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
    )


def _tag_json(at: Opened, name: str, version: Version) -> dict[str, str]:
    return {"tag": name, "version": version.name, "id": version.id.hex()}
