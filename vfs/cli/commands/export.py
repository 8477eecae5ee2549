"""`vfs export`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vfs.api.result_documents import exported_document
from vfs.cli.arguments.version_or_path import named, version_of
from vfs.cli.command import DirectoryType, Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.opening.locate import path_in
from vfs.cli.opening.open_repository import OpenRepository, open_repository
from vfs.cli.terminal.output import echo, echo_err, echo_json, warn
from vfs.cli.terminal.progress import FileBar
from vfs.formats.quantities import human_count, human_size
from vfs.model.names import show_path
from vfs.model.objects import Kind, Version
from vfs.repo.export.export import export
from vfs.store.trees.directories import resolve_path

LOSSES_STATUS = 1
_LOSSES_SHOWN_MAX = 20


@vfs_command(
    "export",
    "vfs export v3 out                        all of version 3, in a new directory",
    "vfs export paper out images labels.csv   parts of the version tagged `paper`",
    interrupted="No new directory was left behind; with --into, files written so far stay.",
)
@click.argument("version")
@click.argument("directory", metavar="DIR", type=DirectoryType())
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("--into", is_flag=True, help="Add to a directory that is not empty, and replace files of the same name.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation, version: str, directory: Path, paths: tuple[str, ...], into: bool, as_json: bool
) -> int:
    """Write a version as plain files, with times, modes, links, holes and attributes as they were committed.

    A new directory appears when it is complete, or not at all. Exits with 1 when something of the
    version could not be written, such as device nodes without root's rights.
    """
    with open_repository(invocation) as opened:
        if named(opened, version) is None and named(opened, str(directory)) is not None:
            raise click.UsageError(f"The version comes first: `vfs export {directory} {version}`.")
        found = version_of(opened, version)
        wanted = [path_in(opened.place, path) for path in paths]
        with FileBar("exporting") as progress:
            progress.expect(_total_bytes(opened, found, wanted))
            done = export(opened.repository, found, directory, wanted, into_existing=into, progress=progress)
    if as_json:
        echo_json(exported_document(directory, found, done))
    else:
        amount = f"{human_count(done.files, 'file')}, {human_size(done.bytes)}"
        echo(f"Exported {found.name} to {show_path(os.fsencode(directory))}: {amount}")
        if not done.owners_kept:
            echo_err("All files belong to you: only root can give them the owners that the version names.")
    for loss in done.losses[:_LOSSES_SHOWN_MAX]:
        warn(f"{show_path(loss.path)}: {loss.what} was not kept: {loss.reason}")
    if len(done.losses) > _LOSSES_SHOWN_MAX:
        warn(f"and {len(done.losses) - _LOSSES_SHOWN_MAX:,} more losses; --json lists all")
    return LOSSES_STATUS if done.losses else 0


def _total_bytes(opened: OpenRepository, version: Version, paths: list[bytes]) -> int:
    """Returns the total size of the paths; bytes of nested paths count more than once."""
    found = [resolve_path(opened.repository.store, version.commit.root, path).entry for path in paths or [b""]]
    return sum(entry.size for entry in found if entry.kind in (Kind.FILE, Kind.DIR))
