"""The client of a mount's daemon; the server is vfs/fuse/control_server.py. vfs/control/access.py is its only user."""

from __future__ import annotations

import select
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from vfs.control.daemon_socket import (
    CHECK_INTERVAL_S,
    SILENCE_S,
    connect,
    is_stopped,
    peer_of,
    unresponsive,
)
from vfs.control.messages import (
    PROTOCOL,
    REQUEST_BYTES_MAX,
    RESPONSE_BYTES_MAX,
    Caller,
    Failure,
    Report,
    Request,
    Response,
)
from vfs.errors import VfsError
from vfs.repo.paths import control_socket

if TYPE_CHECKING:
    from vfs.control.services import Service

_RECEIVE_BYTES = 1 << 16

A = TypeVar("A", bound=msgspec.Struct)
R = TypeVar("R")


class DaemonError(VfsError):
    """An error of the daemon whose class this process does not have; it keeps the code and the exit status."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message, hint=failure.hint)
        self.code = failure.code
        self.exit_status = failure.exit_status


class DaemonGone(VfsError):
    """The daemon ended, or sent no valid response, after a request."""

    code = "daemon-gone"


class OtherRelease(VfsError):
    """The daemon was started by another release of this program and has other messages."""

    code = "other-release"


def error_of(failure: Failure) -> VfsError:
    """Returns the error that a daemon sent, in the class that has its code where there is one."""
    kinds: list[type[VfsError]] = [VfsError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
        if kind.code == failure.code and kind.__init__ is VfsError.__init__:
            return kind(failure.message, hint=failure.hint)
    return DaemonError(failure)


class DaemonClient:
    """A connection to the daemon of a writable mount, for one request. A context manager."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = bytearray()
        self.process = peer_of(connection)
        """The daemon's process id, 0 where it is in another PID namespace."""

    @classmethod
    def connect(cls, repository: Path, branch: str) -> DaemonClient | None:
        """Returns a connection, or None where no daemon has the branch's working layer, or is just closing it.

        The daemon keeps the layer open as long as the connection is. Raises Unresponsive; OtherRelease; VfsError where
        the daemon refuses the connection.
        """
        connection = connect(control_socket(repository, branch))
        if connection is None:
            return None
        client = cls(connection)
        try:
            greeting = client._response()
            if greeting.error is not None:
                raise error_of(greeting.error)
            if greeting.protocol != PROTOCOL:
                raise OtherRelease(
                    "the mount's daemon is of another release of this program",
                    hint="Unmount and mount again after an upgrade; uncommitted changes are kept.",
                )
        except (DaemonGone, ConnectionError):
            # It closed its socket before it accepted the connection: nothing was requested yet.
            client.close()
            return None
        except BaseException:
            client.close()
            raise
        return client

    def __enter__(self) -> DaemonClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. A service that was requested goes on in the daemon."""
        self._socket.close()

    def call(self, service: Service[A, R], args: A, report: Report | None = None) -> R:
        """Requests a service and returns its result. Raises what it raised in the daemon, Unresponsive, DaemonGone."""
        request = msgspec.json.encode(
            Request(service.name, msgspec.Raw(msgspec.json.encode(args)), PROTOCOL, Caller.here())
        )
        if len(request) >= REQUEST_BYTES_MAX:
            raise VfsError("the request is too long for the mount's daemon", hint="Name fewer paths at once.")
        try:
            self._socket.sendall(request + b"\n")
            while True:
                response = self._response()
                if response.progress is not None and report is not None:
                    report(response.progress)
                if response.error is not None:
                    raise error_of(response.error)
                if response.result_bytes is not None:
                    return msgspec.json.decode(self._take(response.result_bytes), type=service.result)
        except TimeoutError:
            raise unresponsive("the mount's daemon", self.process) from None
        except (OSError, msgspec.MsgspecError, RecursionError) as error:
            raise DaemonGone(
                f"the connection to the mount's daemon broke: {error}", hint="Its log is in REPO/run."
            ) from error

    def _response(self) -> Response:
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > RESPONSE_BYTES_MAX:
                raise DaemonGone("the mount's daemon sent too long a line")
            self._receive()
        return msgspec.json.decode(self._take(end + 1), type=Response)

    def _take(self, size: int) -> bytes:
        """Returns the next bytes from the daemon."""
        while len(self._received) < size:
            self._receive()
        taken = bytes(memoryview(self._received)[:size])
        del self._received[:size]
        return taken

    def _receive(self) -> None:
        self._wait()
        data = self._socket.recv(_RECEIVE_BYTES)
        if not data:
            raise DaemonGone(
                "the mount's daemon ended before it answered",
                hint="The newest version shows whether it was done; the daemon's log is in REPO/run.",
            )
        self._received += data

    def _wait(self) -> None:
        """Returns when there are bytes to receive. Raises Unresponsive."""
        deadline = time.monotonic() + SILENCE_S
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while not poll.poll(CHECK_INTERVAL_S * 1000):
            if is_stopped(self.process) or time.monotonic() >= deadline:
                raise unresponsive("the mount's daemon", self.process)
