"""The repository behind a mount of an address: a mirror in the user's cache directory."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import msgspec

from vfs.backend.locations import parse_location
from vfs.backend.object_storage import load_client
from vfs.cli.arguments.transfer_options import ByteBar
from vfs.cli.terminal.output import warn
from vfs.errors import Hint, Unsupported, VfsError, describe_error


class MirrorOptions(msgspec.Struct, frozen=True):
    """What `vfs mount URL` was asked for. `cache`: the directory of caches; None: the user's."""

    url: str
    endpoint: str
    region: str
    cache: Path | None
    branch: str | None
    is_writable: bool

    @property
    def is_url(self) -> bool:
        """True for an address; False for a repository's directory."""
        return "://" in self.url

    def require_none(self, poll_s: float | None) -> None:
        """Raises a usage error where options of a URL were given for a repository."""
        if self.is_writable or self.endpoint or self.region or self.cache is not None or poll_s is not None:
            raise click.UsageError("--write, --endpoint, --region, --cache-dir and --poll are for the mount of a URL.")


class _Report(msgspec.Struct):
    """What the process that makes the mirror tells the one that mounts."""

    path: str = ""
    stale: str = ""
    code: str = ""
    message: str = ""
    hint: Hint | str = ""
    exit_status: int = 0


class MirrorFailed(VfsError):
    """The mirror could not be made; has the code and exit status of the error."""

    def __init__(self, report: _Report) -> None:
        super().__init__(report.message, hint=report.hint)
        self.code = report.code
        self.exit_status = report.exit_status


@contextmanager
def mirroring(options: MirrorOptions) -> Iterator[Callable[[], Path]]:
    """Begins to make the mirror of an address, or to update it; yields what waits for its directory.

    Warns where it is stale. The work is done by another process, which ends with the context: it starts threads, and
    the daemon is forked from this process, since threads are not. Meanwhile this process imports what a mount needs.
    """
    child, reading = _start_child(lambda: _make(options))
    is_running = True

    def wait() -> Path:
        nonlocal is_running
        with open(reading, "rb", closefd=False) as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
        is_running = False
        if not answer:
            raise MirrorFailed(
                _Report(code="mirror", message="reading the remote ended without an answer", exit_status=3)
            )
        report = msgspec.msgpack.decode(answer, type=_Report)
        if report.exit_status:
            raise MirrorFailed(report)
        if report.stale:
            warn(f"the remote does not answer ({report.stale}): what was fetched before is shown")
        return Path(report.path)

    try:
        yield wait
    finally:
        os.close(reading)
        if is_running:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)


def preload(url: str) -> None:
    """Imports what the daemon reads a remote with: what is imported before it is forked, it has at its first read."""
    if not url.startswith("file:"):
        with suppress(Unsupported):
            load_client()


def _cache_directory() -> Path:
    """Returns the user's directory of caches of this program."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "vfs"


def _make(options: MirrorOptions) -> _Report:
    from vfs.repo.transfer.mirror import open_mirror

    location = parse_location(options.url, endpoint=options.endpoint, region=options.region)
    cache = options.cache if options.cache is not None else _cache_directory()
    with ByteBar("reading the remote") as progress:
        mirror = open_mirror(
            location,
            Path(os.path.abspath(cache)),
            branch=options.branch,
            writable=options.is_writable,
            progress=progress,
            waiting=progress.waiting,
        )
    return _Report(path=str(mirror.path), stale=mirror.stale)


def _start_child(work: Callable[[], _Report]) -> tuple[int, int]:
    """Starts work in another process; returns the process, and the descriptor that its report comes from."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(reading)
            try:
                report = work()
            except VfsError as error:
                report = _Report("", "", error.code, error.message, error.hint, error.exit_status)
            except OSError as error:
                report = _Report("", "", "os", describe_error(error)[0], "", 3)
            with open(writing, "wb") as pipe:
                pipe.write(msgspec.msgpack.encode(report, enc_hook=str))
            status = 0
        except KeyboardInterrupt:
            status = 130
        finally:
            # Nothing of the parent's is ended or written a second time.
            os._exit(status)
    os.close(writing)
    return child, reading
