"""A version with many small files, each a chunk of its own, stored without a working layer."""

from __future__ import annotations

import random
import time

from vfs.model.objects import MAIN, Commit, Entry, Form, Kind
from vfs.repo.repository import Repository
from vfs.store.object_writer import ObjectWriter
from vfs.store.refs.operation import BRANCHES, Operation, RefChange
from vfs.store.trees.directories import edit_directory

IN_DIRECTORY = 1000


def commit_many(repo: Repository, count: int, *, size: int = 200) -> None:
    """Makes `count` files of `size` bytes the first version of `main`."""
    source = random.Random(count)
    below: dict[bytes, tuple[Entry, bytes] | None] = {}
    with ObjectWriter(repo.store) as writer:
        for start in range(0, count, IN_DIRECTORY):
            files: dict[bytes, tuple[Entry, bytes] | None] = {}
            for number in range(start, min(start + IN_DIRECTORY, count)):
                name = b"%07d" % number
                chunk = writer.put_chunk(source.randbytes(size))
                files[name] = Entry(name, Kind.FILE, 0o644, 0, 0, 0, size, chunk, Form.CHUNK), b""
            name = b"d%04d" % (start // IN_DIRECTORY)
            below[name] = _directory(writer, name, files), b""
        commit = Commit(1, (), _directory(writer, b"", below), b"", time.time_ns(), "a", "many")
        made = writer.put_commit(commit)
        writer.flush()
    with repo.write_lock():
        change = RefChange(BRANCHES + MAIN, "", made.hex())
        repo.refs.move(Operation(time_ns=time.time_ns(), kind="commit", author="a", refs=(change,)))


def _directory(writer: ObjectWriter, name: bytes, entries: dict[bytes, tuple[Entry, bytes] | None]) -> Entry:
    made = edit_directory(writer, None, entries)
    return Entry(name, Kind.DIR, 0o755, 0, 0, 0, made.size, made.content, Form.EMPTY, made.tiny, made.files)
