"""`vfs warm`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from vfs.cli.arguments.transfer_options import ByteBar, SizeType, limit_option, pace, set_cache_bound
from vfs.cli.arguments.version_or_path import split_arguments, version_of
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.opening.locate import path_in
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.terminal.output import echo, echo_json
from vfs.errors import InvalidInput
from vfs.formats.quantities import human_count, human_size
from vfs.model.layout import LATEST
from vfs.repo.transfer.byte_transfer import Movement
from vfs.repo.transfer.warm import warm

_PATHS_MAX = 10_000


@vfs_command(
    "warm",
    "vfs warm train                        prefetches a directory of the newest version",
    "vfs warm v3 train labels.csv          of version 3",
    "vfs warm --order epoch1.txt           the files that a list names, in its order",
    "shuf list | vfs warm --order -        from standard input",
    interrupted="What came stays in the cache; the same command goes on where this one stopped.",
)
@click.argument("words", metavar="[VERSION] [PATH]...", nargs=-1)
@click.option(
    "--order", metavar="FILE", default=None, help="Files to fetch, a path a line, in their order; - is stdin."
)
@click.option("--cache-disk", type=SizeType(), metavar="SIZE", default=None, help="The cache's bound, as 50G.")
@limit_option("download")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation,
    words: tuple[str, ...],
    order: str | None,
    cache_disk: int | None,
    limit: float | None,
    as_json: bool,
) -> None:
    """Prefetch contents of a remote into the cache.

    All mounts and programs that use the repository read them from there. Without a PATH: everything that the version
    has below the current directory. What is in the cache already is not fetched again.
    """
    with open_repository(invocation) as opened:
        if cache_disk is not None:
            set_cache_bound(opened.repository.path, cache_disk)
        versions, paths = split_arguments(opened, words, paths_max=_PATHS_MAX)
        version = (versions or [version_of(opened, LATEST)])[0]
        if order is not None:
            if paths:
                raise click.UsageError("--order names the files: give no PATH beside it.")
            paths = [path_in(opened.place, line) for line in _lines(order)]
        elif not paths:
            paths = [path_in(opened.place, ".")]
        started = time.monotonic()
        with ByteBar("warming") as progress:
            done = warm(opened.repository, version.commit.root, paths, movement=Movement(progress, pace(limit)))
        seconds = time.monotonic() - started
    if as_json:
        echo_json({"files": done.files, "needed": done.needed, "bytes": done.bytes, "seconds": round(seconds, 3)})
    elif not done.needed:
        echo(f"{human_count(done.files, 'file')}: all contents are in the repository")
    else:
        echo(f"{human_count(done.files, 'file')}: {human_size(done.bytes)} are in the cache now; {seconds:.1f} s")


def _lines(order: str) -> list[str]:
    raw = sys.stdin.buffer.read() if order == "-" else Path(order).read_bytes()
    lines = [os.fsdecode(line) for line in raw.splitlines() if line]
    if not lines:
        raise InvalidInput(f"{order} names no file", hint="Write one path a line, relative to the current directory.")
    return lines
