"""Two places for each test: a directory on the local filesystem, which says what is right, and one in a mount."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.mounts import Mount, mounted
from support.repositories import Repositories


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """Yields a mount for all tests, which any user may enter and in which set-user-id bits and devices work."""
    directory = tmp_path_factory.mktemp("posix")
    repo = Repositories(directory).make()
    repo.close()
    with mounted(repo.path, directory / "mnt", "allow_other", "suid", "dev") as mount:
        yield mount
    assert "forgot" not in mount.log.read_text()
    assert "Traceback" not in mount.log.read_text()


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """Returns an empty directory on the local filesystem."""
    return _empty(tmp_path / "local")


@pytest.fixture
def inside(shared: Mount, tmp_path: Path) -> Path:
    """Returns an empty directory in the mount."""
    return _empty(shared / tmp_path.name)


@pytest.fixture(params=["local", "inside"])
def place(request: pytest.FixtureRequest) -> Path:
    """Returns an empty directory: a local one, which shows that the test is right, then one in the mount."""
    path: Path = request.getfixturevalue(request.param)
    return path


def _empty(path: Path) -> Path:
    path.mkdir()
    # Other users may enter, whatever the umask.
    os.chmod(path, 0o755)
    return path
