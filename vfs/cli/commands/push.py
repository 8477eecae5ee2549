"""`vfs push`."""

from __future__ import annotations

import time

import click

from vfs.cli.arguments.author import author
from vfs.cli.arguments.transfer_options import ByteBar, limit_option, pace
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.display.fetch_output import echo_runs, ref_documents
from vfs.cli.opening.cloud_credentials import use_profile
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.terminal.output import echo, echo_json
from vfs.formats.quantities import human_count, human_size
from vfs.repo.repository import Repository
from vfs.repo.transfer.push import Pushed, push
from vfs.repo.transfer.ref_moves import PushedRef
from vfs.repo.transfer.remotes import list_remotes, only_remote
from vfs.store.refs.operation import BRANCHES, RUNS


@vfs_command(
    "push",
    "vfs push                        sends the current branch to `origin`, or to the only remote",
    "vfs push main relabel           sends two branches",
    "vfs push --tags                 and all tags",
    "vfs push --delete relabel       removes a branch there; it stays here",
    "vfs push disk main              to another remote",
    interrupted="The remote is as it was; what was sent stays there, and the next push goes on behind it.",
)
@click.argument("branches", metavar="[REMOTE] [BRANCH]...", nargs=-1)
@click.option("--remote", "name", metavar="NAME", help="The remote, where a branch has its name, too.")
@click.option("--tags", is_flag=True, help="Send all tags, too.")
@click.option("--no-runs", is_flag=True, help="Send no runs.")
@click.option("-d", "--delete", is_flag=True, help="Remove the branches from the remote.")
@click.option("-f", "--force", is_flag=True, help="Remove them even if versions are lost.")
@limit_option("upload")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation,
    branches: tuple[str, ...],
    name: str | None,
    tags: bool,
    no_runs: bool,
    delete: bool,
    force: bool,
    limit: float | None,
    as_json: bool,
) -> None:
    """Send versions to a remote: only what it lacks of them.

    It goes to `origin`, else to the only remote, unless REMOTE is named. All of the branches and tags move, or none. A
    branch of which the remote has versions that are not here is refused; `vfs pull` puts the own versions behind them.
    Protection, forgotten versions, notes and purges go with it; after a purge the remote is swept, and
    `vfs gc --remote` removes the contents for good. Runs go, too, with the uncommitted changes that they read, once the
    versions that they read are there; those of `vfs run --private` stay.
    """
    if delete and (not branches or tags):
        raise click.UsageError("--delete takes branches alone.")
    if force and not delete:
        raise click.UsageError("--force belongs to --delete.")
    use_profile()
    with open_repository(invocation) as opened:
        repository = opened.repository
        remote, branches = _chosen(repository, name, branches)
        if delete and not branches:
            raise click.UsageError("--delete takes branches alone.")
        started = time.monotonic()
        with ByteBar("pushing") as progress:
            done = push(
                repository,
                remote,
                () if delete else branches or (opened.branch,),
                author=author(),
                tags=tags,
                runs=not no_runs and not delete,
                removed=branches if delete else (),
                force=force,
                progress=progress,
                pace=pace(limit),
                waiting=progress.waiting,
            )
        seconds = time.monotonic() - started
    if as_json:
        echo_json(_document(remote, done, seconds))
    elif not done.refs:
        echo(f"{remote} has everything already.")
    else:
        for ref in done.refs:
            if not ref.name.startswith(RUNS):
                echo(f"{_moved(ref)} -> {remote}")
        echo_runs(remote, done.refs)
        rate = human_size(int(done.bytes / max(seconds, 0.001)))
        packs = human_count(done.packs, "pack")
        echo(f"pushed {human_size(done.bytes)} in {packs}, {seconds:.1f} s ({rate}/s)")


def _chosen(repo: Repository, name: str | None, words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Returns the remote and the branches that are meant: a first word that names a remote, and no branch, is it."""
    if name is None and words and words[0] in dict(list_remotes(repo)) and repo.refs.get(BRANCHES + words[0]) is None:
        return words[0], words[1:]
    return name if name is not None else only_remote(repo), words


def _moved(ref: PushedRef) -> str:
    kind, _, name = ref.name.partition("/")
    if ref.new is None:
        return f"{name}: removed, it was v{ref.old_number} {ref.old.hex()[:8] if ref.old is not None else ''}"
    if f"{kind}/" != BRANCHES:
        return f"tag {name}: v{ref.new_number} {ref.new.hex()[:8]}"
    first = ref.old_number + 1
    versions = f"v{ref.new_number}" if first >= ref.new_number else f"v{first}..v{ref.new_number}"
    return f"{name}: {versions} {ref.new.hex()[:8]}"


def _document(remote: str, done: Pushed, seconds: float) -> dict[str, object]:
    return {
        "remote": remote,
        "refs": ref_documents(done.refs),
        "packs": done.packs,
        "bytes": done.bytes,
        "seconds": round(seconds, 3),
        "seq": done.seq,
    }
