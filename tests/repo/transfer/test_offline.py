"""A clone whose remote swallows what it is sent: what is here is read, the rest fails, then it goes on."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.faulty_proxy import Asked, FaultyProxy
from support.sharing import Person, content
from support.waiting import wait_until
from vfs.backend import object_storage
from vfs.backend.wrappers import RetryPolicy
from vfs.remote import settings

SIZE = 300_000


@pytest.fixture
def ben(tmp_path: Path, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    """Returns who has cloned a remote with some files, and waits a second for an answer."""
    monkeypatch.setattr(object_storage, "_SILENCE_S", 1)
    monkeypatch.setattr(object_storage, "_ASKING_S", 3600)  # Nothing that a read needs may take so long.
    monkeypatch.setattr(settings, "_READING", RetryPolicy(attempts=2, deadline_s=1.0))
    ana = Person("ana", tmp_path / "ana").init()
    for number in range(6):
        ana.write(f"f{number}", content(number, SIZE))
    ana.commit("last", b"last")
    location = proxy.location()
    ana.add_remote(location, is_tested=False)
    ana.push()
    ana.close()
    person = Person("ben", tmp_path / "ben")
    person.clone(location)
    yield person
    person.close()


def test_a_network_that_swallows_everything_ends_a_read_and_then_fails_the_others_at_once(
    ben: Person, proxy: FaultyProxy
) -> None:
    assert ben.read("f0") == content(0, SIZE)
    never = threading.Event()

    def swallow(_asked: Asked) -> None:
        proxy.hold(never)

    proxy.decide = swallow
    ben.reopen()
    assert ben.read("f0") == content(0, SIZE)
    with pytest.raises(OSError):
        ben.read("f3")
    asked = len(proxy.asked)
    for number in (3, 4, 5):
        with pytest.raises(OSError) as failure:
            ben.read(f"f{number}")
        assert failure.value.errno in (errno.ENETDOWN, errno.ECONNABORTED)
    assert len(proxy.asked) <= asked + 2
    assert ben.read("f0") == content(0, SIZE)
    proxy.decide = lambda _asked: None
    never.set()

    def comes_back() -> bool:
        try:
            return ben.read("f4") == content(4, SIZE)
        except OSError:
            return False

    wait_until(comes_back)
    assert ben.read("f5") == content(5, SIZE)
