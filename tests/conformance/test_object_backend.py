"""What every ObjectBackend does, wrappers included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.backends import BACKENDS, opened
from support.threads import together
from vfs.backend.protocol import KeyExists, MissingKey, ObjectBackend, Token, TokenMismatch, check_key
from vfs.errors import InvalidInput

BAD_KEYS = ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", ".hidden", "a\0b", "a\nb", "tmp/x", "é"]


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectBackend]:
    with opened(request.param, tmp_path) as made:
        yield made


def test_put_bytes_are_read_back_whole_and_in_parts(backend: ObjectBackend) -> None:
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


def test_a_readahead_hint_may_name_any_part_or_none(backend: ObjectBackend) -> None:
    backend.put("k", b"0123456789")
    for offset, size in ((0, 10), (3, 0), (8, 100), (99, 5)):
        backend.hint_readahead("k", offset, size)
    assert backend.read("k") == b"0123456789"


def test_there_are_no_copies_to_drop(backend: ObjectBackend) -> None:
    backend.put("k", b"0123456789")
    assert not backend.drop_copy("k", 2, 100)
    assert backend.read("k") == b"0123456789"


def test_what_is_there_can_be_read_after_removed_objects_were_closed(backend: ObjectBackend) -> None:
    backend.put("k", b"0123456789")
    backend.put("l", b"0123456789")
    for key in ("k", "l"):
        assert backend.read_range(key, 0, 3) == b"012"
    backend.delete("k")
    backend.close_removed()
    assert backend.read_range("l", 0, 3) == b"012"


def test_a_name_is_made_durable_once_more(backend: ObjectBackend) -> None:
    backend.put("a/b", b"0123456789")
    backend.sync_name("a/b")
    assert backend.read("a/b") == b"0123456789"


def test_put_replaces_even_after_a_read(backend: ObjectBackend) -> None:
    backend.put("k", b"old and longer")
    assert backend.read_range("k", 0, 3) == b"old"
    backend.put("k", b"new")
    assert backend.read("k") == b"new"
    assert backend.read_range("k", 0, 99) == b"new"
    assert backend.size("k") == 3


def test_an_empty_object_exists(backend: ObjectBackend) -> None:
    backend.put("empty", b"")
    assert backend.read("empty") == b""
    assert backend.size("empty") == 0
    assert list(backend.list("")) == [("empty", 0)]


@pytest.mark.parametrize("key", ["absent", "no/such/folder"])
def test_an_absent_key_is_missing_for_every_method(backend: ObjectBackend, key: str) -> None:
    token = backend.put_if_absent("other", b"x")
    for ask in (backend.read, backend.read_versioned, backend.size, backend.delete):
        with pytest.raises(MissingKey):
            ask(key)
    with pytest.raises(MissingKey):
        backend.compare_and_swap(key, b"x", token)
    with pytest.raises(MissingKey):
        backend.read_range(key, 0, 1)
    with pytest.raises(MissingKey):
        backend.read_into(key, 0, memoryview(bytearray(1)))
    # A hint may find out that there is nothing, or do nothing.
    with suppress(MissingKey):
        backend.hint_readahead(key, 0, 1)


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_is_no_plain_path_is_refused_everywhere(backend: ObjectBackend, key: str) -> None:
    token = backend.put_if_absent("good", b"x")
    for ask in (backend.read, backend.read_versioned, backend.size, backend.delete):
        with pytest.raises(InvalidInput):
            ask(key)
    with pytest.raises(InvalidInput):
        backend.put(key, b"x")
    with pytest.raises(InvalidInput):
        backend.put_if_absent(key, b"x")
    with pytest.raises(InvalidInput):
        backend.compare_and_swap(key, b"x", token)
    with backend.start() as upload, pytest.raises(InvalidInput):
        upload.commit(key)
    assert list(backend.list("")) == [("good", 1)]


@given(st.text(max_size=40))
def test_a_key_that_passes_stays_below_the_root(key: str) -> None:
    try:
        check_key(key)
    except InvalidInput:
        return
    assert not Path(key).is_absolute()
    assert ".." not in Path(key).parts
    assert not key.startswith("tmp/")


def test_delete_removes(backend: ObjectBackend) -> None:
    backend.put("a/k", b"x")
    assert backend.read_range("a/k", 0, 1) == b"x"
    backend.delete("a/k")
    with pytest.raises(MissingKey):
        backend.read_range("a/k", 0, 1)
    assert list(backend.list("")) == []


def test_list_is_sorted_by_key_and_takes_any_prefix(backend: ObjectBackend) -> None:
    keys = ["a-b", "a.b", "a/b", "a/c/d", "ab", "b/z", "packs/data/aa/x.pack", "packs/tree/aa/x.pack"]
    for key in reversed(keys):
        backend.put(key, key.encode())
    assert list(backend.list("")) == [(key, len(key)) for key in sorted(keys)]
    for prefix in ("a", "a/", "a/c", "packs/", "packs/d", "packs/data/aa/x", "none/", "zzz"):
        assert [key for key, _ in backend.list(prefix)] == [key for key in sorted(keys) if key.startswith(prefix)]


def test_an_upload_is_invisible_until_it_is_committed(backend: ObjectBackend) -> None:
    with backend.start() as upload:
        upload.write(b"0123", memoryview(b"456"), bytearray(b""))
        upload.write(b"789")
        assert upload.size == 10
        assert upload.read(2, 4) == b"2345"
        assert upload.read(8, 99) == b"89"
        assert list(backend.list("")) == []
        upload.commit("packs/x")
    assert backend.read("packs/x") == b"0123456789"


def test_an_upload_that_is_not_committed_leaves_nothing(backend: ObjectBackend) -> None:
    with backend.start() as upload:
        upload.write(b"x" * 100)
    other = backend.start()
    other.write(b"y")
    other.abort()
    other.abort()
    assert list(backend.list("")) == []


def test_uploads_do_not_meet(backend: ObjectBackend) -> None:
    with backend.start() as one, backend.start() as two:
        one.write(b"one")
        two.write(b"two")
        two.commit("two")
        one.commit("one")
    assert backend.read("one") + backend.read("two") == b"onetwo"


def test_threads_read_and_write_different_objects(backend: ObjectBackend) -> None:
    def work(number: int) -> None:
        for turn in range(20):
            key = f"t{number}/{turn}"
            backend.put(key, key.encode() * 50)
            assert backend.read_range(key, 0, 10_000) == key.encode() * 50

    together(4, work)
    assert len(list(backend.list(""))) == 80


def test_a_second_commit_of_an_upload_does_nothing(backend: ObjectBackend) -> None:
    with backend.start() as upload:
        upload.write(b"mine")
        upload.commit("k")
        backend.put("k", b"newer")
        upload.commit("k")
        with pytest.raises(InvalidInput):
            upload.commit("other")
    assert list(backend.list("")) == [("k", 5)]


def test_a_conditional_create_keeps_the_existing_object(backend: ObjectBackend) -> None:
    token = backend.put_if_absent("a/k", b"first")
    assert backend.read_versioned("a/k") == (b"first", token)
    with pytest.raises(KeyExists):
        backend.put_if_absent("a/k", b"second")
    assert list(backend.list("")) == [("a/k", 5)]
    assert backend.read("a/k") == b"first"
    backend.delete("a/k")
    backend.put_if_absent("a/k", b"third")
    assert backend.read("a/k") == b"third"


def test_a_swap_needs_the_token_of_the_newest_contents(backend: ObjectBackend) -> None:
    first = backend.put_if_absent("k", b"1")
    second = backend.compare_and_swap("k", b"two", first)
    assert backend.read_versioned("k") == (b"two", second)
    assert first != second
    with pytest.raises(TokenMismatch):
        backend.compare_and_swap("k", b"3", first)
    assert backend.read("k") == b"two"
    backend.compare_and_swap("k", b"3", backend.read_versioned("k").token)
    assert backend.read("k") == b"3"


def test_an_object_is_read_only_if_its_contents_are_others(backend: ObjectBackend) -> None:
    first = backend.put_if_absent("k", b"1")
    assert backend.read_if_changed("k", first) is None
    backend.put("k", b"two")
    found = backend.read_if_changed("k", first)
    assert found is not None
    assert found.data == b"two"
    assert backend.read_if_changed("k", found.token) is None
    assert backend.read_if_changed("k", Token(())) == found
    with pytest.raises(MissingKey):
        backend.read_if_changed("nothing", first)


def test_a_put_and_an_upload_change_the_token(backend: ObjectBackend) -> None:
    first = backend.put_if_absent("k", b"1")
    backend.put("k", b"2")
    with pytest.raises(TokenMismatch):
        backend.compare_and_swap("k", b"3", first)
    second = backend.read_versioned("k").token
    with backend.start() as upload:
        upload.write(b"4")
        upload.commit("k")
    with pytest.raises(TokenMismatch):
        backend.compare_and_swap("k", b"5", second)
    assert backend.read("k") == b"4"
