"""`vfs forget`."""

from __future__ import annotations

import click

from vfs.api.result_documents import collected_document
from vfs.cli.arguments.author import author
from vfs.cli.arguments.version_or_path import version_of
from vfs.cli.command import Invocation, json_option, repository_option, vfs_command
from vfs.cli.display.gc_output import confirm_forgetting, echo_checked, echo_collected, names_of
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.terminal.output import echo, echo_json
from vfs.cli.terminal.progress import StageBar
from vfs.model.objects import Version
from vfs.repo.retention.gc import forget


@vfs_command(
    "forget",
    "vfs forget v3                   version 3 goes; its number stays taken",
    "vfs forget v3 v4 v5 --yes       several, without a question",
    "vfs forget old --with-tags      a version that has a tag, and the tag",
    "vfs forget v3 --dry-run         shows how much space it frees",
    interrupted="The versions may be gone (`vfs log`); `vfs gc --thorough --grace 0` frees their space then.",
)
@click.argument("versions", nargs=-1, required=True, metavar="VERSION...")
@click.option("--with-tags", is_flag=True, help="Remove tags of these versions too.")
@click.option("-n", "--dry-run", is_flag=True, help="Change nothing; show what would be removed.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation, versions: tuple[str, ...], with_tags: bool, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Remove versions for good. Other versions keep their numbers, ids and content.

    Objects that only these versions had are removed from the packs at once; afterwards every object on disk is checked
    to be referenced. The record of who made the version, when and why stays, and `vfs log` shows it as forgotten. A
    branch's newest version and one that uncommitted changes stand on are refused.
    """
    with open_repository(invocation) as opened:
        repository = opened.repository
        named: list[Version] = list({v.id: v for v in (version_of(opened, word) for word in versions)}.values())
        if not dry_run:
            confirm_forgetting(named, yes=yes)
        with StageBar() as progress:
            found = forget(
                repository,
                named,
                author=author(),
                with_tags=with_tags,
                dry_run=dry_run,
                progress=progress,
                waiting=progress.waiting,
            )
    if as_json:
        echo_json(collected_document(found, dry_run=dry_run))
        return
    echo(f"{'Would forget' if dry_run else 'Forgot'} {names_of(found.forgotten)}.")
    if found.tags:
        echo(f"  Tags that go too: {', '.join(found.tags)}.")
    echo_collected(found, dry_run=dry_run)
    if not dry_run:
        echo_checked(found)
