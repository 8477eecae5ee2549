"""What every LocalFiles does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.threads import together
from vfs.backend.local import LocalBackend
from vfs.backend.memory import MemoryBackend
from vfs.backend.protocol import LocalFiles, MissingKey
from vfs.errors import InvalidInput

BAD_KEYS = ["", "/a", "a/", "..", "a/../b", ".hidden", "a\0b", "tmp/x"]


@pytest.fixture(params=["local", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalFiles]:
    if request.param == "memory":
        yield MemoryBackend()
    else:
        local = LocalBackend(tmp_path)
        yield local
        local.close()


def test_append_begins_and_extends(files: LocalFiles) -> None:
    files.append("log", b"one")
    files.append("log", b"two")
    assert files.read_range("log", 0, 100) == b"onetwo"
    assert files.read_range("log", 2, 2) == b"et"
    assert files.size("log") == 6
    files.append("log", memoryview(b"!"))
    assert files.size("log") == 7


def test_truncate_cuts_and_never_extends(files: LocalFiles) -> None:
    files.append("k", b"0123456789")
    files.truncate("k", 4)
    assert files.read_range("k", 0, 100) == b"0123"
    files.truncate("k", 100)
    assert files.read_range("k", 0, 100) == b"0123"
    assert files.size("k") == 4
    files.append("k", b"x")
    assert files.read_range("k", 0, 100) == b"0123x"


@pytest.mark.parametrize("key", ["absent", "no/such/folder"])
def test_an_absent_key_is_missing(files: LocalFiles, key: str) -> None:
    with pytest.raises(MissingKey):
        files.truncate(key, 0)
    with pytest.raises(MissingKey):
        files.size(key)
    with pytest.raises(MissingKey):
        files.read_range(key, 0, 1)


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_is_no_plain_path_is_refused(files: LocalFiles, key: str) -> None:
    with pytest.raises(InvalidInput):
        files.append(key, b"x")
    with pytest.raises(InvalidInput):
        files.truncate(key, 0)


def test_threads_append_to_one_file_and_nothing_is_lost(files: LocalFiles) -> None:
    def work(number: int) -> None:
        for _ in range(20):
            files.append("shared", bytes((number,)))

    together(4, work)
    assert sorted(files.read_range("shared", 0, 1000)) == sorted(bytes(range(4)) * 20)
