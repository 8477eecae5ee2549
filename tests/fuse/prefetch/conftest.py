"""The native session layer, loaded once for each module; a socket takes the kernel's place."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest

from support.native_layer import Kernel, load_layer
from vfs.native.session import Modes


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.PyDLL:
    return load_layer(tmp_path_factory.mktemp("session"))


@pytest.fixture
def kernel(library: ctypes.PyDLL) -> Iterator[Kernel]:
    made = Kernel(library)
    made.attach(Modes.OPEN | Modes.OPENDIR)
    yield made
    made.end()
