"""A proxy before an object server that adds a round trip and does to requests what networks and services do."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest

from support.object_server import ObjectServer, object_server
from vfs.backend.locations import Location


class Failing(Enum):
    """What happens to a request."""

    BUSY = auto()
    """The service answers 503 and does nothing."""
    REFUSED = auto()
    """The connection ends before the request is passed on."""
    UNANSWERED = auto()
    """The service does what it was asked for; the connection ends before the answer."""
    CUT = auto()
    """The answer's body ends in its middle."""
    SHIFTED = auto()
    """Of a range the bytes that follow it come, under the heading of the right ones."""
    FLIPPED = auto()
    """A bit of the answer's body is another one."""


class Asked(NamedTuple):
    """A request that came to the proxy."""

    method: str
    path: str
    sent: int
    is_conditional: bool


Decide = Callable[[Asked], "Failing | None"]


class FaultyProxy:
    """Counts requests in `asked`; `decide` chooses what happens to each (None: it is passed on)."""

    def __init__(self, server: ObjectServer, *, round_trip_s: float = 0.0) -> None:
        self.server = server
        self.round_trip_s = round_trip_s
        self.asked: list[Asked] = []
        self.received = 0
        self.decide: Decide = lambda _asked: None
        self.waits = threading.local()
        self.held: list[threading.Event] = []
        self.lock = threading.Lock()
        self.port = 0

    def location(self, prefix: str | None = None) -> Location:
        """Returns a location of the server, through the proxy."""
        return Location(self.server.location(prefix).url, f"http://127.0.0.1:{self.port}")

    def hold(self, gate: threading.Event) -> None:
        """Called by `decide`: the request that it decides on goes on when the gate is open, or the proxy ends."""
        self.waits.gate = gate

    def clear(self) -> None:
        """Forgets what was asked."""
        with self.lock:
            self.asked, self.received = [], 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def log_message(self, *_: object) -> None:
        return

    def handle_any(self) -> None:
        proxy = self.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_conditional = "If-Match" in self.headers or self.headers.get("If-None-Match") == "*"
        asked = Asked(self.command, self.path, len(body), is_conditional)
        with proxy.lock:
            proxy.asked.append(asked)
            failing = proxy.decide(asked)
        gate = proxy.waits.__dict__.pop("gate", None)
        if gate is not None:
            proxy.held.append(gate)
            gate.wait()
        time.sleep(proxy.round_trip_s)
        if failing is Failing.BUSY:
            self._answer(503, [("Retry-After", "0")], b"<Error><Code>SlowDown</Code></Error>")
            return
        if failing is Failing.REFUSED:
            self._end()
            return
        try:
            status, headers, answer = self._forward(body, failing)
        except (OSError, http.client.HTTPException):
            self._end()
            return
        if failing is Failing.UNANSWERED:
            self._end()
            return
        if failing is Failing.FLIPPED and answer:
            middle = len(answer) // 2
            answer = answer[:middle] + bytes((answer[middle] ^ 1,)) + answer[middle + 1 :]
        with proxy.lock:
            proxy.received += len(answer)
        self._answer(status, headers, answer, cut=failing is Failing.CUT)

    def _forward(self, body: bytes, failing: Failing | None) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.server.port, timeout=300)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        wanted = self.headers.get("Range", "")
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            found = answer.read()
            if failing is Failing.SHIFTED and wanted and len(found) > 1:
                found = found[1:] + b"\0"
            return answer.status, answer.getheaders(), found
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        has_length = False
        for name, value in headers:
            if name.lower() in ("connection", "transfer-encoding"):
                continue
            has_length = has_length or name.lower() == "content-length"
            self.send_header(name, value)
        if not has_length and status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._end()

    def _end(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)


for _method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler.handle_any)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: clients that go away in the middle are what this is for."""


@contextmanager
def faulty_proxy(server: ObjectServer, *, round_trip_s: float = 0.0) -> Iterator[FaultyProxy]:
    """Runs a proxy before a server."""
    proxy = FaultyProxy(server, round_trip_s=round_trip_s)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    with _Server(("127.0.0.1", 0), handler) as listening:
        proxy.port = listening.server_address[1]
        thread = threading.Thread(target=lambda: listening.serve_forever(poll_interval=0.05))
        thread.start()
        try:
            yield proxy
        finally:
            for gate in proxy.held:
                gate.set()
            listening.shutdown()
            thread.join()


@pytest.fixture
def proxy() -> Iterator[FaultyProxy]:
    """A proxy before the session's server."""
    with faulty_proxy(object_server()) as made:
        yield made
