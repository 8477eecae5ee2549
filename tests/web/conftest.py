"""One repository for all tests of the page, which only read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import page_scene
from support.page_client import Client, client_of


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository."""
    return page_scene.make(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def client(scene: Path) -> Iterator[Client]:
    """A caller that was let in."""
    with client_of(scene) as found:
        yield found
