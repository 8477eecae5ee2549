"""A remote that does not answer: who asks it, who does not, and how it comes back."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import pytest

from vfs.backend.memory import MemoryBackend
from vfs.backend.protocol import MissingKey
from vfs.backend.wrappers import Fault, FaultBackend
from vfs.remote.availability import PAUSE_S, WatchedBackend


class Place:
    """A backend with one object, cut off while `is_cut`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.is_cut = False
        self.asked = 0
        self.hook: Callable[[], object] = lambda: None
        inner = MemoryBackend()
        inner.put("a", b"abc")
        self.backend = WatchedBackend(FaultBackend(inner, self._fault), clock=lambda: self.now)

    def _fault(self, _name: str, _key: str) -> Fault | None:
        self.asked += 1
        self.hook()
        return Fault(ConnectionError(errno.ECONNREFUSED, "cut")) if self.is_cut else None


def test_one_request_in_a_while_asks_and_the_others_fail_at_once() -> None:
    place = Place()
    assert place.backend.read("a") == b"abc"
    place.is_cut = True
    with pytest.raises(ConnectionError, match="cut"):
        place.backend.read("a")
    asked = place.asked
    for _ in range(100):
        with pytest.raises(ConnectionError) as failure:
            place.backend.read("a")
        assert failure.value.errno == errno.ENETDOWN
    assert place.asked == asked
    place.now += PAUSE_S
    with pytest.raises(ConnectionError, match="cut"):
        place.backend.read("a")
    assert place.asked == asked + 1
    place.is_cut = False
    with pytest.raises(ConnectionError, match="does not answer"):
        place.backend.read("a")
    place.now += PAUSE_S
    assert place.backend.read("a") == b"abc"
    assert place.backend.read("a") == b"abc"


def test_others_do_not_wait_for_the_one_that_asks() -> None:
    place = Place()
    place.is_cut = True
    with pytest.raises(ConnectionError):
        place.backend.read("a")
    place.now += PAUSE_S
    is_asking, may_go = threading.Event(), threading.Event()

    def stay() -> None:
        is_asking.set()
        assert may_go.wait(60)

    place.hook, place.is_cut = stay, False
    asking = threading.Thread(target=place.backend.read, args=("a",))
    asking.start()
    assert is_asking.wait(60)
    with pytest.raises(ConnectionError, match="does not answer"):
        place.backend.read("a")
    may_go.set()
    asking.join()
    place.hook = lambda: None
    assert place.backend.read("a") == b"abc"


def test_an_answer_that_there_is_nothing_is_an_answer() -> None:
    place = Place()
    place.is_cut = True
    with pytest.raises(ConnectionError):
        place.backend.read("a")
    place.now += PAUSE_S
    place.is_cut = False
    with pytest.raises(MissingKey):
        place.backend.read("b")
    assert place.backend.read("a") == b"abc"
