"""A working layer's socket: commands that change or ask a working layer that a mount has open arrive here.

Only the owner and root may talk (`SO_PEERCRED`, and the directory is closed to others). Each operation runs in a worker
thread against the live working layer, so requests of the kernel go on; operations that change something run one after
another, and a client is told what it waits for. A client that hangs up ends nothing: what it asked for is finished.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
import trio

from vfs.backend.rooted_path import RootedPath
from vfs.control.client import (
    BEAT_S,
    REQUEST_BYTES_MAX,
    Answer,
    Failure,
    Progress,
    Reply,
    Request,
    already_running,
    failure_of,
    short_path,
)
from vfs.errors import InvalidInput, NotPermitted, VfsError, words_of
from vfs.fuse.live_services import Services
from vfs.model.decoding import UNDECODABLE

log = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S = 30.0
_SEND_TIMEOUT_S = 30.0
_PROGRESS_INTERVAL_S = 0.1
_PROGRESS_QUEUE = 8
_PART_ITEMS = 500
_BACKLOG = 16
_RECEIVE_BYTES = 1 << 16
_CREDENTIALS = struct.Struct("3i")


class ControlServer:
    """Serves the control socket of one open working layer. Lives in the event loop.

    `idle` is called whenever the last conversation has ended.
    """

    def __init__(self, path: RootedPath, services: Services, idle: Callable[[], None]) -> None:
        self._path = path
        self._services = services
        self._tell_idle = idle
        self._conversations = 0
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._changing = trio.Lock()
        self._running = 0
        self._idle = trio.Condition()
        self._is_closing = False

    @property
    def is_busy(self) -> bool:
        """Whether an operation is running or waits to."""
        return self._running > 0

    @property
    def is_talking(self) -> bool:
        """Whether anybody is connected."""
        return self._conversations > 0

    async def stop(self) -> None:
        """Stops listening; the socket is gone afterwards. Who has connected and is not greeted yet knows by that."""
        self._path.unlink(missing_ok=True)
        self._scope.cancel()
        await self._ended.wait()

    async def finish(self) -> None:
        """Takes no more operations and returns when the running ones are done."""
        self._is_closing = True
        async with self._idle:
            while self._running:
                await self._idle.wait()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listens until cancelled; says that it is started when a client can connect."""
        listener = self._listen()
        try:
            task_status.started()
            with self._scope:
                await trio.serve_listeners(self._converse, [listener])
        finally:
            self._path.unlink(missing_ok=True)
            self._ended.set()

    def _listen(self) -> trio.SocketListener:
        with self._path.parent.opened(create=True, mode=0o700):
            pass
        # A socket that a killed daemon left: we hold the working layer's lock, so nobody listens on it.
        self._path.unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The socket's file gets the mode of the socket: at no moment may others connect.
        os.fchmod(server.fileno(), 0o600)
        with short_path(self._path) as name:
            server.bind(name)
        server.listen(_BACKLOG)
        return trio.SocketListener(trio.socket.from_stdlib_socket(server))

    async def _converse(self, stream: trio.SocketStream) -> None:
        self._conversations += 1
        try:
            async with stream:
                await self._answer(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.info("control: the client hung up")
        except Exception:
            log.exception("control: unexpected error in a conversation")
        finally:
            self._conversations -= 1
            if not self._conversations:
                self._tell_idle()

    async def _answer(self, stream: trio.SocketStream) -> None:
        try:
            _check_peer(stream)
            # This conversation counts from here on: the layer stays open until it has ended.
            await _send(stream, Reply())
            request = await _receive(stream)
            if self._is_closing:
                raise already_running("unmounting")
        except VfsError as error:
            await _send(stream, Reply(error=failure_of(error)))
            return
        self._running += 1
        try:
            await self._perform(stream, request)
        finally:
            self._running -= 1
            with trio.CancelScope(shield=True):
                async with self._idle:
                    self._idle.notify_all()

    async def _perform(self, stream: trio.SocketStream, request: Request) -> None:
        if self._services.changes(request.op):
            if self._changing.locked():
                await _send(stream, Reply(progress=Progress(waiting="another operation on this mount")))
            await self._take_turn(stream)
            try:
                answer = await self._run(stream, request)
            finally:
                self._changing.release()
        else:
            answer = await self._run(stream, request)
        if isinstance(answer, Failure):
            await _send(stream, Reply(error=answer))
            return
        for start in range(0, len(answer.parts), _PART_ITEMS):
            await _send(stream, Reply(part=answer.parts[start : start + _PART_ITEMS]))
        await _send(stream, Reply(ok=answer.result))

    async def _take_turn(self, stream: trio.SocketStream) -> None:
        while True:
            with trio.move_on_after(BEAT_S):
                await self._changing.acquire()
                return
            with suppress(trio.BrokenResourceError):
                await _send(stream, Reply())

    async def _run(self, stream: trio.SocketStream, request: Request) -> Answer | Failure:
        sending, receiving = trio.open_memory_channel[Progress](_PROGRESS_QUEUE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_forward, receiving, stream)
            async with sending:
                return await trio.to_thread.run_sync(self._attempt, request, _Reporter(sending))

    def _attempt(self, request: Request, report: Callable[[Progress], None]) -> Answer | Failure:
        """Runs an operation in a worker thread; nothing it raises gets past."""
        try:
            return self._services.perform(request, report)
        except VfsError as error:
            return failure_of(error)
        except msgspec.ValidationError as error:
            return failure_of(InvalidInput(f"{request.op}: {error}"))
        except OSError as error:
            log.error("control: %s: %s", request.op, error)
            message, hint = words_of(error)
            return Failure("error", f"{request.op}: {message}", hint, VfsError.exit_status)
        except Exception as error:
            log.exception("control: %s: unexpected error", request.op)
            return Failure("error", f"{request.op}: {type(error).__name__}: {error}", "The daemon's log has more.", 3)


class _Reporter:
    """Takes progress in a worker thread, ten times a second at most, and never waits for the client."""

    def __init__(self, channel: trio.MemorySendChannel[Progress]) -> None:
        self._channel = channel
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now >= self._next or progress.waiting:
            self._next = now + _PROGRESS_INTERVAL_S
            trio.from_thread.run_sync(self._offer, progress)

    def _offer(self, progress: Progress) -> None:
        try:
            self._channel.send_nowait(progress)
        except (trio.WouldBlock, trio.BrokenResourceError):
            # The client reads slowly or is gone. The next report says more than this one.
            return


async def _forward(channel: trio.MemoryReceiveChannel[Progress], stream: trio.SocketStream) -> None:
    """Sends progress to the client, and a sign of life where there is none; an operation goes on without listener."""
    async with channel:
        try:
            while True:
                reply = Reply()
                with trio.move_on_after(BEAT_S):
                    reply = Reply(progress=await channel.receive())
                await _send(stream, reply)
        except (trio.EndOfChannel, trio.BrokenResourceError):
            return


async def _send(stream: trio.SocketStream, reply: Reply) -> None:
    """Sends one line. Raises BrokenResourceError for a client that hung up, or that does not read."""
    try:
        with trio.fail_after(_SEND_TIMEOUT_S):
            await stream.send_all(msgspec.json.encode(reply) + b"\n")
    except trio.TooSlowError:
        raise trio.BrokenResourceError from None


async def _receive(stream: trio.SocketStream) -> Request:
    """Returns a request. Raises InvalidInput for anything that is none, too long or too late."""
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
        raise InvalidInput(f"not a request: {error}") from error


def _check_peer(stream: trio.SocketStream) -> None:
    credentials = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    if uid not in (0, os.getuid()):
        raise NotPermitted("only the mount's owner may talk to its daemon")
