"""Real mounts for tests: each in a process of its own, always unmounted, the repository checked at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from vfs.control.client import DaemonClient
from vfs.control.daemon_socket import wait_until_closed
from vfs.control.messages import CommitArgs, CommitResult, Report
from vfs.control.mounts import MOUNT_TYPE
from vfs.control.services import COMMIT, Service
from vfs.fuse.session.mountpoint import mounted_at, unmount

TIMEOUT_S = 60.0

A = TypeVar("A", bound=msgspec.Struct)
R = TypeVar("R")
READY = "ready"

# The process that serves: what `vfs mount --foreground` does, with a word on its standard output once it answers.
_SERVE = """
import logging, sys
from pathlib import Path
from vfs.fuse.mount import run_mount
from vfs.fuse.session.mountpoint import MountOptions
logging.basicConfig(level=logging.INFO)
from vfs.fuse import background_compaction
from vfs.overlay.compaction import compaction_policy
words = (word.partition("=") for word in sys.argv[3:] if word not in ("short_journals", "not_local"))
options = MountOptions(**{name: value or True for name, _, value in words})
if "short_journals" in sys.argv:
    compaction_policy.FREE = compaction_policy.Size(40_000, 100)
    compaction_policy._MEASURE_SIZE = compaction_policy.Size(10_000, 20)
    background_compaction.CHECK_INTERVAL_S = 0.02
if "not_local" in sys.argv:
    from support.remote import serve_from_network
    serve_from_network(Path(sys.argv[2] + ".gate"))
run_mount(Path(sys.argv[1]), Path(sys.argv[2]), options, lambda _: print("ready", flush=True))
"""


class Mount:
    """One mount of a repository. Paths are given relative to its mount point."""

    def __init__(
        self, repository: Path, path: Path, process: subprocess.Popen[str], log: Path, options: Sequence[str]
    ) -> None:
        self.repository = repository
        self.path = path
        self.process = process
        self.log = log
        self.is_read_only = "read_only" in options
        self.branch = next((word.removeprefix("branch=") for word in options if word.startswith("branch=")), "main")

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def call(self, service: Service[A, R], args: A, report: Report | None = None, *, branch: str | None = None) -> R:
        """Requests a service of the mount's daemon, on the working layer of the mount's branch or another one."""
        return call(self.repository, branch if branch is not None else self.branch, service, args, report)

    def commit(self, message: str = "a test") -> CommitResult:
        """Commits the working layer."""
        return self.call(COMMIT, CommitArgs(message, "tester"))

    def drop_kernel_caches(self) -> None:
        """Makes the kernel forget what it knows, where the test may."""
        if os.getuid() == 0:
            Path("/proc/sys/vm/drop_caches").write_text("3\n")

    def end(self) -> None:
        """Unmounts and waits until the daemon is gone."""
        unmount(self.path)
        assert self.process.wait(TIMEOUT_S) == 0, self.log.read_text()
        assert self.is_read_only or wait_until_closed(self.repository, self.branch, TIMEOUT_S)


def call(repository: Path, branch: str, service: Service[A, R], args: A, report: Report | None = None) -> R:
    """Requests a service of the daemon that has a branch's working layer."""
    client = DaemonClient.connect(repository, branch)
    assert client is not None
    with client:
        return client.call(service, args, report)


@contextmanager
def mounted(repository: Path, path: Path, *options: str) -> Iterator[Mount]:
    """Mounts a repository; whatever happens, nothing is mounted and no daemon lives afterwards.

    `options` are those of MountOptions (`read_only`, `branch=NAME`), `short_journals`: compactions come early and
    often, and `not_local`: its backend is a network away (see `Gate`).
    """
    if mounted_at(path) is None:
        path.mkdir(exist_ok=True)
    log = path.parent / f"{path.name}.log"
    command = [sys.executable, "-W", "error", "-c", _SERVE, str(repository), str(path), *options]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with (
        log.open("a") as words,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words, text=True, env=environment) as process,
    ):
        mount = Mount(repository, path, process, log, options)
        try:
            assert process.stdout is not None
            assert _first_line(process.stdout) == READY, log.read_text()
            yield mount
            if process.poll() is None and mounted_at(path) is not None:
                mount.end()
        finally:
            _clean_up(process, path)


@contextmanager
def killed_if_it_hangs(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kills a mount's daemon if the block takes too long: blocked callers get an error, and the test fails."""
    hung = threading.Event()

    def kill() -> None:
        hung.set()
        process.kill()

    timer = threading.Timer(TIMEOUT_S, kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
    assert not hung.is_set(), "the mount hung"


def _first_line(stream: IO[str]) -> str:
    return stream.readline().strip()


def _clean_up(process: subprocess.Popen[str], path: Path) -> None:
    here = mounted_at(path)
    if here is not None and here.type == MOUNT_TYPE:
        unmount(path, lazy=True)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
