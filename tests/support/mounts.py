"""Real mounts for tests: each in a process of its own, always unmounted, the repository checked at the end."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from support.command_server import ForkedProcess, fork_server
from support.mount_daemon import READY
from vfs.control.client import DaemonClient
from vfs.control.daemon_socket import wait_until_closed
from vfs.control.messages import CommitArgs, CommitResult, Report
from vfs.control.mount_table import MOUNT_TYPE
from vfs.control.services import COMMIT, Service
from vfs.fuse.session.mountpoint import mounted_at, unmount

TIMEOUT_S = 300.0

A = TypeVar("A", bound=msgspec.Struct)
R = TypeVar("R")


class Mount:
    """One mount of a repository. Paths are given relative to its mount point."""

    def __init__(self, repository: Path, path: Path, process: ForkedProcess, log: Path, options: Sequence[str]) -> None:
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
    often, `not_local`: its backend is a network away (see `Gate`), `kept_opens`: opens fill the native ring, and
    `takeovers_max=NUMBER`: of killed daemons that are replaced.
    """
    if mounted_at(path) is None:
        path.mkdir(exist_ok=True)
    log = path.parent / f"{path.name}.log"
    words = ["mount_daemon", str(repository), str(path), *options]
    with (
        log.open("a") as errors,
        fork_server(os.environ).start(
            "support.mount_daemon.main", words, Path.cwd(), os.environ, errors.fileno()
        ) as process,
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
def killed_if_it_hangs(process: ForkedProcess | subprocess.Popen[str]) -> Iterator[None]:
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


def _clean_up(process: ForkedProcess, path: Path) -> None:
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
