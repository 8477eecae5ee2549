"""A working layer for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.working import Bench, working_layer


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A working layer over an empty repository."""
    with working_layer(tmp_path) as made:
        yield made
