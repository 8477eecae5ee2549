"""A remote behind a static HTTP address: cloned and read, never written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.sharing import Person, content
from vfs.backend.locations import Location
from vfs.errors import ReadOnly

People = Callable[[str], Person]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Location]:
    """Serves the directory of the remote, whole files only, as the simplest servers do."""
    handler = partial(_Quiet, directory=str(tmp_path / "remote"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.05))
        thread.start()
        try:
            yield Location(f"http://127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()
            thread.join()


def test_a_static_remote_is_cloned_and_takes_nothing(ana: Person, served: Location, tmp_path: Path) -> None:
    ana.commit("a", content(1, 300_000))
    ana.push()
    ben = Person("ben", tmp_path / "ben")
    ben.clone(served, contents=True)
    assert ben.read("a") == content(1, 300_000)
    assert ben.versions() == ana.versions()
    ben.commit("b", content(2))
    with pytest.raises(ReadOnly):
        ben.push()
    ben.close()
