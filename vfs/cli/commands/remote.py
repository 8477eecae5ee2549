"""`vfs remote`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vfs.backend.locations import parse_location
from vfs.cli.arguments.author import author
from vfs.cli.command import Invocation, json_option, repository_option, vfs_command
from vfs.cli.opening.cloud_credentials import use_profile
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.terminal.columns import echo_table
from vfs.cli.terminal.output import echo, echo_err, echo_json, human_time
from vfs.formats.quantities import human_count
from vfs.remote.format import PushLine
from vfs.remote.probing import WRITERS
from vfs.remote.remote import State
from vfs.remote.settings import RemoteSettings
from vfs.repo.repository import Repository
from vfs.repo.transfer.remotes import (
    add_remote,
    list_remotes,
    open_remote,
    remote_settings,
    remove_remote,
)
from vfs.store.refs.operation import BRANCHES, RUNS


@vfs_command(
    "remote",
    "vfs remote add origin s3://lab/pets                               the bucket `lab`, below `pets`",
    "vfs remote add origin s3://lab/pets --endpoint http://HOST:8333   another service than Amazon's",
    "vfs remote add disk /mnt/usb/pets                                 a directory",
    "vfs remote list                                                   lists the remotes",
    "vfs remote show origin                                            asks it for its branches and pushes",
    "vfs remote remove origin                                          forgets it; what is there stays",
)
@click.argument("action", type=click.Choice(["add", "list", "show", "remove"]), default="list")
@click.argument("name", required=False)
@click.argument("url", required=False)
@click.option("--endpoint", default="", metavar="ADDRESS", help="The service's address, if not the cloud's own.")
@click.option("--region", default="", metavar="NAME", help="The bucket's region (S3).")
@click.option("--single-writer", is_flag=True, help="Take a place without conditional writes: one machine pushes.")
@json_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation,
    action: str,
    name: str | None,
    url: str | None,
    endpoint: str,
    region: str,
    single_writer: bool,
    as_json: bool,
) -> None:
    """Add, list, show or remove remotes, through which a repository is shared.

    URL: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, https://HOST/PATH (read-only) or a directory.
    Credentials are found as the clouds' own tools find them (environment, profiles, the machine's role), and are never
    stored. `add` tests whether the place honours conditional writes while several writers race, and refuses it where it
    does not: two machines that push at once would lose a version.
    """
    _require(action, name, url)
    use_profile()
    with open_repository(invocation) as opened:
        repository = opened.repository
        if action == "add":
            assert name is not None
            assert url is not None
            location = parse_location(url, endpoint=endpoint, region=region, base=Path.cwd())
            state = add_remote(repository, name, location, author=author(), single_writer=single_writer)
            _echo_added(name, remote_settings(repository, name), state, as_json)
        elif action == "remove":
            assert name is not None
            remove_remote(repository, name, author=author())
            if not as_json:
                echo(f"Removed the remote {name}; what it holds stays there.")
        elif action == "show":
            assert name is not None
            _show(repository, name, as_json)
        else:
            _list(repository, as_json)


def _require(action: str, name: str | None, url: str | None) -> None:
    if action == "list" and name is not None:
        raise click.UsageError("`list` takes no NAME; `vfs remote show NAME` shows one.")
    if action != "list" and name is None:
        raise click.UsageError(f"Name the remote: `vfs remote {action} NAME`.")
    if (action == "add") != (url is not None):
        raise click.UsageError("`add` takes a NAME and a URL." if action == "add" else f"`{action}` takes no URL.")


def _document(name: str, settings: RemoteSettings) -> dict[str, Any]:
    return {
        "name": name,
        "url": settings.url,
        "endpoint": settings.endpoint or None,
        "region": settings.region or None,
        "single_writer": settings.single_writer,
    }


def _echo_added(name: str, settings: RemoteSettings, state: State, as_json: bool) -> None:
    if as_json:
        echo_json(_document(name, settings) | {"pushes": state.root.seq})
        return
    count = sum(ref.startswith(BRANCHES) for ref in state.root.refs)
    what = human_count(count, "branch") if count else "empty"
    if settings.single_writer:
        safe = "Conditional writes: not tested. Push from one machine alone."
    elif state.root.seq:
        safe = "It is a remote of this repository already."
    else:
        safe = f"Conditional writes: yes (tested with {WRITERS} racing writers). Safe for many machines."
    echo(f"{name}: {settings.url}, {what}. {safe}")


def _list(repository: Repository, as_json: bool) -> None:
    remotes = list_remotes(repository)
    if as_json:
        for name, settings in remotes:
            echo_json(_document(name, settings))
        return
    if not remotes:
        echo_err("No remotes. `vfs remote add NAME URL` adds one.")
    echo_table([[name, settings.url, settings.endpoint] for name, settings in remotes], styles=("", "", "dim"))


def _show(repository: Repository, name: str, as_json: bool) -> None:
    with open_remote(repository, name) as opened:
        root = opened.read_state().root
    if as_json:
        pushes = [_push_document(line) for line in root.recent]
        echo_json(
            _document(name, opened.settings)
            | {"pushes": root.seq, "refs": root.refs, "protected": list(root.protected), "recent": pushes}
        )
        return
    echo(f"{name}: {opened.settings.url}, {human_count(root.seq, 'push')}")
    runs = sum(ref.startswith(RUNS) for ref in root.refs)
    for ref, commit in sorted(root.refs.items()):
        if ref.startswith(RUNS):
            continue
        mark = " (protected)" if ref in root.protected else ""
        echo(f"  {ref.partition('/')[2]}  {commit[:8]}{mark}")
    if runs:
        echo(f"  {human_count(runs, 'run')}")
    for line in reversed(root.recent):
        names = ", ".join(
            f"{move.name.partition('/')[2]} {f'v{move.new_number}' if move.new else 'removed'}" for move in line.refs
        )
        if line.runs:
            names = ", ".join(filter(None, [names, human_count(line.runs, "run")]))
        echo(f"  {human_time(line.time_ns)}  {line.author}  {names}")


def _push_document(line: PushLine) -> dict[str, Any]:
    return {
        "seq": line.seq,
        "time_ns": line.time_ns,
        "author": line.author,
        "bytes": line.bytes,
        "runs": line.runs,
        "refs": [
            {"name": move.name, "old": move.old or None, "new": move.new or None, "version": move.new_number}
            for move in line.refs
        ],
    }
