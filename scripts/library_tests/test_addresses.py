"""Imports from addresses, by the real libraries and from real servers on this machine: HTTP, git, Hugging Face."""

from __future__ import annotations

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import vfs

FILES = {"a b é.csv": b"x,y\n1,2\n", "sub/deep/c": b"3"}


class Web(http.server.SimpleHTTPRequestHandler):
    """Serves a directory, with listings."""

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves what the library asks of a hub for the data set `me/set` with FILES."""

    def log_message(self, *_: object) -> None:
        """Logs nothing."""

    def _answer(self, data: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_GET(self) -> None:
        """Answers for the data set, its tree and its files."""
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/datasets/me/set/tree/"):
            files = [{"type": "file", "oid": "e" * 40, "size": len(data), "path": name} for name, data in FILES.items()]
            self._answer(json.dumps(files).encode(), Content_Type="application/json")
        elif path.startswith("/api/datasets/me/set"):
            about: Mapping[str, Any] = {"id": "me/set", "sha": "c" * 40, "private": False, "tags": [], "siblings": []}
            self._answer(json.dumps(about).encode(), Content_Type="application/json")
        elif "/resolve/main/" in path:
            self._answer(FILES[path.partition("/resolve/main/")[2]], ETag='"e"', X_Repo_Commit="c" * 40)
        else:
            self.send_error(404)

    def do_HEAD(self) -> None:
        """Answers without the content."""
        self.do_GET()


@contextmanager
def serving(handler: Any) -> Iterator[str]:
    """Yields the address of a server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def there(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "there" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "there"


def imported(tmp_path: Path, address: str, **environment: str) -> dict[str, bytes]:
    repository = tmp_path / "repo"
    vfs.init(repository).close()
    subprocess.run(
        [sys.executable, "-m", "vfs", "--repo", repository, "import", "--from", address, "-m", "fetched"],
        check=True,
        env={**os.environ, "HOME": str(tmp_path), **environment},
    )
    with vfs.open(repository) as opened:
        version = opened["latest"]
        assert version.metadata["vfs.source"] == address.partition("?")[0]
        files = [entry for entry in version.glob("**/*") if entry.is_file]
        return {entry.path: version.read_bytes(entry.path) for entry in files}


def test_a_listing_on_the_web(tmp_path: Path, there: Path) -> None:
    with serving(functools.partial(Web, directory=str(there))) as address:
        assert imported(tmp_path, f"{address}/") == FILES


def test_a_file_on_the_web_with_a_query(tmp_path: Path, there: Path) -> None:
    with serving(functools.partial(Web, directory=str(there))) as address:
        assert imported(tmp_path, f"{address}/a%20b%20%C3%A9.csv?token=secret") == {"a b é.csv": FILES["a b é.csv"]}


def test_a_revision_of_a_git_repository(tmp_path: Path, there: Path) -> None:
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=there, check=True)
    assert imported(tmp_path, f"git://{there}:main@sub") == {"deep/c": b"3"}


def test_a_data_set_of_a_hub(tmp_path: Path) -> None:
    with serving(Hub) as address:
        assert imported(tmp_path, "hf://datasets/me/set", HF_ENDPOINT=address, HF_HUB_DISABLE_XET="1") == FILES
