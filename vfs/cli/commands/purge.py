"""`vfs purge`."""

from __future__ import annotations

import click

from vfs.api.result_documents import purged_document
from vfs.cli.arguments.author import author
from vfs.cli.arguments.version_or_path import exists, looks_like_a_version
from vfs.cli.command import Invocation, json_option, repository_option, vfs_command
from vfs.cli.display.gc_output import confirm, echo_checked, echo_collected
from vfs.cli.opening.locate import path_in
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.terminal.output import echo, echo_json
from vfs.cli.terminal.progress import StageBar
from vfs.control.access import release
from vfs.formats.quantities import human_count, human_size
from vfs.model.names import show_path
from vfs.overlay.object_references import layers
from vfs.repo.retention.purge import Purged, purge


@vfs_command(
    "purge",
    "vfs purge people/ann.jpg                 the file leaves every version of every branch and tag",
    "vfs purge faces labels.csv --dry-run     shows which versions have them",
    "vfs purge faces --yes                    a directory with its contents, without a question",
    interrupted="Nothing was changed, or it is half done: run it again, which finishes it.",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-n", "--dry-run", is_flag=True, help="Change nothing; show which versions have the paths.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, paths: tuple[str, ...], dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove files or directories from every version, for good, as if they had never been there.

    Versions that had them, and those that came after, get other ids; numbers, times, authors and messages stay. Objects
    that only they had are removed at once; then every object on disk is checked to be referenced. Copies
    of a file under other names are other files. Branches must not be mounted for writing or have uncommitted changes,
    and no operation before it can be undone afterwards. Names stay in commit messages, in the
    operation log, and in the commands, outputs and patches that records of runs have.
    """
    with open_repository(invocation) as opened:
        wanted = [path_in(opened.place, path) for path in paths]
        for word, path in zip(paths, wanted, strict=True):
            if looks_like_a_version(word) and not exists(opened, path):
                raise click.UsageError(f"{word} is a version: `vfs forget {word}` removes it; ./{word} is a path.")
        shown = ", ".join(show_path(path) for path in wanted)
        if not dry_run:
            for directory in layers(opened.repository.work):
                # Raises Busy, with the mount's path, where a mount has the branch in its root.
                release(opened.repository.path, directory.name)
            confirm(f"Take {shown} out of every version, for good?", yes=yes)
        with StageBar() as progress:
            found = purge(
                opened.repository,
                wanted,
                author=author(),
                dry_run=dry_run,
                progress=progress,
                waiting=progress.waiting,
            )
    if as_json:
        echo_json(purged_document(found, dry_run=dry_run))
        return
    _echo(found, shown, dry_run=dry_run)


def _echo(found: Purged, shown: str, *, dry_run: bool) -> None:
    count = human_count(len(found.versions), "version")
    size = f"{human_count(found.files, 'file')}, {human_size(found.bytes)}, counted in each version"
    if dry_run:
        echo(f"Would take {shown} out of {count}: {size}." if found.versions else f"No version has {shown}.")
        return
    echo(f"Took {shown} out of {count}: {size}. {human_count(found.rewritten, 'commit')} have new ids.")
    if found.swept is not None:
        echo_collected(found.swept, dry_run=False)
        echo_checked(found.swept)
