"""A repository, and a writable mount of it, for each test; the repository is checked at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.mounts import Mount, mounted
from support.repositories import Repositories


@pytest.fixture
def repository(repositories: Repositories) -> Path:
    """Returns the path of a new repository that no process has open."""
    repo = repositories.make()
    repo.close()
    return repo.path


@pytest.fixture
def mount(repository: Path, tmp_path: Path) -> Iterator[Mount]:
    """Yields a writable mount; at the end the kernel and the mount agree about what the kernel knows."""
    with mounted(repository, tmp_path / "mnt") as mount:
        yield mount
    assert "forgot" not in mount.log.read_text()
    assert "Traceback" not in mount.log.read_text()
