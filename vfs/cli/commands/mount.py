"""`vfs mount`; the only command that imports the event loop and the FUSE binding, where the extra `mount` is there."""

from __future__ import annotations

import importlib
import os
import shlex
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import click

from vfs.cli.arguments.transfer_options import SizeType, set_cache_bound
from vfs.cli.command import DirectoryType, vfs_command
from vfs.cli.mounting.mirror_mount import MirrorOptions, mirroring, preload
from vfs.cli.mounting.readiness import tell_systemd
from vfs.cli.opening.cloud_credentials import use_profile
from vfs.cli.opening.locate import named_repository
from vfs.cli.opening.open_repository import warn_of_repairs
from vfs.cli.terminal.output import echo, style, warn
from vfs.control.access import release
from vfs.control.mount_table import read_table
from vfs.errors import Unsupported
from vfs.fuse.known_inode_count import NAMES_MAX
from vfs.fuse.session.daemon import Ready, detach
from vfs.fuse.session.log_format import log_to_stderr
from vfs.fuse.session.mount_options import MountOptions
from vfs.fuse.session.supervisor import Ended, supervised
from vfs.model.layout import LATEST
from vfs.model.names import show_path
from vfs.repo.paths import daemon_log
from vfs.repo.repository import Repository
from vfs.store.object_store import CACHE_BYTES

MIB = 1024 * 1024
_POLL_S = 60.0
CACHE_MIB_MIN = 4
"""Less would not hold what one request needs."""


@vfs_command(
    "mount",
    "vfs mount repo data                      writable, returns when the mount answers",
    "vfs mount --branch relabel repo data     this branch, whatever `vfs switch` says later",
    "vfs mount --read-only repo data          nothing to write; many may stand beside a writable one",
    "vfs mount --foreground repo data         for systemd and containers; Ctrl-C or SIGTERM ends it",
    "vfs mount s3://lab/pets data             a remote, without a repository; its new versions appear",
    interrupted="If the mount is there already, `vfs umount MNT` ends it.",
)
@click.argument("repo")
@click.argument("mountpoint", metavar="MNT", type=DirectoryType(is_asked=False))
@click.option("-b", "--branch", metavar="NAME", help="Show this branch; else the current one.")
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground and log to standard error.")
@click.option("-r", "--read-only", is_flag=True, help="The newest version in place of the working layer.")
@click.option("--allow-other", is_flag=True, help="Let other users in; permissions still apply.")
@click.option("--dev", is_flag=True, help="Let device nodes work.")
@click.option("--suid", is_flag=True, help="Let set-user-id and set-group-id bits work.")
@click.option(
    "--cache",
    "cache_mib",
    metavar="MIB",
    type=click.IntRange(CACHE_MIB_MIN),
    default=CACHE_BYTES // MIB,
    show_default=True,
    help="Memory for the cache of decompressed data.",
)
@click.option(
    "--names",
    "names_max",
    metavar="N",
    type=click.IntRange(1000),
    default=NAMES_MAX,
    show_default=True,
    help="Names of the working layer in memory, 700 bytes each; of versions four times as many.",
)
@click.option("--see-opens", is_flag=True, help="Ask the daemon at each open in a read-only mount; `vfs run` needs it.")
@click.option("--no-takeover", is_flag=True, help="No second daemon takes over when the daemon is killed.")
@click.option("--fuse-fd", metavar="N", type=click.IntRange(0), help="Serve a mount that was made, by its /dev/fuse.")
@click.option("--log-json", is_flag=True, help="Write the log as JSON, one object a line.")
@click.option("--list-versions", is_flag=True, help="List @v1, @v2, … in the root, not only when asked for.")
@click.option("--cache-disk", type=SizeType(), metavar="SIZE", help="Disk for contents of remotes, as 50G; else 10G.")
@click.option("--write", "is_writable", is_flag=True, help="URL: with a working layer, kept in the cache directory.")
@click.option("--endpoint", default="", metavar="ADDRESS", help="URL: the service's address, if not the cloud's own.")
@click.option("--region", default="", metavar="NAME", help="URL: the bucket's region (S3).")
@click.option(
    "--cache-dir", type=DirectoryType(), metavar="DIR", help="URL: where its copy is kept; else ~/.cache/vfs."
)
@click.option(
    "--poll",
    "poll_s",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    default=None,
    help="URL: how often to look for new versions; else 60.",
)
def command(
    repo: str,
    mountpoint: Path,
    branch: str | None,
    foreground: bool,
    read_only: bool,
    allow_other: bool,
    dev: bool,
    suid: bool,
    cache_mib: int,
    names_max: int,
    see_opens: bool,
    no_takeover: bool,
    fuse_fd: int | None,
    log_json: bool,
    list_versions: bool,
    cache_disk: int | None,
    is_writable: bool,
    endpoint: str,
    region: str,
    cache_dir: Path | None,
    poll_s: float | None,
) -> None:
    """Show a repository as a directory: the working layer to write in, and every version as MNT/@vN.

    It is the current branch's, also after `vfs switch`, or the one that --branch names. The other branches' working
    layers are MNT/@/branches/NAME.

    Set-user-id bits and device nodes have no effect unless asked for. Uncommitted changes survive unmounting. If the
    daemon is killed, another one takes the mount over (Linux 6.9), and open files go on. With --foreground the daemon
    is a child, which unmounts when this process is killed. A mount that is dead is cleaned up first.

    A URL (s3://BUCKET/PREFIX and the others of `vfs remote`) is mounted without a repository: read-only unless --write
    is given, and contents come when they are read. All such mounts of a user share one cache.
    """
    use_profile()
    mirror = MirrorOptions(repo, endpoint, region, cache_dir, branch, is_writable)
    daemon, repository = _prepared(mirror, repo, poll_s)
    follow_s = 0.0 if is_writable or not mirror.is_url else poll_s or _POLL_S
    read_only = not is_writable if mirror.is_url else read_only
    if cache_disk is not None:
        set_cache_bound(repository, cache_disk)
    target = Path(os.path.abspath(mountpoint))
    options = MountOptions(
        branch=branch,
        read_only=read_only,
        allow_other=allow_other,
        dev=dev,
        suid=suid,
        list_versions=list_versions,
        cache_bytes=cache_mib * MIB,
        names_max=names_max,
        see_opens=see_opens,
        follow_s=follow_s,
        survives=not no_takeover,
        connection=_connection(fuse_fd),
        log_json=log_json,
    )
    shown = _branch_to_show(repository, branch, is_writable=not read_only)
    if foreground:
        _serve_here(repository, mountpoint, options)
        return
    daemon = _daemon()

    def serve(ready: Ready) -> None:
        daemon.run_mount(repository, target, options, ready)

    for notice in detach(serve, daemon_log(repository, shown), log_json=log_json):
        warn(notice)
    _echo_next_steps(repository, mountpoint, read_only=read_only)


