"""The socket of a branch's daemon, `REPO/run/BRANCH.sock`: connecting, and finding out whether the daemon responds."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vfs.backend.rooted_path import RootedPath
from vfs.errors import Busy, VfsError
from vfs.overlay.layer_files import LOCK_NAME
from vfs.repo.paths import control_sockets, working_layer

SILENCE_S = 30.0
"""Longest wait for a response; a daemon on the slowest machine sends a sign of life sooner."""
CHECK_INTERVAL_S = 2.0
"""How often a client that waits checks whether the daemon is stopped: a stopped one does not respond."""

_CREDENTIALS = struct.Struct("3i")
_RETRY_S = 0.02


class Unresponsive(Busy):
    """A daemon is running and does not respond."""

    code = "unresponsive"


@contextmanager
def short_path(path: RootedPath) -> Iterator[str]:
    """Yields a name for a socket path of any length: a socket's address holds 107 bytes."""
    with path.parent.opened() as directory:
        yield f"/proc/self/fd/{directory}/{path.name}"


def connect(path: RootedPath) -> socket.socket | None:
    """Returns a connection to a socket, None where no process listens. Raises Unresponsive, VfsError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(CHECK_INTERVAL_S)
        with short_path(path) as name:
            connection.connect(name)
        connection.settimeout(SILENCE_S)
    except (TimeoutError, BlockingIOError):
        # The queue of connections that the daemon has not accepted is full.
        connection.close()
        raise unresponsive("the mount's daemon", 0) from None
    except OSError as error:
        connection.close()
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED):
            return None
        hint = "The mount is another user's: run this as that user." if error.errno == errno.EACCES else ""
        raise VfsError(f"cannot connect to the mount's daemon: {error.strerror or error}", hint=hint) from error
    return connection


def peer_of(connection: socket.socket) -> int:
    """Returns the process id of the listening process, 0 where it is in another PID namespace."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process: int = _CREDENTIALS.unpack(credentials)[0]
    return process


def daemons_of(repository: Path) -> list[int]:
    """Returns the processes of the daemons that have working layers of a repository open, responsive or not."""
    found: list[int] = []
    for path in control_sockets(repository):
        with suppress(VfsError, OSError):
            connection = connect(path)
            if connection is not None:
                with connection:
                    found.append(peer_of(connection))
    return list(dict.fromkeys(found))


def is_stopped(process: int) -> bool:
    """Returns True if a signal or a debugger has stopped a process."""
    try:
        return Path(f"/proc/{process}/stat").read_bytes().rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:
        return False


def unresponsive(what: str, process: int | None) -> Unresponsive:
    """Returns the error for a daemon that does not respond."""
    if process and is_stopped(process):
        return Unresponsive(
            f"{what} does not answer: process {process} is stopped",
            hint=f"`kill -CONT {process}` lets it go on.",
        )
    end = f"`kill {process}` ends it, and what was written is kept." if process else "Its log is in REPO/run."
    return Unresponsive(f"{what} does not answer", hint=f"Try again when the machine is less busy. {end}")


def wait_until_closed(repository: Path, branch: str, timeout_s: float) -> bool:
    """Waits until no process has a branch's working layer open; returns False when the time is over."""
    try:
        lock = (working_layer(repository, branch) / LOCK_NAME).open(os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
            select.select([], [], [], _RETRY_S)
    finally:
        os.close(lock)
