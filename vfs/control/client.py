"""The client of a mount's daemon, and the messages. The daemon's side is vfs/fuse/control_server.py.

A conversation is one connection to `REPO/run/BRANCH.sock`: an empty reply, by which the daemon says that it has the
branch's working layer and keeps it, one request, then replies, each a line of JSON. Replies of progress, parts of the
answer and empty ones, which say that the daemon is alive, come in any number, a result or an error comes last. Paths
travel as base64.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from vfs.backend.rooted_path import RootedPath
from vfs.errors import Busy, VfsError
from vfs.history.diff import FileCounts
from vfs.model.objects import Entry
from vfs.repo.ignore_rules import Excluded
from vfs.repo.repository_anchor import Anchor

REQUEST_BYTES_MAX = 1 << 20
REPLY_BYTES_MAX = 16 << 20
"""Longest line of a reply; long answers come in parts."""

BEAT_S = 5.0
"""How long a daemon that works on something is silent, at most."""
SILENCE_S = 30.0
"""After so much silence a daemon is taken for one that does not answer: on the slowest machine it would have."""
LOOK_S = 2.0
"""How often a silent daemon is looked at; one that is stopped is not waited for."""

_CREDENTIALS = struct.Struct("3i")
_RECEIVE_BYTES = 1 << 16
_RETRY_S = 0.02

T = TypeVar("T")


class Request(msgspec.Struct, omit_defaults=True):
    """What the daemon is asked to do: the operation's name and its arguments."""

    op: str
    args: dict[str, Any] = {}


class Progress(msgspec.Struct, omit_defaults=True):
    """How far a long operation is, or what it waits for."""

    files: int = 0
    bytes: int = 0
    total: int | None = None
    waiting: str = ""
    total_bytes: int | None = None


class Failure(msgspec.Struct, omit_defaults=True):
    """Why an operation failed, as VfsError says it."""

    code: str
    message: str
    hint: str = ""
    exit_status: int = 1


class Reply(msgspec.Struct, omit_defaults=True):
    """One line from the daemon; one field is set at most. `ok` or `error` is the last line, `part` belongs to `ok`."""

    progress: Progress | None = None
    part: list[Any] | None = None
    ok: dict[str, Any] | None = None
    error: Failure | None = None


class Answer(msgspec.Struct):
    """A result, with the parts that came before it in one list."""

    result: dict[str, Any]
    parts: list[Any]

    def as_type(self, kind: type[T]) -> T:
        """Returns the result as a value of a type. Raises msgspec.ValidationError."""
        return msgspec.convert(self.result, kind, builtin_types=())

    def parts_as(self, kind: type[T]) -> list[T]:
        """Returns the parts as values of a type. Raises msgspec.ValidationError."""
        return [msgspec.convert(part, kind) for part in self.parts]


# Arguments and results by operation.


class Pinged(msgspec.Struct):
    """Result of `ping`: process, branch, place of the mount, its device, and where in it the branch is."""

    pid: int
    branch: str
    mountpoint: bytes
    device: str = ""
    top: bytes = b""


class CommitArgs(msgspec.Struct, omit_defaults=True):
    """Arguments of `commit`: the working layer becomes the branch's next version. `asked_ns`: when the caller
    asked (Unix time), 0 where that is not known. `paths`: what of it (none: all), but for what is `excluded`."""

    message: str
    author: str
    allow_empty: bool = False
    meta: dict[str, str] = {}
    asked_ns: int = 0
    paths: list[bytes] = []
    excluded: Excluded = Excluded()


class PublishArgs(msgspec.Struct, omit_defaults=True):
    """Arguments of `publish`: a commit that is stored becomes the newest version. Ids in hexadecimal; `expected` is the
    branch's head that the commit was made on, empty for none."""

    commit_id: str
    expected: str = ""


class RestoreArgs(msgspec.Struct, omit_defaults=True):
    """Arguments of `restore`: paths of the working layer (none: all) become what they are in a version."""

    commit_id: str
    paths: list[bytes] = []
    discard: bool = False
    author: str = ""


class RestoreResult(msgspec.Struct, omit_defaults=True):
    """Result of `restore`; `removed` paths were not in the version. `counts`: see Restored."""

    restored: list[bytes]
    removed: list[bytes]
    counts: FileCounts | None = None


class DiffArgs(msgspec.Struct):
    """Arguments of `diff`: the working layer is compared with a version; what was changed is read."""

    commit_id: str


