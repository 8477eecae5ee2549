"""Repositories with a few small files, made through the interface for Python programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import vfs

FIRST = {"a.txt": b"one\ntwo\n", "dir/b.csv": b"key,value\n1,x\n2,y\n", "dir/deep/c.bin": bytes(range(256)) * 300}
SECOND = {"a.txt": b"one\n2\nthree\n", "dir/b.csv": b"key,value\n1,x\n2,z\n3,w\n"}


def commit(repository: vfs.Repository, files: Mapping[str, bytes | None], message: str) -> vfs.Version:
    """Commits files; None removes one."""
    with repository.working() as layer:
        for path, data in files.items():
            if data is None:
                layer.remove(path)
            else:
                layer.write(path, data)
        return layer.commit(message, author="a@b")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[vfs.Repository]:
    """A repository with two versions, FIRST and, over it, SECOND."""
    with vfs.init(tmp_path / "repo") as repository:
        commit(repository, FIRST, "first")
        commit(repository, SECOND, "second")
        yield repository
