"""Wrappers: what each adds to a backend."""

from __future__ import annotations

import random

import pytest

from vfs.backend.memory import MemoryBackend
from vfs.backend.protocol import MissingKey
from vfs.backend.wrappers import (
    CONDITIONAL,
    CountingBackend,
    Fault,
    FaultBackend,
    LatencyBackend,
    Request,
    RetryBackend,
    RetryPolicy,
)


class Time:
    """A clock that only sleep moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


class Failing:
    """Fails a number of requests, all with one fault, and records every one."""

    def __init__(self, times: int, fault: Fault) -> None:
        self._left = times
        self._fault = fault
        self.seen: list[tuple[Request, str]] = []

    def __call__(self, name: Request, key: str) -> Fault | None:
        self.seen.append((name, key))
        self._left -= 1
        return self._fault if self._left >= 0 else None


def retrying(
    times: int, fault: Fault, policy: RetryPolicy | None = None
) -> tuple[MemoryBackend, Failing, Time, RetryBackend]:
    memory, failing, time = MemoryBackend(), Failing(times, fault), Time()
    wrapped = RetryBackend(
        FaultBackend(memory, failing), policy, sleep=time.sleep, clock=time.clock, jitter=random.Random(1)
    )
    return memory, failing, time, wrapped


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("error", [ConnectionResetError("gone"), TimeoutError("slow")])
def test_a_transient_error_is_retried_with_growing_random_delays(error: OSError, is_done: bool) -> None:
    memory, failing, time, backend = retrying(4, Fault(error, is_done=is_done))
    backend.put("k", b"data")
    assert memory.read("k") == b"data"
    assert failing.seen == [("put", "k")] * 5
    assert len(time.slept) == 4
    for attempt, delay in enumerate(time.slept):
        assert 0 <= delay <= 0.1 * 2**attempt
    assert len(set(time.slept)) == 4


def test_attempts_are_bounded_and_the_last_error_is_the_callers() -> None:
    _, failing, time, backend = retrying(99, Fault(ConnectionResetError("gone")), RetryPolicy(attempts=3))
    with pytest.raises(ConnectionResetError, match="gone"):
        backend.read("k")
    assert len(failing.seen) == 3
    assert len(time.slept) == 2


def test_the_time_is_bounded() -> None:
    policy = RetryPolicy(attempts=1000, first_delay_s=1, delay_max_s=4, deadline_s=20)
    _, failing, time, backend = retrying(9999, Fault(TimeoutError("slow")), policy)
    with pytest.raises(TimeoutError):
        backend.read("k")
    assert 20 - 4 <= time.now <= 20
    assert max(time.slept) <= 4
    assert len(failing.seen) == len(time.slept) + 1


def test_an_error_that_would_come_again_is_not_retried() -> None:
    _, failing, time, backend = retrying(1, Fault(PermissionError("no")))
    with pytest.raises(PermissionError):
        backend.read("k")
    with pytest.raises(MissingKey):
        backend.read("k")
    assert len(failing.seen) == 2
    assert time.slept == []


@pytest.mark.parametrize("name", sorted(CONDITIONAL))
@pytest.mark.parametrize("is_done", [False, True])
def test_a_conditional_write_is_never_repeated(name: Request, is_done: bool) -> None:
    memory = MemoryBackend()
    before = memory.put_if_absent("old", b"1")
    failing = Failing(1, Fault(ConnectionResetError("gone"), is_done=is_done))
    backend = RetryBackend(FaultBackend(memory, failing), sleep=Time().sleep)

    def write() -> object:
        if name == "put_if_absent":
            return backend.put_if_absent("new", b"mine")
        return backend.compare_and_swap("old", b"mine", before)

    key = "new" if name == "put_if_absent" else "old"
    with pytest.raises(ConnectionResetError):
        write()
    assert failing.seen == [(name, key)]
    # The caller finds out by reading what the outcome was.
    found = {key: memory.read(key) for key, _ in memory.list("")}
    assert found == ({"old": b"1"} | ({key: b"mine"} if is_done else {}))


def test_a_delete_whose_answer_was_lost_has_succeeded() -> None:
    memory, failing, _, backend = retrying(1, Fault(ConnectionResetError("gone"), is_done=True))
    memory.put("k", b"x")
    backend.delete("k")
    assert failing.seen == [("delete", "k")] * 2
    with pytest.raises(MissingKey):
        backend.delete("k")


def test_an_upload_whose_commit_was_lost_is_committed_once() -> None:
    memory, failing, _, backend = retrying(2, Fault(TimeoutError("slow"), is_done=True))
    with backend.start() as upload:
        upload.write(b"data")
        upload.commit("k")
    assert memory.read("k") == b"data"
    assert failing.seen == [("commit", "k")] * 3


def test_latency_is_a_round_trip_for_each_request_and_none_for_a_hint() -> None:
    time = Time()
    backend = LatencyBackend(MemoryBackend(), 0.05, sleep=time.sleep)
    with backend.start() as upload:
        upload.write(b"0123")
        upload.write(b"4567")
        upload.commit("k")
    assert time.slept == [0.05]
    backend.hint_readahead("k", 0, 4)
    assert time.slept == [0.05]
    assert backend.read_range("k", 2, 4) == b"2345"
    assert list(backend.list("")) == [("k", 8)]
    assert time.slept == [0.05] * 3


def test_requests_and_bytes_are_counted() -> None:
    backend = CountingBackend(MemoryBackend())
    backend.put("k", b"0123456789")
    token = backend.put_if_absent("other", b"01")
    backend.compare_and_swap("other", b"012", token)
    with backend.start() as upload:
        upload.write(b"x" * 5)
        upload.commit("up")
    assert backend.counts.bytes_written == 10 + 2 + 3 + 5
    backend.read("k")
    backend.read_range("k", 8, 100)
    backend.read_into("k", 0, memoryview(bytearray(4)))
    backend.read_versioned("other")
    assert backend.size("k") == 10
    assert list(backend.list("o")) == [("other", 3)]
    with pytest.raises(MissingKey):
        backend.read("absent")
    backend.delete("k")
    assert backend.counts.bytes_read == 10 + 2 + 4 + 3
    assert backend.counts.requests == {
        "put": 1,
        "put_if_absent": 1,
        "compare_and_swap": 1,
        "commit": 1,
        "read": 2,
        "read_range": 1,
        "read_into": 1,
        "read_versioned": 1,
        "size": 1,
        "list": 1,
        "delete": 1,
    }