class SwitchArgs(msgspec.Struct, omit_defaults=True):
    """Arguments of `switch`: a branch becomes the current one, and the mount's root shows it if it follows that.

    `undoes`: the sequence number of the operation that is undone thereby, 0 for none.
    """

    branch: str
    author: str
    undoes: int = 0


class SwitchResult(msgspec.Struct):
    """Result of `switch`: whether anything changed."""

    switched: bool


class ChangedPath(msgspec.Struct):
    """Part of the answer of `changes` (since the version that the working layer stands on) and of `diff`.

    `is_ignored`, of `changes`: a commit leaves it out.
    """

    path: bytes
    kind: Literal["added", "modified", "removed"]
    old: Entry | None
    new: Entry | None
    is_ignored: bool = False


class CommitResult(msgspec.Struct):
    """Result of `commit` and `publish`: the new version, and the bytes given, new and stored for it."""

    number: int
    id: str
    bytes_put: int = 0
    bytes_new: int = 0
    bytes_stored: int = 0


class RemoteError(VfsError):
    """An error of the daemon that has no class of its own here; carries the code and exit status it had there."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message, hint=failure.hint)
        self.code = failure.code
        self.exit_status = failure.exit_status


class Unresponsive(Busy):
    """A daemon is there and says nothing."""

    code = "unresponsive"


class DaemonGone(VfsError):
    """The daemon ended, or stopped talking sense, in the middle of a conversation."""

    code = "daemon-gone"


class Introduction(msgspec.Struct):
    """What a mount says of itself through the kernel, to whoever sees it wherever that is.

    `identity` is the repository's (vfs/repo/repository_anchor.py), `process` the daemon's process id in the PID
    namespace `namespace`.
    """

    identity: bytes
    process: int
    namespace: str
    mountpoint: bytes

    @classmethod
    def read(cls, data: bytes) -> Introduction | None:
        """Returns what was said, None where that is nothing; a process that cannot be seen from here is 0."""
        try:
            found = msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError:
            return None
        if found.namespace != _namespace():
            found.process = 0
        return found


def introduction(anchor: Anchor, mountpoint: Path) -> bytes:
    """Returns what this process says of its mount."""
    return msgspec.json.encode(Introduction(anchor.identity, os.getpid(), _namespace(), os.fsencode(mountpoint)))


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def socket_path(repository: Path, branch: str) -> RootedPath:
    """Returns where the daemon of a branch's writable mount listens."""
    return RootedPath(repository, "run", f"{branch}.sock")


def failure_of(error: VfsError) -> Failure:
    """Returns an error as it travels."""
    return Failure(error.code, error.message, error.hint, error.exit_status)


