"""`vfs run`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import click

from vfs.cli.arguments.author import author
from vfs.cli.arguments.run_versions import pin_beside, version_or_read
from vfs.cli.command import Invocation, branch_option, key_value_pairs, repository_option, vfs_command
from vfs.cli.commands import runs
from vfs.cli.display.run_output import summary_lines
from vfs.cli.display.version_format import one_line
from vfs.cli.opening.open_repository import OpenRepository, open_repository
from vfs.cli.runs.recorded_run import Wanted, join_run, mount_of_words, record_run
from vfs.cli.runs.repeated_run import repeat_run
from vfs.cli.runs.run_program import Ended, end_as
from vfs.cli.terminal.output import echo_err, flush_output
from vfs.control.mount_points import live_mounts
from vfs.errors import InvalidInput
from vfs.model.objects import Version
from vfs.repo.runs.sealing import seal_abandoned


@vfs_command(
    "run",
    "vfs run -- python train.py --data /mnt/data --lr 0.01",
    "vfs run --at v12 -- python train.py --data /mnt/data     the path shows version 12 to the program",
    "vfs run --at v12 -- python train.py --data {data}        the same by a path, where views are not allowed",
    "vfs run --out model.onnx --metrics metrics.json -- make  also what it writes elsewhere",
    "vfs run --again r17                                      same version, same code: bit for bit?",
    "vfs run --join r17 -- python worker.py                   a worker that another program starts",
    interrupted="The record of the run is sealed by the next `vfs run` or `vfs runs`.",
)
@click.argument("words", metavar="-- COMMAND [ARGUMENT]...", nargs=-1, type=click.UNPROCESSED)
@click.option("--at", "version", metavar="VERSION", help="Show this version to the program at the mount's path.")
@click.option("--no-pin", is_flag=True, help="Ignore a pin file beside the code.")
@click.option("--out", "outputs", metavar="PATH", multiple=True, help="A file or directory that the program writes.")
@click.option("--param", "params", metavar="NAME=VALUE", multiple=True, callback=key_value_pairs, help="A parameter.")
@click.option("--metrics", metavar="FILE", help="A JSON file with metrics, read when the program has ended.")
@click.option("--private", "is_private", is_flag=True, help="Record no arguments, directory, host, user and output.")
@click.option("--again", "repeated", metavar="RUN", help="Repeat a run on its version with its code, and compare.")
@click.option("--join", "joined", metavar="RUN", help="Record the program as a part of a run that goes on.")
@branch_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation,
    words: tuple[str, ...],
    version: str | None,
    no_pin: bool,
    outputs: tuple[str, ...],
    params: Mapping[str, str],
    metrics: str | None,
    is_private: bool,
    repeated: str | None,
    joined: str | None,
) -> None:
    """Run a program, and record what it reads and writes, its code, its environment and what came of it.

    The program needs no change: the mount sees what it opens, in all of its processes. Terminal, signals and exit
    status are its own. It writes metrics into the file that VFS_METRICS names, as lines like `accuracy=0.93` or JSON,
    or by `vfs.log(accuracy=0.93)` in Python. {data} in an argument, and VFS_DATA, are the path of the data. A file
    `*.pin` of `vfs pin`, here or in the root of the code, stands for --at.
    """
    if words[:1] == ("export",) and shutil.which("export") is None:
        _export(words)
        return
    if repeated is not None and (version or outputs or params or metrics or is_private or joined):
        raise click.UsageError("--again takes all from the record: leave the other options out.")
    if not words and repeated is None:
        raise click.UsageError("Name the program: `vfs run -- python train.py`.")
    if joined is not None and (version or outputs or params or metrics or is_private):
        raise click.UsageError("--join takes the program alone: the record is that of the run.")
    _choose_repository(invocation, words)
    with open_repository(invocation) as opened:
        ended: Ended
        if joined is not None:
            ended = join_run(opened, joined, words)
        elif repeated is not None:
            flush_output()
            done = repeat_run(opened, repeated, words, os.getcwd())
            ended = done.ended
            for line in summary_lines(done.new):
                echo_err(line)
            echo_err(f"{done.new.name} repeats {done.old.name}: {done.verdict}")
            for text in done.differing:
                echo_err(f"  {one_line(text)}")
        else:
            seal_abandoned(opened.repository, author())
            here = os.getcwd()
            wanted = Wanted(
                words,
                here,
                _version(opened, version, words, here, no_pin=no_pin),
                [os.path.join(here, path) for path in outputs],
                params,
                os.path.join(here, metrics) if metrics is not None else "",
                is_private,
            )
            flush_output()
            _, record, ended = record_run(opened, wanted)
            if ended.failure:
                echo_err(f"vfs: {words[0]}: {ended.failure}")
            for line in summary_lines(record):
                echo_err(line)
    end_as(ended)
    click.get_current_context().exit(ended.exit_status)


def _export(words: tuple[str, ...]) -> None:
    """Does `vfs runs export`: there is no program of that name."""
    listing = runs.command
    with listing.make_context("runs", list(words), parent=click.get_current_context()) as context:
        listing.invoke(context)


def _version(
    opened: OpenRepository, named: str | None, words: tuple[str, ...], here: str, *, no_pin: bool
) -> Version | None:
    """Returns the version that the program is to see, None for the working layer."""
    if named is not None or no_pin:
        return version_or_read(opened, named) if named is not None else None
    pinned = pin_beside(opened, words, here)
    if pinned is None:
        return None
    path, version = pinned
    echo_err(f"{one_line(os.path.relpath(path, here))} pins {opened.repository.describe(version.id, opened.branch)}")
    return version


# Options stand before the program; what follows it is its own.
command.allow_interspersed_args = False


def _choose_repository(invocation: Invocation, words: tuple[str, ...]) -> None:
    """Works on the mount that the program's arguments name, else on the one around, else on the only one."""
    if invocation.repository is not None:
        return
    mount = mount_of_words(words)
    if mount is None and not os.environ.get("VFS_REPO"):
        mounts = live_mounts()
        places = {one.repository for one in mounts}
        here = Path(os.getcwd())
        if any(here.is_relative_to(one.path) for one in mounts) or any(here.is_relative_to(place) for place in places):
            return
        if len(places) > 1:
            raise InvalidInput(
                "several repositories are mounted, and the command names a path in none",
                hint="Name one: `vfs --repo MNT run -- …`.",
            )
        mount = mounts[-1] if mounts else None
    if mount is not None:
        invocation.repository = str(mount.path)
