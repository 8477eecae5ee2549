"""The server of the control socket of one open working layer: performs services that commands request.

Only the mount's owner and root may connect (`SO_PEERCRED`, and the directory is closed to others). Each service runs in
a worker thread on the live working layer, so the event loop goes on serving the kernel. Exclusive services run one
after another, and a client learns what it waits for. A client that disconnects cancels nothing: its service finishes.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import trio

from vfs.backend.rooted_path import RootedPath
from vfs.control.daemon_socket import short_path
from vfs.control.messages import (
    KEEPALIVE_S,
    PROTOCOL,
    REQUEST_BYTES_MAX,
    Failure,
    ProgressUpdate,
    Report,
    Request,
    Response,
)
from vfs.control.services import SERVICES, LayerHost, Service
from vfs.errors import Busy, InvalidInput, NotPermitted, VfsError, describe_error, has_path
from vfs.model.decoding import UNDECODABLE
from vfs.repo.acting_run import acting_for

log = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S = 30.0
_SEND_TIMEOUT_S = 30.0
_PROGRESS_INTERVAL_S = 0.1
_PROGRESS_QUEUE = 8
_SEND_BYTES = 1 << 20
_BACKLOG = 128
_RECEIVE_BYTES = 1 << 16
SERVICES_MAX = 16
"""Services of one layer that run at a time: others wait, and leave threads to syncs and to the opening of branches."""
_CREDENTIALS = struct.Struct("3i")


class ControlServer:
    """Serves the control socket of one open working layer. Lives in the event loop.

    `on_idle` is called whenever the last connection has ended.
    """

    def __init__(self, path: RootedPath, host: LayerHost, on_idle: Callable[[], None]) -> None:
        self._path = path
        self._host = host
        self._on_idle = on_idle
        self._connections = 0
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._exclusive = trio.Lock()
        self._threads = trio.CapacityLimiter(SERVICES_MAX)
        self._running = 0
        self._finished = trio.Condition()
        self._is_closing = False

    @property
    def is_busy(self) -> bool:
        """True while a service runs or waits to."""
        return self._running > 0

    @property
    def is_connected(self) -> bool:
        """True while a client is connected."""
        return self._connections > 0

    async def stop(self) -> None:
        """Stops listening and removes the socket. A client that is not greeted yet learns of it by the disconnect."""
        self._path.unlink(missing_ok=True)
        self._scope.cancel()
        await self._ended.wait()

    async def finish(self) -> None:
        """Refuses further requests and returns when the running services are done."""
        self._is_closing = True
        async with self._finished:
            while self._running:
                await self._finished.wait()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listens until cancelled; reports that it is started when a client can connect."""
        listener = self._listen()
        try:
            task_status.started()
            with self._scope:
                await trio.serve_listeners(self._serve, [listener])
        finally:
            self._path.unlink(missing_ok=True)
            self._ended.set()

    def _listen(self) -> trio.SocketListener:
        with self._path.parent.opened(create=True, mode=0o700):
            pass
        # A killed daemon left its socket; this process holds the working layer's lock, so no other one listens.
        self._path.unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The socket's file gets the mode of the socket: at no moment may others connect.
        os.fchmod(server.fileno(), 0o600)
        with short_path(self._path) as name:
            server.bind(name)
        server.listen(_BACKLOG)
        return trio.SocketListener(trio.socket.from_stdlib_socket(server))

    async def _serve(self, stream: trio.SocketStream) -> None:
        self._connections += 1
        try:
            async with stream:
                await self._answer(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.info("control: the client disconnected")
        except Exception:
            log.exception("control: unexpected error in a connection")
        finally:
            self._connections -= 1
            if not self._connections:
                self._on_idle()

    async def _answer(self, stream: trio.SocketStream) -> None:
        try:
            _check_peer(stream)
            # This connection counts from here on: the layer stays open until it has ended.
            await _send(stream, Response(protocol=PROTOCOL))
            request = await _receive(stream)
            service = _requested(request)
            if self._is_closing:
                raise Busy("unmounting is under way in this mount", hint="Wait until it is done, then try again.")
        except VfsError as error:
            await _send(stream, Response(error=_failure_of(error)))
            return
        self._running += 1
        try:
            await self._respond(stream, service, request)
        finally:
            self._running -= 1
            with trio.CancelScope(shield=True):
                async with self._finished:
                    self._finished.notify_all()

    async def _respond(self, stream: trio.SocketStream, service: Service[Any, Any], request: Request) -> None:
        if service.is_exclusive:
            if self._exclusive.locked():
                await _send(stream, Response(progress=ProgressUpdate(waiting="another operation on this mount")))
            await self._acquire(stream)
            try:
                result = await self._run(stream, service, request)
            finally:
                self._exclusive.release()
        else:
            result = await self._run(stream, service, request)
        if isinstance(result, Failure):
            await _send(stream, Response(error=result))
            return
        await _send(stream, Response(result_bytes=len(result)))
        for start in range(0, len(result), _SEND_BYTES):
            await _send_bytes(stream, memoryview(result)[start : start + _SEND_BYTES])

    async def _acquire(self, stream: trio.SocketStream) -> None:
        """Acquires the lock of exclusive services, and sends signs of life meanwhile."""
        while True:
            with trio.move_on_after(KEEPALIVE_S):
                await self._exclusive.acquire()
                return
            with suppress(trio.BrokenResourceError):
                await _send(stream, Response())

    async def _run(self, stream: trio.SocketStream, service: Service[Any, Any], request: Request) -> bytes | Failure:
        sending, receiving = trio.open_memory_channel[ProgressUpdate](_PROGRESS_QUEUE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_forward, receiving, stream)
            async with sending:
                return await trio.to_thread.run_sync(
                    self._attempt, service, request, _Reporter(sending), limiter=self._threads
                )

    def _attempt(self, service: Service[Any, Any], request: Request, report: Report) -> bytes | Failure:
        """Performs a service in a worker thread; returns its encoded result, and every error as a Failure."""
        try:
            args = msgspec.json.decode(request.args, type=service.args)
            self._host.repository.anchor.require_in_place()
            with acting_for(lambda: self._host.run_of(request.caller)):
                return _encode(service.perform(self._host, args, report))
        except VfsError as error:
            return _failure_of(error)
        except msgspec.ValidationError as error:
            return _failure_of(InvalidInput(f"{service.name}: {error}"))
        except OSError as error:
            if error.errno and not has_path(error):
                error.filename = str(self._host.repository.path)
            log.error("control: %s: %s", service.name, error)
            message, hint = describe_error(error)
            return Failure("error", f"{service.name}: {message}", hint, VfsError.exit_status)
        except Exception as error:
            log.exception("control: %s: unexpected error", service.name)
            return Failure("error", f"{service.name}: {type(error).__name__}: {error}", "The daemon's log has more.", 3)


def _requested(request: Request) -> Service[Any, Any]:
    """Returns the service that a request names. Raises InvalidInput for one that the daemon does not have."""
    if request.protocol != PROTOCOL:
        raise InvalidInput(
            "this command is of another release of the program than the mount's daemon",
            hint="Unmount and mount again after an upgrade; uncommitted changes are kept.",
        )
    service = SERVICES.get(request.op)
    if service is None:
        raise InvalidInput(f"the mount's daemon has no service {request.op!r}", hint="Mount again.")
    return service


def _encode(result: Any) -> bytes:
    """Returns a result as JSON."""
    encoder = msgspec.json.Encoder()
    if isinstance(result, list):
        # Item by item: the encoder keeps the interpreter, and the event loop would wait for all of a long list.
        return b"[" + b",".join([encoder.encode(item) for item in result]) + b"]"
    return encoder.encode(result)


def _failure_of(error: VfsError) -> Failure:
    return Failure(error.code, error.message, error.hint, error.exit_status)


class _Reporter:
    """Forwards progress from a worker thread, at most ten times a second, and never waits for the client."""

    def __init__(self, channel: trio.MemorySendChannel[ProgressUpdate]) -> None:
        self._channel = channel
        self._next = 0.0

    def __call__(self, update: ProgressUpdate) -> None:
        now = time.monotonic()
        if now >= self._next or update.waiting:
            self._next = now + _PROGRESS_INTERVAL_S
            trio.from_thread.run_sync(self._offer, update)

    def _offer(self, update: ProgressUpdate) -> None:
        try:
            self._channel.send_nowait(update)
        except (trio.WouldBlock, trio.BrokenResourceError):
            # The client reads slowly or has disconnected. The next update supersedes this one.
            return


async def _forward(channel: trio.MemoryReceiveChannel[ProgressUpdate], stream: trio.SocketStream) -> None:
    """Sends progress to the client, and signs of life between; returns where the client has disconnected."""
    async with channel:
        try:
            while True:
                response = Response()
                with trio.move_on_after(KEEPALIVE_S):
                    response = Response(progress=await channel.receive())
                await _send(stream, response)
        except (trio.EndOfChannel, trio.BrokenResourceError):
            return


async def _send(stream: trio.SocketStream, response: Response) -> None:
    """Sends one line. Raises BrokenResourceError for a client that has disconnected, or does not read."""
    await _send_bytes(stream, msgspec.json.encode(response) + b"\n")


async def _send_bytes(stream: trio.SocketStream, data: bytes | memoryview) -> None:
    try:
        with trio.fail_after(_SEND_TIMEOUT_S):
            await stream.send_all(data)
    except trio.TooSlowError:
        raise trio.BrokenResourceError from None


async def _receive(stream: trio.SocketStream) -> Request:
    """Returns the client's request. Raises InvalidInput for a malformed, overlong or late one."""
    received = bytearray()
    with trio.move_on_after(_REQUEST_TIMEOUT_S):
        while b"\n" not in received:
            if len(received) > REQUEST_BYTES_MAX:
                raise InvalidInput("the request is too long")
            data = await stream.receive_some(_RECEIVE_BYTES)
            if not data:
                break
            received += data
    line, end, _ = received.partition(b"\n")
    if not end:
        raise InvalidInput("the request is not complete")
    try:
        return msgspec.json.decode(line, type=Request)
    except UNDECODABLE as error:
        raise InvalidInput(f"malformed request: {error}") from error


def _check_peer(stream: trio.SocketStream) -> None:
    credentials = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    if uid not in (0, os.getuid()):
        raise NotPermitted("only the mount's owner may use its daemon")
