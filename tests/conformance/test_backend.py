"""What every Backend does; run over all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.threads import together
from vfs.backend.base import Backend, MissingKey, check_key
from vfs.backend.local import LocalBackend
from vfs.backend.memory import MemoryBackend
from vfs.errors import InvalidInput

BAD_KEYS = ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", ".hidden", "a\0b", "a\nb", "tmp/x", "é"]


@pytest.fixture(params=["local", "memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    if request.param == "memory":
        yield MemoryBackend()
    else:
        local = LocalBackend(tmp_path)
        yield local
        local.close()


def test_put_bytes_are_read_back_whole_and_in_parts(backend: Backend) -> None:
    backend.put("a/b/c", memoryview(b"0123456789"))
    assert backend.read("a/b/c") == b"0123456789"
    assert backend.size("a/b/c") == 10
    assert backend.read_range("a/b/c", 2, 3) == b"234"
    assert backend.read_range("a/b/c", 8, 100) == b"89"
    assert backend.read_range("a/b/c", 10, 5) == b""
    assert backend.read_range("a/b/c", 99, 5) == b""
    for offset, expected in ((2, b"2345"), (8, b"89"), (99, b"")):
        buffer = bytearray(4)
        assert backend.read_into("a/b/c", offset, memoryview(buffer)) == len(expected)
        assert buffer == expected.ljust(4, b"\0")


def test_what_will_be_needed_may_be_any_part_or_none(backend: Backend) -> None:
    backend.put("k", b"0123456789")
    for offset, size in ((0, 10), (3, 0), (8, 100), (99, 5)):
        backend.will_need("k", offset, size)
    assert backend.read("k") == b"0123456789"


def test_put_replaces_even_after_a_read(backend: Backend) -> None:
    backend.put("k", b"old and longer")
    assert backend.read_range("k", 0, 3) == b"old"
    backend.put("k", b"new")
    assert backend.read_range("k", 0, 99) == b"new"
    assert backend.size("k") == 3


def test_an_empty_object_exists(backend: Backend) -> None:
    backend.put("empty", b"")
    assert backend.read("empty") == b""
    assert backend.size("empty") == 0
    assert list(backend.list("")) == [("empty", 0)]


@pytest.mark.parametrize("key", ["absent", "no/such/folder"])
def test_what_is_absent_is_missing_for_every_method(backend: Backend, key: str) -> None:
    for ask in (backend.read, backend.size, backend.delete):
        with pytest.raises(MissingKey):
            ask(key)
    with pytest.raises(MissingKey):
        backend.read_range(key, 0, 1)
    with pytest.raises(MissingKey):
        backend.read_into(key, 0, memoryview(bytearray(1)))
    with pytest.raises(MissingKey):
        backend.will_need(key, 0, 1)
    with pytest.raises(MissingKey):
        backend.truncate(key, 0)


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_is_no_plain_path_is_refused_everywhere(backend: Backend, key: str) -> None:
    for ask in (backend.read, backend.size, backend.delete):
        with pytest.raises(InvalidInput):
            ask(key)
    with pytest.raises(InvalidInput):
        backend.put(key, b"x")
    with pytest.raises(InvalidInput):
        backend.append(key, b"x")
    with backend.start() as upload, pytest.raises(InvalidInput):
        upload.commit(key)
    assert list(backend.list("")) == []


@given(st.text(max_size=40))
def test_a_key_that_passes_stays_below_the_root(key: str) -> None:
    try:
        check_key(key)
    except InvalidInput:
        return
    assert not Path(key).is_absolute()
    assert ".." not in Path(key).parts
    assert not key.startswith("tmp/")


def test_append_begins_and_extends(backend: Backend) -> None:
    backend.append("log", b"one")
    backend.append("log", b"two")
    assert backend.read("log") == b"onetwo"
    assert backend.size("log") == 6
    backend.append("log", b"!")
    assert backend.size("log") == 7


def test_truncate_cuts_and_never_extends(backend: Backend) -> None:
    backend.put("k", b"0123456789")
    backend.truncate("k", 4)
    assert backend.read("k") == b"0123"
    backend.truncate("k", 100)
    assert backend.read("k") == b"0123"
    assert backend.size("k") == 4


def test_delete_removes(backend: Backend) -> None:
    backend.put("a/k", b"x")
    assert backend.read_range("a/k", 0, 1) == b"x"
    backend.delete("a/k")
    with pytest.raises(MissingKey):
        backend.read_range("a/k", 0, 1)
    assert list(backend.list("")) == []


def test_list_is_sorted_by_key_and_takes_any_prefix(backend: Backend) -> None:
    keys = ["a-b", "a.b", "a/b", "a/c/d", "ab", "b/z", "packs/data/aa/x.pack", "packs/tree/aa/x.pack"]
    for key in reversed(keys):
        backend.put(key, key.encode())
    assert list(backend.list("")) == [(key, len(key)) for key in sorted(keys)]
    for prefix in ("a", "a/", "a/c", "packs/", "packs/d", "packs/data/aa/x", "none/", "zzz"):
        assert [key for key, _ in backend.list(prefix)] == [key for key in sorted(keys) if key.startswith(prefix)]


def test_an_upload_is_invisible_until_it_is_committed(backend: Backend) -> None:
    with backend.start() as upload:
        upload.write(b"0123", memoryview(b"456"), bytearray(b""))
        upload.write(b"789")
        assert upload.size == 10
        assert upload.read(2, 4) == b"2345"
        assert upload.read(8, 99) == b"89"
        assert list(backend.list("")) == []
        upload.commit("packs/x")
    assert backend.read("packs/x") == b"0123456789"


def test_an_upload_that_is_not_committed_leaves_nothing(backend: Backend) -> None:
    with backend.start() as upload:
        upload.write(b"x" * 100)
    other = backend.start()
    other.write(b"y")
    other.abort()
    other.abort()
    assert list(backend.list("")) == []


def test_uploads_do_not_meet(backend: Backend) -> None:
    with backend.start() as one, backend.start() as two:
        one.write(b"one")
        two.write(b"two")
        two.commit("two")
        one.commit("one")
    assert backend.read("one") + backend.read("two") == b"onetwo"


def test_threads_read_and_write_different_objects(backend: Backend) -> None:
    def work(number: int) -> None:
        for turn in range(20):
            key = f"t{number}/{turn}"
            backend.put(key, key.encode() * 50)
            assert backend.read_range(key, 0, 10_000) == key.encode() * 50
            backend.append("shared", bytes((number,)))

    together(4, work)
    assert sorted(backend.read("shared")) == sorted(bytes(range(4)) * 20)


def test_space_is_reported(backend: Backend) -> None:
    space = backend.space()
    assert space.total >= space.free >= space.available > 0