def error_of(failure: Failure) -> VfsError:
    """Returns an error that travelled, in the class that has its code where there is one."""
    kinds: list[type[VfsError]] = [VfsError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
        if kind.code == failure.code and kind.__init__ is VfsError.__init__:
            return kind(failure.message, hint=failure.hint)
    return RemoteError(failure)


@contextmanager
def short_path(path: RootedPath) -> Iterator[str]:
    """Gives a name for a socket path of any length: a socket's address has room for 107 bytes only."""
    with path.parent.opened() as directory:
        yield f"/proc/self/fd/{directory}/{path.name}"


class Daemon:
    """A connection to the daemon of a writable mount; good for one request. A context manager."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = bytearray()
        self.process = _peer_of(connection)
        """The daemon's process; 0 where it cannot be seen from here."""

    @classmethod
    def connect(cls, repository: Path, branch: str) -> Daemon | None:
        """Returns a connection, or None where no daemon has the branch's working layer, or is just letting it go.

        Raises Unresponsive where one says nothing, VfsError where it may not be talked to.
        """
        connection = _connected(socket_path(repository, branch))
        if connection is None:
            return None
        daemon = cls(connection)
        try:
            greeting = daemon._reply()
        except (DaemonGone, ConnectionError):
            # It has stopped listening, and has not heard us: nothing was asked yet.
            daemon.close()
            return None
        except BaseException:
            daemon.close()
            raise
        if greeting.error is not None:
            daemon.close()
            raise error_of(greeting.error)
        return daemon

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hangs up. An operation under way goes on in the daemon."""
        self._socket.close()

    def call(self, op: str, args: dict[str, Any], progress: Callable[[Progress], None] | None = None) -> Answer:
        """Asks for an operation and returns its answer. Raises what it raised there, or DaemonGone."""
        request = msgspec.json.encode(Request(op, args))
        if len(request) >= REQUEST_BYTES_MAX:
            raise VfsError("the request is too long for the mount's daemon", hint="Name fewer paths at once.")
        parts: list[Any] = []
        try:
            self._socket.sendall(request + b"\n")
            while True:
                reply = self._reply()
                if reply.progress is not None and progress is not None:
                    progress(reply.progress)
                if reply.part is not None:
                    parts.extend(reply.part)
                if reply.error is not None:
                    raise error_of(reply.error)
                if reply.ok is not None:
                    return Answer(reply.ok, parts)
        except TimeoutError:
            raise unresponsive("the mount's daemon", self.process) from None
        except (OSError, msgspec.MsgspecError, RecursionError) as error:
            raise DaemonGone(f"the mount's daemon broke off: {error}", hint="Its log is in REPO/run.") from error

    def _reply(self) -> Reply:
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > REPLY_BYTES_MAX:
                raise DaemonGone("the mount's daemon sent too long a line")
            self._wait()
            data = self._socket.recv(_RECEIVE_BYTES)
            if not data:
                raise DaemonGone(
                    "the mount's daemon ended before it answered",
                    hint="`vfs log -n 1` tells whether it was done; the daemon's log is in REPO/run.",
                )
            self._received += data
        reply = msgspec.json.decode(self._received[:end], type=Reply)
        del self._received[: end + 1]
        return reply

    def _wait(self) -> None:
        """Returns when there is something to receive. Raises Unresponsive."""
        deadline = time.monotonic() + SILENCE_S
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while not poll.poll(LOOK_S * 1000):
            if is_stopped(self.process) or time.monotonic() >= deadline:
                raise unresponsive("the mount's daemon", self.process)


def _connected(path: RootedPath) -> socket.socket | None:
    """Returns a connection to a socket, None where nobody listens. Raises Unresponsive, VfsError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(LOOK_S)
        with short_path(path) as name:
            connection.connect(name)
        connection.settimeout(SILENCE_S)
    except (TimeoutError, BlockingIOError):
        # So many wait for an answer that there is no more room.
        connection.close()
        raise unresponsive("the mount's daemon", 0) from None
    except OSError as error:
        connection.close()
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED):
            return None
        raise VfsError(f"cannot talk to the mount's daemon: {error.strerror or error}") from error
    return connection


def _peer_of(connection: socket.socket) -> int:
    """Returns the process that listens."""
    process: int = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[
        0
    ]
    return process


def listeners(repository: Path) -> list[int]:
    """Returns the processes of the daemons that have working layers of a repository, whether they answer or not."""
    found: list[int] = []
    try:
        names = sorted(name for name in os.listdir(repository / "run") if name.endswith(".sock"))
    except OSError:
        return []
    for name in names:
        with suppress(VfsError, OSError):
            connection = _connected(RootedPath(repository, "run", name))
            if connection is not None:
                with connection:
                    found.append(_peer_of(connection))
    return list(dict.fromkeys(found))


def is_stopped(process: int) -> bool:
    """Whether a process is stopped by a signal or a debugger."""
    try:
        return Path(f"/proc/{process}/stat").read_bytes().rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:
        return False


def unresponsive(what: str, process: int | None) -> Unresponsive:
    """Returns the error for a daemon that says nothing."""
    if process and is_stopped(process):
        return Unresponsive(
            f"{what} does not answer: process {process} is stopped",
            hint=f"`kill -CONT {process}` lets it go on.",
        )
    end = f"`kill {process}` ends it, and what was written is kept." if process else "Its log is in REPO/run."
    return Unresponsive(f"{what} does not answer", hint=f"Try again when the machine is less busy. {end}")


def wait_until_closed(repository: Path, branch: str, timeout_s: float) -> bool:
    """Waits until no process has a branch's working layer open, as after unmounting; False at the end of the time."""
    try:
        lock = RootedPath(repository, "work", branch, "lock").open(os.O_RDWR)
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


def release(repository: Path, branch: str, timeout_s: float) -> None:
    """Makes a mount let go of a branch that is not in its root and that nobody uses; returns when it has, or cannot.

    Raises Busy where the branch is in a mount's root.
    """
    if not socket_path(repository, branch).exists():
        return
    daemon = Daemon.connect(repository, branch)
    if daemon is not None:
        with daemon:
            daemon.call("release", {})
        wait_until_closed(repository, branch, timeout_s)


def already_running(what: str) -> Busy:
    """Returns the error for an operation that another one of the same mount excludes."""
    return Busy(f"{what} is under way in this mount", hint="Wait until it is done, then try again.")
