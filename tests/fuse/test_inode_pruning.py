"""The bound of what the kernel knows, before a kernel in which inodes are in use and FORGETs come late."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from support.pruned_kernel import HOUR_S, MOST, PrunedKernel, serve


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets tasks do what threads do: see `serve`."""

    async def run_sync(work: Callable[..., object], *args: object) -> object:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


def test_names_are_forgotten_until_the_bound_is_reached_and_not_all() -> None:
    async def scene(kernel: PrunedKernel) -> None:
        kernel.look_up(10 * MOST)
        await kernel.until_bounded()
        assert len(kernel.files) > MOST // 2
        assert kernel.asked < 10 * MOST

    serve(scene)


def test_the_bound_is_reached_when_forgets_come_late() -> None:
    async def scene(kernel: PrunedKernel) -> None:
        kernel.late_s = 20.0
        kernel.look_up(5 * MOST)
        await kernel.wait(0.01)
        assert kernel.asked
        kernel.look_up(5 * MOST)
        await kernel.until_bounded()

    serve(scene)


def test_the_bound_is_reached_when_the_oldest_names_are_in_use_and_no_more_come() -> None:
    async def scene(kernel: PrunedKernel) -> None:
        kernel.look_up(MOST // 2, used=True)
        kernel.look_up(MOST // 2 + 1)
        await kernel.wait(0.01)
        assert kernel.asked
        kernel.look_up(10 * MOST)
        await kernel.until_bounded()

    serve(scene)


def test_names_in_use_are_forgotten_after_about_as_long_as_they_were_and_seldom_asked_for_meanwhile() -> None:
    async def scene(kernel: PrunedKernel) -> None:
        kernel.look_up(10 * MOST, used=True)
        started = trio.current_time()
        await kernel.wait(HOUR_S)
        assert kernel.asked < 16 * 10 * MOST
        kernel.used.clear()
        await kernel.until_bounded()
        assert trio.current_time() - started < 2.1 * HOUR_S
        # ... and from then on as if they never had been.
        started = trio.current_time()
        kernel.look_up(10 * MOST)
        await kernel.until_bounded()
        assert trio.current_time() - started < 10

    serve(scene)


def test_what_names_in_use_cost_is_in_proportion_to_the_names() -> None:
    async def scene(kernel: PrunedKernel) -> None:
        for _ in range(100):
            kernel.look_up(MOST, used=True)
            await kernel.wait(0.3)
        assert kernel.asked < 20 * 100 * MOST

    serve(scene)


def test_names_beside_many_in_use_are_forgotten() -> None:
    async def scene(kernel: PrunedKernel) -> None:
        kernel.look_up(10 * MOST, used=True)
        await kernel.wait(HOUR_S)
        for _ in range(100):
            kernel.look_up(MOST)
            await kernel.wait(1)
            assert len(kernel.files) <= 9 / 8 * 10 * MOST + MOST

    serve(scene)
