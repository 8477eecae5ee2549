"""Whether a place is safe for several machines is found out, whatever it says."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from support.object_server import lying_server, object_server
from vfs.backend.local import LocalBackend
from vfs.backend.locations import open_location
from vfs.backend.memory import MemoryBackend
from vfs.backend.protocol import Buffer, ObjectBackend, Token
from vfs.remote.probing import WRITERS, probe


@pytest.mark.parametrize("kind", ["memory", "directory", "object storage"])
def test_a_place_that_honours_conditions_is_found_safe_and_left_empty(kind: str, tmp_path: Path) -> None:
    backends: dict[str, ObjectBackend] = {"memory": MemoryBackend(), "directory": LocalBackend(tmp_path)}
    backend = backends.get(kind) or object_server().backend()
    assert probe(backend).fault == ""
    assert list(backend.list("")) == []


@pytest.mark.slow
def test_a_server_that_ignores_conditions_is_found_out(tmp_path: Path) -> None:
    with lying_server(tmp_path) as server:
        backend = open_location(server.location())
        assert "old ETag" in probe(backend).fault


class _Careless(MemoryBackend):
    """Honours conditions while nothing races: writers that have asked at the same time all write."""

    def __init__(self, writers: int) -> None:
        super().__init__()
        self._asked = threading.Barrier(writers, timeout=300)

    def put_if_absent(self, key: str, data: Buffer) -> Token:
        """Asks, and writes when all the others have asked."""
        if key.endswith("-0") or any(True for _ in self.list(key)):
            return super().put_if_absent(key, data)
        self._asked.wait()
        self.put(key, data)
        return self.read_versioned(key).token


def test_conditions_that_hold_without_a_race_only_are_found_out() -> None:
    assert "at the same time" in probe(_Careless(WRITERS)).fault
