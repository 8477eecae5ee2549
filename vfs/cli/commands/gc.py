"""`vfs gc`."""

from __future__ import annotations

import click
import msgspec

from vfs.api.result_documents import collected_document
from vfs.cli.arguments.author import author
from vfs.cli.command import CountType, DurationType, Invocation, json_option, repository_option, vfs_command
from vfs.cli.display.gc_output import confirm_forgetting, echo_collected, names_of
from vfs.cli.opening.cloud_credentials import use_profile
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.terminal.output import echo, echo_json
from vfs.cli.terminal.progress import StageBar
from vfs.formats.quantities import human_count, human_size
from vfs.repo.retention.gc import GRACE_S, UNDO_S, gc
from vfs.repo.retention.policy import Rules, outside, remember_rules, remembered_rules
from vfs.repo.transfer.remote_sweep import GRACE_S as REMOTE_GRACE_S
from vfs.repo.transfer.remote_sweep import sweep_remote

_COUNT = CountType(min=0)
_HOURS = 3600.0
_DAYS = 24 * _HOURS


@vfs_command(
    "gc",
    "vfs gc --dry-run                         shows what would be removed and how much space that frees",
    "vfs gc                                   removes unreferenced objects; versions stay",
    "vfs gc --keep-last 20 --keep-monthly 12  forgets the other versions first",
    "vfs gc --keep-daily 30 --remember        the same whenever `vfs gc` runs",
    "vfs gc --yes                             without a question; for a crontab",
    "vfs gc --remote origin                   removes what no branch, tag or run of a remote needs",
    interrupted="Versions that were outside of the rules may be forgotten; nothing else is lost. Run it again.",
)
@click.option("--keep-last", type=_COUNT, default=0, metavar="N", help="Keep the newest N versions.")
@click.option("--keep-daily", type=_COUNT, default=0, metavar="N", help="Keep the newest version of N days.")
@click.option("--keep-weekly", type=_COUNT, default=0, metavar="N", help="Keep the newest version of N weeks.")
@click.option("--keep-monthly", type=_COUNT, default=0, metavar="N", help="Keep the newest version of N months.")
@click.option("--keep-tagged", is_flag=True, help="Keep tagged versions, and no others.")
@click.option("--keep-all", is_flag=True, help="Keep all versions; ignore the remembered rules.")
@click.option("--remember", is_flag=True, help="Use these rules whenever `vfs gc` is given none.")
@click.option("--grace", type=DurationType(), metavar="HOURS", help=(
    f"Keep everything that was stored in so many hours ({GRACE_S / _HOURS:g}); "
    f"at a remote, what is not needed for so long ({REMOTE_GRACE_S / _HOURS:g})."))  # fmt: skip
@click.option("--undo", type=DurationType(), default=UNDO_S / _DAYS, show_default=True, metavar="DAYS",
              help="Keep objects that undoing the operations of so many days needs.")  # fmt: skip
@click.option("--thorough", is_flag=True, help="Rewrite every pack that has an unreferenced object.")
@click.option("--remote", "remote", metavar="NAME", help="Sweep a remote, not the repository.")
@click.option("-n", "--dry-run", is_flag=True, help="Change nothing; show what would be removed.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before versions are removed.")
@json_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation,
    keep_last: int,
    keep_daily: int,
    keep_weekly: int,
    keep_monthly: int,
    keep_tagged: bool,
    keep_all: bool,
    remember: bool,
    grace: float | None,
    undo: float,
    thorough: bool,
    remote: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove objects that are no longer referenced.

    Versions, uncommitted changes and operations that can be undone (see --undo) reference objects.
    Versions are removed only by rules, given here or remembered: a version stays if any of them keeps it. Each branch's
    newest version, versions with tags, those that working layers stand on, and those where branches fork or merge
    always stay. Days, weeks and months are UTC. To remove versions without a terminal to ask at, --yes is needed.
    Mounts may read and write meanwhile; a commit may wait for a moment.

    With --remote it fetches, then removes there what no ref leads to; others may push and read meanwhile. What is not
    needed any more is removed --grace hours later, by the next run.
    """
    named = Rules(keep_last, keep_daily, keep_weekly, keep_monthly, keep_tagged)
    if keep_all and not named.is_empty:
        raise click.UsageError("--keep-all goes with no other rule.")
    if remember and named.is_empty and not keep_all:
        raise click.UsageError("--remember needs rules, or --keep-all to remember none.")
    if remote is not None:
        if keep_all or remember or not named.is_empty:
            raise click.UsageError("Versions are forgotten here, then pushed: --remote goes with no rules.")
        grace_s = REMOTE_GRACE_S if grace is None else grace * _HOURS
        _sweep_remote(invocation, remote, grace_s, thorough=thorough, dry_run=dry_run, as_json=as_json)
        return
    with open_repository(invocation) as opened:
        repository = opened.repository
        rules = named if keep_all or not named.is_empty else remembered_rules(repository)
        if not dry_run:
            confirm_forgetting(outside(repository, rules), yes=yes)
            if remember:
                remember_rules(repository, named, author=author())
        with StageBar() as progress:
            found = gc(
                repository,
                rules,
                dry_run=dry_run,
                grace_s=GRACE_S if grace is None else grace * _HOURS,
                undo_s=undo * _DAYS,
                thorough=thorough,
                author=author(),
                progress=progress,
                waiting=progress.waiting,
            )
    if as_json:
        echo_json(collected_document(found, dry_run=dry_run))
        return
    if found.forgotten:
        done = "Would forget" if dry_run else "Forgot"
        echo(f"{done} {human_count(len(found.forgotten), 'version')}: {names_of(found.forgotten)}.")
    echo_collected(found, dry_run=dry_run)


def _sweep_remote(
    invocation: Invocation, name: str, grace_s: float, *, thorough: bool, dry_run: bool, as_json: bool
) -> None:
    use_profile()
    with open_repository(invocation) as opened, StageBar() as progress:
        found = sweep_remote(
            opened.repository,
            name,
            author=author(),
            grace_s=grace_s,
            thorough=thorough,
            dry_run=dry_run,
            progress=progress,
            waiting=progress.waiting,
        )
    if as_json:
        echo_json({"remote": name, "dry_run": dry_run, **msgspec.to_builtins(found)})
        return
    done, gone = ("Would retire", "would remove") if dry_run else ("Retired", "removed")
    echo(
        f"{done} {human_count(found.retired, 'object')} of {name}, {gone} {human_count(found.removed, 'object')} "
        f"({human_size(found.bytes_removed)}): {human_size(found.bytes_before)}, "
        f"{'then' if dry_run else 'now'} {human_size(found.bytes_after)}."
    )
    if found.waiting and not dry_run:
        echo(
            f"{human_count(found.waiting, 'object')} ({human_size(found.bytes_waiting)}) are removed by a run after "
            f"{grace_s / _HOURS:g} hours, if nothing needs them again."
        )
