"""Fixtures that make repositories and check them at the end of the test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vfs.overlay.overlay import Overlay
from vfs.repo.config import Config
from vfs.repo.fsck import fsck
from vfs.repo.ingest.writeback import Stamps, stamps_of
from vfs.repo.repository import Repository

CACHE_BYTES = 8 << 20

Made = Callable[..., Repository]


class Repositories:
    """Makes and opens repositories, and remembers them; whatever the test left open is closed when it ends.

    A repository that a test damages on purpose is taken out with `expect_damage`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._paths: dict[Path, None] = {}
        self._open: list[Repository | Overlay] = []

    def make(self, name: str = "repo", config: Config | None = None) -> Repository:
        """Makes a repository and returns it open."""
        path = self._directory / name
        repo = Repository.init(path, config, cache_bytes_max=CACHE_BYTES)
        self._paths[path] = None
        self._open.append(repo)
        return repo

    def reopen(self, repo: Repository) -> Repository:
        """Closes a repository and opens it again, as another process would."""
        repo.close()
        return self.open(repo.path)

    def open(self, path: Path) -> Repository:
        """Opens a repository that is there."""
        self._paths[path] = None
        repo = Repository.open(path, cache_bytes_max=CACHE_BYTES)
        self._open.append(repo)
        return repo

    def watch(self, path: Path) -> Path:
        """Takes in a repository that something else makes, to be checked at the end."""
        self._paths[path] = None
        return path

    def overlay(self, repo: Repository) -> Overlay:
        """Opens a repository's working layer."""
        overlay = repo.open_overlay()
        self._open.append(overlay)
        return overlay

    def expect_damage(self, repo: Repository) -> None:
        """Leaves a repository out of the check at the end."""
        del self._paths[repo.path]

    def close(self) -> None:
        """Closes all that are open, the last one first."""
        while self._open:
            self._open.pop().close()

    def check(self) -> None:
        """Checks every byte of every repository that is still there."""
        for path in self._paths:
            if path.exists():
                with Repository.open(path, cache_bytes_max=CACHE_BYTES) as repo:
                    report = fsck(repo, read_data=True)
                assert report.is_clean, report.damage


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[Repositories]:
    """Repositories below the test's directory, checked by `fsck` when it ends."""
    made = Repositories(tmp_path)
    try:
        yield made
    finally:
        made.close()
    made.check()


@pytest.fixture
def make_repository(repositories: Repositories) -> Made:
    """Makes a repository below the test's directory; `fsck` checks it at the end."""
    return repositories.make


@pytest.fixture
def repo(repositories: Repositories) -> Repository:
    """An empty repository, open."""
    return repositories.make()


@pytest.fixture
def repo_path(repositories: Repositories) -> Path:
    """The path of an empty repository that no process has open."""
    repo = repositories.make()
    repo.close()
    return repo.path


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a filesystem that writes files back, wherever the test's own one is."""
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        stamps = stamps_of(descriptor)
    finally:
        os.close(descriptor)
    if stamps is not Stamps.NEVER:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        yield Path(directory)
