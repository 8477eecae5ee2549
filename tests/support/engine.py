"""The engine's lower half put together in a directory: backend, tables, index, object store, refs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vfs.backend.local import LocalBackend
from vfs.model.ids import ChunkId, CommitId
from vfs.model.objects import Commit, Entry, Kind
from vfs.store.lmdb_tables import Tables
from vfs.store.object_store import ObjectStore
from vfs.store.object_writer import ObjectWriter
from vfs.store.packs.index import INDEX_TABLES, Index
from vfs.store.refs.operation import Operation, RefChange
from vfs.store.refs.operation_log import OperationLog
from vfs.store.refs.refs import REFS_TABLES, Refs

ROOT_ENTRY = Entry(b"", Kind.DIR, 0o755, 0, 0, 0)


class Crash(BaseException):
    """Stands for the end of the process: no handler of ours may take it for an error."""


class StopAfter:
    """Ends the process at the durable step after a number of others."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.stopped_at = ""

    def __call__(self, name: str) -> None:
        if self.left == 0:
            self.stopped_at = name
            raise Crash(name)
        self.left -= 1


@dataclass
class Engine:
    """The parts, open."""

    backend: LocalBackend
    tables: Tables
    index: Index
    store: ObjectStore
    log: OperationLog
    refs: Refs

    def commit(self, number: int, parent: bytes = b"", *, time_ns: int = 0, message: str = "") -> CommitId:
        """Stores a commit of an empty directory."""
        parents = (parent,) if parent else ()
        with ObjectWriter(self.store) as writer:
            made = writer.put_commit(Commit(number, parents, ROOT_ENTRY, b"", time_ns or number, "a", message))
            writer.flush()
        return made


@contextmanager
def engine(
    directory: Path, *, on_step: Callable[[str], None] | None = None, cache_bytes_max: int = 1 << 26
) -> Iterator[Engine]:
    """Opens (or makes) a directory's parts, as a repository does, and closes them."""
    directory.mkdir(exist_ok=True)
    backend = LocalBackend(directory, on_step)
    tables = Tables(directory / "index", (*INDEX_TABLES, *REFS_TABLES), map_bytes=1 << 30, on_step=on_step)
    try:
        index = Index(tables)
        store = ObjectStore(backend, index, cache_bytes_max=cache_bytes_max)
        log = OperationLog(backend)
        yield Engine(backend, tables, index, store, log, Refs(tables, log, store.get_commit))
    finally:
        tables.close()
        backend.close()


def move(name: str, old: bytes, new: bytes, *, work: tuple[str, int] | None = None) -> Operation:
    """Returns the operation that moves one ref."""
    return Operation(kind="commit", author="a", refs=(RefChange(name, old.hex(), new.hex()),), work=work)


def chunks(count: int, size: int, seed: int = 1) -> list[bytes]:
    """Returns contents that no compression helps, the same for a seed."""
    noise = random.Random(seed)
    return [noise.randbytes(size) for _ in range(count)]


def put_all(parts: Engine, plains: list[bytes]) -> list[ChunkId]:
    """Stores chunks."""
    with ObjectWriter(parts.store) as writer:
        ids = [writer.put_chunk(plain) for plain in plains]
        writer.flush()
    return ids
