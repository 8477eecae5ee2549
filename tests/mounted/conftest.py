"""A repository, and a writable mount of it, for each test; the repository is checked at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.mounts import Mount, mounted
from vfs.repo.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "repo"
    Repository.init(path).close()
    yield path
    with Repository.open(path) as repo:
        assert repo.notices == []


@pytest.fixture
def mount(repository: Path, tmp_path: Path) -> Iterator[Mount]:
    with mounted(repository, tmp_path / "mnt") as mount:
        yield mount
    # The kernel and the mount agreed to the end about what the kernel knows.
    assert "forgot" not in mount.log.read_text()
    assert "Traceback" not in mount.log.read_text()
