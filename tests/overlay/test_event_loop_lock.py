"""The lock of a working layer over a remote backend: the event loop's thread never waits, and gets its turn."""

from __future__ import annotations

import threading

import pytest

from vfs.backend.memory import MemoryBackend
from vfs.overlay.event_loop_lock import LayerBusy, LayerLock
from vfs.store.remote_blocks import RemoteBlocks

LIMIT_S = 300.0


@pytest.fixture
def lock() -> LayerLock:
    remote = RemoteBlocks(MemoryBackend())
    remote.serve_from(threading.get_ident())
    return LayerLock(remote)


class Holder:
    """Another thread that takes the lock and holds it until it is told to release it."""

    def __init__(self, lock: LayerLock) -> None:
        self.has_it, self._may_release = threading.Event(), threading.Event()
        self._lock = lock
        self._thread = threading.Thread(target=self._hold)
        self._thread.start()

    def _hold(self) -> None:
        with self._lock, self._lock:
            self.has_it.set()
            assert self._may_release.wait(LIMIT_S)

    def release(self) -> None:
        self._may_release.set()
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()


def test_it_is_reentrant_and_excludes_other_threads(lock: LayerLock) -> None:
    with lock, lock:
        other = Holder(lock)
        assert not other.has_it.is_set()
    assert other.has_it.wait(LIMIT_S)
    with pytest.raises(LayerBusy), lock:
        raise AssertionError
    other.release()
    with lock:
        pass


def test_a_request_has_its_turn_before_threads_that_wait_longer(lock: LayerLock) -> None:
    first = Holder(lock)
    assert first.has_it.wait(LIMIT_S)
    second = Holder(lock)
    called = threading.Event()
    turns = [lock.wait_from_loop(called.set), lock.wait_from_loop(called.set)]
    assert not called.is_set()
    first.release()
    assert called.is_set()
    for turn in turns:
        assert not second.has_it.is_set()
        with lock:
            pass
        lock.end_turn(turn)
        lock.end_turn(turn)
    assert second.has_it.wait(LIMIT_S)
    second.release()


def test_a_request_that_is_cancelled_keeps_the_lock_from_none(lock: LayerLock) -> None:
    first = Holder(lock)
    assert first.has_it.wait(LIMIT_S)
    calls: list[int] = []
    cancelled = lock.wait_from_loop(lambda: calls.append(1))
    lock.end_turn(cancelled)
    first.release()
    assert not calls
    second = Holder(lock)
    assert second.has_it.wait(LIMIT_S)
    second.release()


def test_a_free_lock_is_kept_at_once(lock: LayerLock) -> None:
    called = threading.Event()
    turn = lock.wait_from_loop(called.set)
    assert called.is_set()
    other = Holder(lock)
    with lock:
        assert not other.has_it.is_set()
    lock.end_turn(turn)
    assert other.has_it.wait(LIMIT_S)
    other.release()


def test_no_change_is_lost_between_threads_and_requests(lock: LayerLock) -> None:
    """Threads and the thread that must not wait count together; each increment is two steps."""
    counts = {"all": 0}
    rounds = 300

    def increment() -> None:
        value = counts["all"]
        counts["all"] = value + 1

    def work() -> None:
        for _ in range(rounds):
            with lock, lock:
                increment()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(rounds):
        try:
            with lock:
                increment()
        except LayerBusy:
            is_free = threading.Event()
            turn = lock.wait_from_loop(is_free.set)
            assert is_free.wait(LIMIT_S)
            with lock:
                increment()
            lock.end_turn(turn)
    for thread in threads:
        thread.join(LIMIT_S)
    assert counts["all"] == 5 * rounds
