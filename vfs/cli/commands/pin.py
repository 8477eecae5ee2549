"""`vfs pin`."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from vfs.cli.arguments.version_or_path import version_of
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.opening.open_repository import OpenRepository, open_repository
from vfs.cli.terminal.output import echo, echo_json, echo_raw
from vfs.errors import InvalidInput
from vfs.model.layout import LATEST
from vfs.model.names import show_path
from vfs.repo.pins import PIN_BYTES_MAX, Pin, PinState, decode_pin, encode_pin, pin_of, pin_state

NOT_SAME_STATUS = 1
_NS = 1_000_000_000


@vfs_command(
    "pin",
    "vfs pin v12 > data.pin          beside the code, in its repository",
    "vfs pin --check data.pin        in CI: is that version there, and the same?",
)
@click.argument("version", required=False, metavar="[VERSION]")
@click.option(
    "--check", "file", type=click.Path(path_type=Path), metavar="FILE", help="Compare a pin with the repository."
)
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, version: str | None, file: Path | None, as_json: bool) -> int:
    """Print a file that names a version for ever, or check one.

    The file has the commit's id and its tree's; the number and the branch are for readers, and a moved number is no
    fault. With --check the exit status is 1 where the version is not in the repository, was forgotten, or the file
    was edited.
    """
    if file is not None and version is not None:
        raise click.UsageError("--check takes a FILE and no VERSION.")
    with open_repository(invocation) as opened:
        if file is None:
            named = version_of(opened, version or LATEST)
            time = datetime.fromtimestamp(named.commit.time_ns // _NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            echo_raw(encode_pin(pin_of(named, opened.branch, time)))
            return 0
        return _check(opened, file, as_json=as_json)


def _check(opened: OpenRepository, file: Path, *, as_json: bool) -> int:
    with file.open("rb") as stream:
        data = stream.read(PIN_BYTES_MAX + 1)
    shown = show_path(os.fsencode(file))
    try:
        pin = decode_pin(data)
    except InvalidInput as error:
        raise InvalidInput(f"{shown}: {error.message}", hint=error.hint or "`vfs pin` prints one.") from error
    state = pin_state(opened.repository, pin)
    newest = opened.repository.refs.version_count(pin.branch) if pin.branch else 0
    if as_json:
        echo_json({"file": os.fsdecode(file), "state": state, "commit": pin.commit, "newest": newest})
    else:
        echo(f"{shown}: {_words(pin, state, newest)}")
    return 0 if state in ("same", "moved") else NOT_SAME_STATUS


def _words(pin: Pin, state: PinState, newest: int) -> str:
    name = f"v{pin.version} of {pin.branch} ({pin.commit[:8]})"
    if state == "same":
        newer = newest - pin.version
        return f"{name} is there" + (f"; {newer} newer" if newer > 0 else ", the newest")
    if state == "moved":
        return f"{pin.commit[:8]} is there, no longer as v{pin.version} of {pin.branch}"
    if state == "forgotten":
        return f"{name} was forgotten: its content is gone"
    if state == "missing":
        return f"the repository has no {name}"
    return f"the file was edited: {name} has another tree"