def _connection(number: int | None) -> int | None:
    """Returns the descriptor of a FUSE connection, checked. Raises a usage error for another one."""
    if number is None:
        return None
    try:
        is_fuse = os.readlink(f"/proc/self/fd/{number}") == "/dev/fuse"
    except OSError:
        is_fuse = False
    if not is_fuse:
        raise click.BadParameter(f"descriptor {number} is not an open /dev/fuse", param_hint="--fuse-fd")
    os.set_inheritable(number, False)
    return number


def _prepared(mirror: MirrorOptions, repo: str, poll_s: float | None) -> tuple[ModuleType, Path]:
    """Returns what serves the kernel, and the repository that is named, or the copy of a URL's."""
    if not mirror.is_url:
        mirror.require_none(poll_s)
        return _daemon(), named_repository(repo, read_table())
    with mirroring(mirror) as wait:
        daemon = _daemon()
        preload(mirror.url)
        return daemon, wait()


def _serve_here(repository: Path, mountpoint: Path, options: MountOptions) -> None:
    """Serves as long as this process lives, until the mount ends."""
    target = Path(os.path.abspath(mountpoint))

    def answer() -> None:
        # Warnings about the start are in the log, which goes to standard error as well.
        echo(f"Mounted at {show_path(os.fsencode(mountpoint))}.")
        tell_systemd(f"READY=1\nSTATUS=Serving {repository} at {target}.")

    supervisor = os.getpid()
    try:
        answered = supervised(answer)
    except Ended as ended:
        raise click.exceptions.Exit(ended.status) from None
    log_to_stderr("%(asctime)s %(levelname)s %(message)s", as_json=options.log_json)
    options = replace(options, supervisor=supervisor)
    _daemon().run_mount(repository, target, options, lambda _: answered())


class NoMounts(Unsupported):
    """The libraries that a mount needs are not installed."""

    code = "no-mounts"


def _daemon() -> ModuleType:
    """Imports what serves the kernel. Raises NoMounts where this package was installed without it."""
    try:
        return importlib.import_module("vfs.fuse.mount")
    except ModuleNotFoundError as error:
        if error.name not in ("pyfuse3", "trio"):
            raise
        raise NoMounts(
            f"mounts need the Python library {error.name}, which is not installed",
            hint="Install them: pip install 'vfs-versions[mount]'. Everything but mounts works without it.",
        ) from None


def _branch_to_show(path: Path, named: str | None, *, is_writable: bool) -> str:
    """Returns the branch that the mount begins with, released by other mounts if it `is_writable`; warns of repairs."""
    with Repository.open(path) as repository:
        warn_of_repairs(repository)
        branch = named if named is not None else repository.current_branch
        repository.require_branch(branch)
    if is_writable:
        # Another mount that has the branch open, but not in its root, closes it.
        release(path, branch)
    return branch


def _echo_next_steps(repository: Path, mountpoint: Path, *, read_only: bool) -> None:
    shown = shlex.quote(show_path(os.fsencode(mountpoint)))
    echo(f"Mounted {show_path(os.fsencode(repository))} at {shown}.")
    latest = os.path.lexists(mountpoint / f"@{LATEST}")
    steps = []
    if not read_only:
        steps.append((f"cp -r DIR {shown}/", "an ordinary directory to work in"))
        steps.append((f"cd {shown} && vfs commit -m WHY", "keep it as the next version"))
    if latest:
        steps.append((f"ls {shown}/@latest/", "the newest version; all are in @/versions"))
    steps.append((f"vfs umount {shown}", "ends it" if read_only else "uncommitted changes are kept"))
    width = max(len(words) for words, _ in steps)
    for words, why in steps:
        echo(f"  {words.ljust(width)}  {style('# ' + why, 'dim')}")
