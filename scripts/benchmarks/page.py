"""The page of a large repository: what a browser waits for, from a server that was just started.

Repositories are made through the store: a long history, two versions in which every file of a thousand directories
differs, and a Parquet file whose rows changed. Each question is asked over HTTP, of a server process of its own.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.bench import Bench
from benchmarks.report import PAGE, Row
from benchmarks.subjects import remove_tree, vfs
from vfs.model.ids import CommitId, chunk_id
from vfs.model.objects import Commit, Entry, Form, Kind
from vfs.repo.repository import Repository
from vfs.store.object_store import ObjectSink
from vfs.store.object_writer import ObjectWriter
from vfs.store.refs.operation import BRANCHES, Operation, RefChange
from vfs.store.trees.directories import Directory, edit_directory

_DIRECTORIES = 1000
_STEP_NS = 10**9
_CHANGED_EVERY = 1000


class Server:
    """A server process, and a caller that it let in."""

    def __init__(self, repository: Path) -> None:
        command = [sys.executable, "-m", "vfs.web", str(repository)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        parts = urlsplit(json.loads(self._process.stdout.readline())["url"])
        assert parts.port is not None
        self._connection = http.client.HTTPConnection("127.0.0.1", parts.port)
        self._connection.request("GET", f"/?{parts.query}")
        answer = self._connection.getresponse()
        answer.read()
        self._cookie = (answer.headers["set-cookie"] or "").partition(";")[0]

    def get(self, path: str) -> bytes:
        """Asks for a page and returns it whole."""
        self._connection.request("GET", path, headers={"cookie": self._cookie})
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status}: {body[-300:]!r}")
        return body

    def seconds(self, path: str) -> float:
        """Returns how long a page takes."""
        started = time.perf_counter()
        self.get(path)
        return time.perf_counter() - started

    def count(self, query: str) -> float:
        """Returns how long it takes until the count of a comparison is exact."""
        started = time.perf_counter()
        while b"counting" in self.get(f"/count?{query}"):
            pass
        return time.perf_counter() - started

    def close(self) -> None:
        """Ends the server."""
        self._connection.close()
        self._process.terminate()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def served(repository: Path) -> Iterator[Server]:
    """Starts a server and ends it."""
    server = Server(repository)
    try:
        yield server
    finally:
        server.close()


class PagePart:
    """Asks for pages."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._place = bench.scratch / PAGE

    def run(self) -> None:
        """Makes the repositories and asks."""
        self._place.mkdir()
        scale = self._bench.plan.scale
        self._history(max(1000, int(100_000 * scale)))
        self._changes(max(10, int(1000 * scale)))
        self._table(max(10_000, int(1_000_000 * scale)))

    def close(self) -> None:
        """Removes everything."""
        remove_tree(self._place)

    def _ask(self, name: str, title: str, repository: Path, ask: Callable[[Server], float]) -> None:
        values = []
        for _ in range(self._bench.plan.repetitions):
            with served(repository) as server:
                values.append(ask(server))
        self._bench.add(Row(f"page-{name}", title, "s"), {"vfs": values}, PAGE)

    def _history(self, versions: int) -> None:
        self._bench.say(f"a history of {versions:,} versions")
        path = self._place / "history"
        with (
            Repository.init(path, cache_bytes_max=256 << 20) as repo,
            repo.write_lock(),
            ObjectWriter(repo.store) as writer,
        ):
            root = _root(edit_directory(writer, None, {b"a": _file(b"a", 0)}))
            head: tuple[bytes, ...] = ()
            for number in range(1, versions + 1):
                made = Commit(number, head, root, b"", number * _STEP_NS, "ann@lab", f"version {number}")
                head = (writer.put_commit(made),)
            writer.flush()
            _move(repo, CommitId(head[0]))
        words = f"at {versions:,} versions"
        self._ask("history", f"first page of the history, {words}", path, lambda server: server.seconds("/"))
        self._ask("version", f"page of a version, {words}", path, lambda server: server.seconds("/version?v=v500"))
        self._ask("search", f"first answer of a search that finds nothing, {words}", path,
                  lambda server: server.seconds("/?q=nothing-like-it"))  # fmt: skip

    def _changes(self, directories: int) -> None:
        files = directories * _DIRECTORIES
        self._bench.say(f"two versions of {files:,} files that all differ")
        path = self._place / "changes"
        with Repository.init(path, cache_bytes_max=256 << 20) as repo, repo.write_lock():
            head: tuple[bytes, ...] = ()
            for number, generation in ((1, None), (2, 0), (3, 1)):
                with ObjectWriter(repo.store) as writer:
                    root = _root(_tree(writer, directories, generation))
                    made = Commit(number, head, root, b"", number * _STEP_NS, "ann@lab", f"version {number}")
                    head = (writer.put_commit(made),)
                    writer.flush()
            _move(repo, CommitId(head[0]))
        modified, added = "a=v2&b=v3", "a=v1&b=v2"
        self._ask("summary", f"summary of {files:,} modified files", path,
                  lambda server: server.seconds(f"/compare?{modified}"))  # fmt: skip
        self._ask("added", f"summary of {files:,} added files, exact", path,
                  lambda server: server.seconds(f"/compare?{added}"))  # fmt: skip
        self._ask("count", f"count of {files:,} modified files, exact", path, lambda server: server.count(modified))

    def _table(self, rows: int) -> None:
        self._bench.say(f"a Parquet file of {rows:,} rows")
        path, source = self._place / "table", self._place / "source"
        source.mkdir()
        vfs("init", path)
        for version in (0, 1):
            _write_table(source / "train.parquet", rows, version)
            vfs("--repo", path, "import", source, "-m", f"version {version}")
        changes = f"{rows:,} rows with {rows // _CHANGED_EVERY:,} changed"
        self._ask("rows", f"a Parquet file of {changes}, compared by row and cell", path,
                  lambda server: server.seconds("/compare?a=v1&b=v2&path=train.parquet"))  # fmt: skip
        self._ask("table", f"first page of a Parquet file of {rows:,} rows, with histograms", path,
                  lambda server: server.seconds("/files?v=v2&path=train.parquet"))  # fmt: skip


