"""`vfs fsck`."""

from __future__ import annotations

import os

import click

from vfs.api.hints import notice_text
from vfs.api.result_documents import fsck_document
from vfs.cli.command import Invocation, json_option, repository_option, vfs_command
from vfs.cli.opening.locate import find_place
from vfs.cli.opening.open_repository import warn_of_repairs
from vfs.cli.terminal.output import echo, echo_err, echo_json, style
from vfs.cli.terminal.progress import StageBar
from vfs.formats.quantities import human_count, human_size
from vfs.model.names import show_path
from vfs.repo.fsck import Damage, Report, fsck
from vfs.repo.repository import Repository

DAMAGE_STATUS = 1
_VERSIONS_SHOWN = 3


@vfs_command(
    "fsck",
    "vfs fsck repo                          structure: quick, reads no file contents",
    "vfs fsck --read-data repo              every byte against its hash",
    "vfs fsck --rebuild-index repo          rebuilds the index from the packs first",
    "vfs fsck --remote origin               a remote: trees, and that all contents are there",
    interrupted="Nothing was changed, except that an index that was being rebuilt is made at the next use.",
)
@click.argument("named", metavar="[REPO]", required=False)
@click.option("--read-data", is_flag=True, help="Read every byte and check it against its hash.")
@click.option("--rebuild-index", is_flag=True, help="Rebuild the index from packs and log first.")
@click.option("--remote", "remote", metavar="NAME", help="Check a remote, not the repository.")
@json_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation,
    named: str | None,
    read_data: bool,
    rebuild_index: bool,
    remote: str | None,
    as_json: bool,
) -> int:
    """Check a repository. Exits with 0 only without damage; damage is named by version and path.

    Checks packs, index, operation log, and every tree of every version. Repairs nothing but the index. With --remote it
    reads all trees of a remote, and the contents with --read-data.
    """
    if remote is not None and rebuild_index:
        raise click.UsageError("--rebuild-index is of a repository, --remote of another place.")
    place = find_place(named if named is not None else invocation.repository, os.environ.get("VFS_REPO"))
    place.require_there()
    with Repository.open(place.repository) as repository:
        warn_of_repairs(repository)
        with StageBar() as progress:
            if remote is not None:
                report = _check_remote(repository, remote, progress, read_data=read_data)
            else:
                report = fsck(repository, read_data=read_data, rebuild_index=rebuild_index, progress=progress)
    if as_json:
        echo_json(fsck_document(report, notice_text))
    else:
        _echo_report(report, read_data=read_data)
    return 0 if report.is_clean else DAMAGE_STATUS


def _check_remote(repository: Repository, name: str, progress: StageBar, *, read_data: bool) -> Report:
    from vfs.cli.opening.cloud_credentials import use_profile
    from vfs.repo.transfer.remote_check import check_remote

    use_profile()
    return check_remote(repository, name, read_data=read_data, progress=progress, waiting=progress.waiting)


def _echo_report(report: Report, *, read_data: bool) -> None:
    for damage in report.damage:
        echo(f"{style('damaged:', 'red')} {_damage_words(damage)}")
    if report.omitted:
        echo(f"and {report.omitted:,} more")
    for text in report.notes:
        echo_err(f"note: {text}")
    read = f"read {human_size(report.bytes_read)}" if read_data else "contents not read: --read-data does"
    checked = (
        f"{human_count(report.versions, 'version')}, {human_count(report.files, 'file')}, "
        f"{human_count(report.packs, 'pack')}, {human_count(report.objects, 'object')}; {read}"
    )
    if report.is_clean:
        echo(f"All is well: {checked}")
    else:
        count = human_count(len(report.damage) + report.omitted, "damaged place")
        echo(f"{style(count, 'red', 'bold')}: {checked}")
        echo("  What is not named here can be read. `vfs export` saves versions and paths that are whole.")


def _damage_words(damage: Damage) -> str:
    if not damage.versions and damage.path is None:
        return notice_text(damage.reason, damage.hint)
    names = damage.versions
    versions = (
        ", ".join(names) if len(names) <= _VERSIONS_SHOWN else f"{names[0]} to {names[-1]} ({len(names)} versions)"
    )
    where = versions if damage.path is None else f"{versions}: {show_path(damage.path) or '/'}"
    return f"{where}: {notice_text(damage.reason, damage.hint)}"
