"""Conditional writes under races, by threads over every backend and by processes over the local one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.backends import BACKENDS, add_one, count_in, count_up, create_all, opened, race_in_processes, state_of
from support.threads import together
from vfs.backend.local import LocalBackend
from vfs.backend.protocol import KeyExists, ObjectBackend, TokenMismatch

WRITERS = 8


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectBackend]:
    with opened(request.param, tmp_path) as made:
        yield made


def test_one_of_many_racing_creates_wins(backend: ObjectBackend) -> None:
    rounds = 10
    winners: list[list[int]] = [[] for _ in range(rounds)]
    start = threading.Barrier(WRITERS, timeout=300)

    def create(writer: int) -> None:
        for number in range(rounds):
            start.wait()
            try:
                backend.put_if_absent(f"race/{number}", bytes((writer,)) * 1000)
            except KeyExists:
                continue
            winners[number].append(writer)

    together(WRITERS, create)
    assert [len(won) for won in winners] == [1] * rounds
    for number, won in enumerate(winners):
        assert backend.read(f"race/{number}") == bytes(won) * 1000
    assert len(list(backend.list(""))) == rounds


def test_a_counter_keeps_every_update(backend: ObjectBackend) -> None:
    backend.put_if_absent("counter", state_of(0))

    def count(_writer: int) -> None:
        for _ in range(10):
            add_one(backend, "counter")

    together(WRITERS, count)
    assert count_in(backend.read("counter")) == WRITERS * 10


def test_readers_see_whole_states_while_writers_swap(backend: ObjectBackend) -> None:
    backend.put("k", b"0" * 10)
    swapped = threading.Event()

    def swap() -> None:
        try:
            for number in range(1, 30):
                before = backend.read_versioned("k")
                backend.compare_and_swap("k", b"%d" % (number % 10) * (number * 500), before.token)
        finally:
            swapped.set()

    def read(_reader: int) -> None:
        while not swapped.is_set():
            assert len(set(backend.read("k"))) == 1
            assert len(set(backend.read_versioned("k").data)) == 1

    together(2, read, swap)
    assert backend.read("k") == b"9" * (29 * 500)


def test_a_state_with_a_nonce_is_never_confused_with_an_older_one(backend: ObjectBackend) -> None:
    first = backend.put_if_absent("k", state_of(1))
    second = backend.compare_and_swap("k", state_of(2), first)
    backend.compare_and_swap("k", state_of(1), second)
    for token in (first, second):
        with pytest.raises(TokenMismatch):
            backend.compare_and_swap("k", state_of(3), token)
    assert count_in(backend.read("k")) == 1


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_whether_equal_contents_have_equal_tokens_is_known(name: str, tmp_path: Path) -> None:
    """A content hash fits again after A -> B -> A, as ETags do; a generation number does not."""
    has_generations = not any(word in name for word in ("local", "object storage", "directory"))
    with opened(name, tmp_path) as backend:
        first = backend.put_if_absent("k", b"A")
        again = backend.compare_and_swap("k", b"A", backend.compare_and_swap("k", b"B", first))
        assert (again != first) == has_generations
        if has_generations:
            with pytest.raises(TokenMismatch):
                backend.compare_and_swap("k", b"C", first)
        else:
            backend.compare_and_swap("k", b"C", first)
        assert backend.read("k") == (b"A" if has_generations else b"C")


@pytest.mark.slow
def test_one_of_many_racing_processes_wins(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    race_in_processes(create_all, tmp_path, 4, 40)
    for number in range(40):
        won = list(tmp_path.glob(f"won-{number}-*"))
        assert len(won) == 1
        assert LocalBackend(tmp_path / "objects").read(f"race/{number}").decode() == won[0].name.rpartition("-")[2]


@pytest.mark.slow
def test_a_counter_keeps_the_updates_of_processes_while_leftovers_are_cleared(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    backend = LocalBackend(tmp_path / "objects")
    backend.put_if_absent("counter", state_of(0))
    ended = threading.Event()

    def clear(_: int) -> None:
        # It removes the lock file between two swaps, which then need another one.
        while not ended.is_set():
            backend.clear_unfinished()

    def race() -> None:
        try:
            race_in_processes(count_up, tmp_path, 4, 25)
        finally:
            ended.set()

    together(1, clear, race)
    assert count_in(backend.read("counter")) == 100
