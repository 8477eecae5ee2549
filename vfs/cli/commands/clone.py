"""`vfs clone`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from vfs.backend.locations import parse_location
from vfs.cli.arguments.author import author
from vfs.cli.arguments.transfer_options import ByteBar, limit_option, pace
from vfs.cli.command import CountType, DirectoryType, Invocation, json_option, vfs_command
from vfs.cli.display.fetch_output import fetched_document
from vfs.cli.opening.cloud_credentials import use_profile
from vfs.cli.terminal.output import echo, echo_json
from vfs.formats.quantities import human_count, human_size
from vfs.repo.transfer.clone import clone
from vfs.repo.transfer.remotes import DEFAULT


@vfs_command(
    "clone",
    "vfs clone s3://lab/pets                  makes the repository `pets`; contents come when they are read",
    "vfs clone s3://lab/pets data --all       makes `data`, with all contents of all versions",
    "vfs clone /mnt/usb/pets --depth 1        with the contents of the newest version",
    interrupted="The same command goes on where this one stopped.",
)
@click.argument("url")
@click.argument("directory", type=DirectoryType(), required=False)
@click.option("--endpoint", default="", metavar="ADDRESS", help="The service's address, if not the cloud's own.")
@click.option("--region", default="", metavar="NAME", help="The bucket's region (S3).")
@click.option("--all", "contents", is_flag=True, help="Fetch all contents now.")
@click.option("--depth", type=CountType(min=1), default=None, metavar="N", help="Fetch contents of N versions.")
@click.option("-b", "--branch", default=None, metavar="NAME", help="The branch to begin with; else main.")
@limit_option("download")
@json_option
@click.pass_obj
def command(
    _invocation: Invocation,
    url: str,
    directory: Path | None,
    endpoint: str,
    region: str,
    contents: bool,
    depth: int | None,
    branch: str | None,
    limit: float | None,
    as_json: bool,
) -> None:
    """Make a repository from a remote, which is its remote `origin`.

    All versions are there at once: `ls`, `log`, `diff` and a mount need nothing more. Contents of files come when they
    are read, unless --all or --depth fetches them now.
    """
    if contents and depth is not None:
        raise click.UsageError("--all and --depth exclude each other.")
    location = parse_location(url, endpoint=endpoint, region=region, base=Path.cwd())
    name = location.url.rstrip("/").rpartition("/")[2]
    path = Path(os.path.abspath(directory if directory is not None else name))
    use_profile()
    started = time.monotonic()
    with ByteBar("cloning") as progress:
        done = clone(
            location,
            path,
            author=author(),
            contents=contents,
            depth=depth or 0,
            branch=branch,
            progress=progress,
            pace=pace(limit),
        )
    seconds = time.monotonic() - started
    if as_json:
        head = done.head
        echo_json(
            fetched_document(DEFAULT, done.fetched, seconds)
            | {
                "path": str(path),
                "branch": done.branch,
                "version": head.commit.number if head is not None else None,
                "id": head.id.hex() if head is not None else None,
                "bytes": done.bytes,
            }
        )
        return
    if done.head is None:
        echo(f"cloned {path.name}: the remote has no version of {done.branch} yet")
        return
    count = human_count(done.head.commit.number, "version")
    rest = done.fetched.bytes_elsewhere
    later = f" of {human_size(rest + done.fetched.bytes)}, the rest comes when it is read" if rest else ""
    echo(f"cloned {count} of {done.branch}: {human_size(done.bytes)}{later}; {seconds:.1f} s")
