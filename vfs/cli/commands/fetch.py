"""`vfs fetch`."""

from __future__ import annotations

import time

import click

from vfs.cli.arguments.author import author
from vfs.cli.arguments.transfer_options import ByteBar, limit_option, pace
from vfs.cli.command import Invocation, json_option, repository_option, vfs_command
from vfs.cli.display.fetch_output import echo_fetched, fetched_document
from vfs.cli.opening.cloud_credentials import use_profile
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.terminal.output import echo, echo_json
from vfs.formats.quantities import human_size
from vfs.repo.transfer.fetch import fetch
from vfs.repo.transfer.remotes import only_remote


@vfs_command(
    "fetch",
    "vfs fetch                   fetches what `origin`, or the only remote, has",
    "vfs fetch disk              fetches what `disk` has",
    "vfs fetch --all             and all contents that are not here yet",
    interrupted="No branch was changed; the next fetch goes on where this one stopped.",
)
@click.argument("name", required=False)
@click.option("--all", "contents", is_flag=True, help="Fetch all contents, in a clone too.")
@click.option("--purged", is_flag=True, help="Fetch versions that were purged here, too.")
@limit_option("download")
@json_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation, name: str | None, contents: bool, purged: bool, limit: float | None, as_json: bool
) -> None:
    """Fetch what a remote has, without changing a branch.

    Its branches are named REMOTE/BRANCH here, its tags by their names. In a clone the contents stay at the remote
    until they are read, unless --all is given; a repository that was not cloned gets all of them.
    """
    use_profile()
    with open_repository(invocation) as opened:
        remote = name if name is not None else only_remote(opened.repository)
        started = time.monotonic()
        with ByteBar("fetching") as progress:
            done = fetch(
                opened.repository,
                remote,
                author=author(),
                contents=True if contents else None,
                purged=purged,
                progress=progress,
                pace=pace(limit),
                waiting=progress.waiting,
            )
        seconds = time.monotonic() - started
    if as_json:
        echo_json(fetched_document(remote, done, seconds))
        return
    echo_fetched(remote, done)
    if not done.refs and not done.bytes:
        echo(f"{remote} has nothing new.")
    else:
        echo(f"fetched {human_size(done.bytes)} in {seconds:.1f} s")
