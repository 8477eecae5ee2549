"""The rate of transfers, with a clock of its own, and the bound of what is on its way."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from vfs.repo.transfer.byte_transfer import Movement, Pace


class Clock:
    """A clock that sleeping alone moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, _ended: threading.Event, seconds: float) -> None:
        """Sleeps."""
        self.slept.append(seconds)
        self.now += seconds


def test_bytes_pass_at_the_rate_whatever_their_pieces() -> None:
    for pieces in ([1000] * 50, [50_000], [1, 49_999], [20_000, 30_000]):
        clock = Clock()
        pace = Pace(10_000, clock=clock, wait=clock.wait)
        for size in pieces:
            pace.pass_on(size, threading.Event())
        assert clock.now - 100 == pytest.approx(5.0)


def test_time_that_was_not_used_is_not_saved() -> None:
    clock = Clock()
    pace = Pace(10_000, clock=clock, wait=clock.wait)
    pace.pass_on(1000, threading.Event())
    clock.now += 60
    pace.pass_on(10_000, threading.Event())
    assert clock.slept[-1] == pytest.approx(1.0)


def test_a_transfer_counts_what_it_moved_and_ends_with_the_first_error() -> None:
    heard: list[tuple[int, int | None]] = []
    movement = Movement(lambda done, total: heard.append((done, total)))
    movement.expect(60)

    def fail() -> int:
        raise TimeoutError("no answer")

    assert movement.run((10, lambda number=number: number) for number in range(3)) == [0, 1, 2]  # type: ignore[misc]
    assert heard[0] == (0, 60)
    assert sorted(heard)[-1] == (30, 60)
    with pytest.raises(TimeoutError):
        movement.run([(10, lambda: 1), (10, fail)])


def test_what_waits_for_its_rate_ends_with_a_transfer_that_fails() -> None:
    is_waiting, moved = threading.Event(), threading.Event()
    ended: list[type[BaseException]] = []

    def wait(event: threading.Event, _seconds: float) -> None:
        if not is_waiting.is_set():
            is_waiting.set()
            event.wait()

    movement = Movement(pace=Pace(1, clock=lambda: 0.0, wait=wait))

    def slow() -> None:
        try:
            movement.keep_pace(1_000_000)
            moved.set()
        except BaseException as error:
            ended.append(type(error))
            raise

    def interrupt() -> None:
        is_waiting.wait()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        movement.run([(1, slow), (1, interrupt)])
    assert (ended, moved.is_set()) == ([CancelledError], False)

    def move() -> int:
        movement.keep_pace(1)
        return 7

    # What follows is a transfer of its own.
    assert movement.run([(1, move)]) == [7]