def _write_table(path: Path, rows: int, version: int) -> None:
    duckdb = __import__("duckdb")
    score = f"score + CASE WHEN id % {_CHANGED_EVERY} = 7 THEN {version} ELSE 0 END"
    base = (
        "SELECT i AS id, 'name_' || i AS name, (hash(i) % 1000) / 1000.0::DOUBLE AS score,"
        f" CASE WHEN i % 3 = 0 THEN 'cat' ELSE 'dog' END AS label, i * 2 AS twice FROM range({rows}) t(i)"
    )
    duckdb.execute(f"COPY (SELECT id, name, {score} AS score, label, twice FROM ({base})) TO '{path}' (FORMAT parquet)")


def _file(name: bytes, generation: int) -> tuple[Entry, bytes]:
    content = chunk_id(b"%d of " % generation + name)
    # The bytes are never asked for: the entry alone is compared.
    return Entry(name, Kind.FILE, 0o644, 0, 0, 10**18 + generation, 40_000, content, Form.CHUNK), b""


def _tree(sink: ObjectSink, directories: int, generation: int | None) -> Directory:
    edits: dict[bytes, tuple[Entry, bytes] | None] = {}
    for number in range(directories if generation is not None else 0):
        names = [b"img_%04d_%04d.jpg" % (number, file) for file in range(_DIRECTORIES)]
        made = edit_directory(sink, None, {name: _file(name, generation or 0) for name in names})
        name = b"class_%04d" % number
        below = Entry(name, Kind.DIR, 0o755, 0, 0, 10**18, made.size, made.content, Form.EMPTY, made.tiny, made.files)
        edits[name] = below, b""
    edits[b"README"] = _file(b"README", 0)
    return edit_directory(sink, None, edits)


def _root(made: Directory) -> Entry:
    return Entry(b"", Kind.DIR, 0o755, 0, 0, 10**18, made.size, made.content, Form.EMPTY, made.tiny, made.files)


def _move(repo: Repository, head: CommitId) -> None:
    change = RefChange(f"{BRANCHES}main", "", head.hex())
    repo.refs.move(Operation(kind="commit", time_ns=time.time_ns(), author="a", refs=(change,)))
