"""The native session layer, loaded once for each module."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.native_layer import Kernel, load_layer
from support.native_pack import Pack
from vfs.native.session import Modes


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.PyDLL:
    return load_layer(tmp_path_factory.mktemp("session"))


@pytest.fixture
def kernel(library: ctypes.PyDLL) -> Iterator[Kernel]:
    made = Kernel(library)
    yield made
    made.end()


@pytest.fixture(params=[False, True], ids=["alone", "crowded"])
def pack(kernel: Kernel, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pack]:
    kernel.attach(Modes.OPEN | Modes.OPENDIR)
    kernel.is_crowded = request.param
    made = Pack(kernel, tmp_path / "pack")
    yield made
    made.close()
