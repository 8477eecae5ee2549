"""Running things at the same time, so that a failure in any of them fails the test."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial


def together(count: int, work: Callable[[int], None], meanwhile: Callable[[], None] | None = None) -> None:
    """Runs `work(0)` to `work(count - 1)` in threads, `meanwhile` in this one, and raises what any of them raised."""
    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(partial(work, number)) for number in range(count)]
        if meanwhile is not None:
            meanwhile()
        for future in running:
            future.result()
