"""Object storage over a network that fails: what may be repeated, and that no wrong or half answer is believed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from support.faulty_proxy import Asked, Failing, FaultyProxy
from support.object_server import object_server
from vfs.backend.locations import open_location
from vfs.backend.object_storage import OBJECT_BYTES_MAX
from vfs.backend.protocol import TRANSIENT, KeyExists, MissingKey, ObjectBackend
from vfs.backend.wrappers import RetryBackend, RetryPolicy
from vfs.errors import Advice, Corrupt, Hint, NotPermitted, describe_error


@pytest.fixture
def backend(proxy: FaultyProxy) -> ObjectBackend:
    return open_location(proxy.location())


def _fail(proxy: FaultyProxy, turns: list[Failing | None]) -> None:
    proxy.clear()
    proxy.decide = lambda _asked: turns.pop(0) if turns else None


@pytest.mark.parametrize("failing", [Failing.BUSY, Failing.REFUSED, Failing.UNANSWERED, Failing.CUT])
def test_a_read_that_fails_on_the_way_may_be_repeated(
    proxy: FaultyProxy, backend: ObjectBackend, failing: Failing
) -> None:
    backend.put("k", bytes(range(256)) * 1000)
    _fail(proxy, [failing] * 2)
    with pytest.raises(TRANSIENT):
        backend.read("k")
    with pytest.raises(TRANSIENT):
        backend.read_range("k", 10, 1000)
    _fail(proxy, [failing] * 4)
    patient = RetryBackend(backend, sleep=lambda _seconds: None)
    assert patient.read("k") == bytes(range(256)) * 1000
    assert patient.read_range("k", 3, 5) == bytes(range(3, 8))


def test_a_storm_of_refusals_ends_with_an_error_that_says_so(proxy: FaultyProxy, backend: ObjectBackend) -> None:
    proxy.decide = lambda _asked: Failing.BUSY
    patient = RetryBackend(backend, RetryPolicy(attempts=4), sleep=lambda _seconds: None)
    with pytest.raises(ConnectionError, match="503"):
        patient.put("k", b"x")
    assert len(proxy.asked) == 4


def test_a_swap_that_was_done_and_not_answered_is_not_sent_again(proxy: FaultyProxy, backend: ObjectBackend) -> None:
    token = backend.put_if_absent("k", b"one")

    def decide(asked: Asked) -> Failing | None:
        return Failing.UNANSWERED if asked.is_conditional else None

    proxy.decide = decide
    proxy.clear()
    with pytest.raises(TRANSIENT):
        RetryBackend(backend, sleep=lambda _seconds: None).compare_and_swap("k", b"two", token)
    assert [asked.is_conditional for asked in proxy.asked] == [True]
    assert backend.read("k") == b"two"


def test_a_create_asks_before_it_sends_the_body(proxy: FaultyProxy, backend: ObjectBackend) -> None:
    backend.put("k", b"there")
    proxy.clear()
    with pytest.raises(KeyExists):
        backend.put_if_absent("k", bytes(1_000_000))
    assert [(asked.method, asked.sent) for asked in proxy.asked] == [("HEAD", 0)]


def test_an_object_of_any_size_is_sent_with_one_request_that_leaves_nothing_if_it_is_cut(
    proxy: FaultyProxy, backend: ObjectBackend
) -> None:
    data = bytes(20_000_000)
    proxy.decide = lambda asked: Failing.REFUSED if asked.method == "PUT" else None
    with pytest.raises(TRANSIENT):
        backend.put("k", data)
    with pytest.raises(MissingKey):
        backend.size("k")
    proxy.decide = lambda _asked: None
    proxy.clear()
    with backend.start() as upload:
        upload.write(data)
        upload.commit("k")
    assert [(asked.method, asked.sent, "?" in asked.path) for asked in proxy.asked] == [("PUT", len(data), False)]


def test_an_object_that_is_too_large_is_refused_before_its_body(proxy: FaultyProxy, backend: ObjectBackend) -> None:
    backend.put("k", bytes(OBJECT_BYTES_MAX + 1))
    with pytest.raises(Corrupt, match="no object has more"):
        backend.read("k")
    assert backend.read_range("k", OBJECT_BYTES_MAX, 5) == b"\0"


def test_wrong_credentials_are_no_passing_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    location = object_server().location()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(NotPermitted, match="access was refused"):
        open_location(location).read("k")


class _NoRole(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        self.send_error(403)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def metadata_service() -> Iterator[str]:
    """Returns the address of a service that knows no role of this machine, and refuses with a status of its own."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _NoRole) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_missing_credentials_are_said_so(
    proxy: FaultyProxy, metadata_service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", metadata_service)
    with pytest.raises(NotPermitted, match="no credentials were found") as refused:
        open_location(proxy.location()).read("k")
    assert "AWS_ACCESS_KEY_ID" in str(refused.value.hint)


def test_a_refusal_of_the_service_is_no_failed_disk() -> None:
    for where in ("s3://bucket/root", "az://container/root"):
        assert describe_error(OSError(errno.EIO, "status code: 301", where))[1] == Hint(Advice.REFUSED_BY_SERVICE)
    assert describe_error(OSError(errno.EIO, "Input/output error", "/srv/repo/log"))[1] == Hint(Advice.FAILED_DISK)
