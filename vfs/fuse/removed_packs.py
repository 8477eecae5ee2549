"""Closes packs that a sweep has removed: the disk has their room again, and what was purged is gone from it."""

from __future__ import annotations

from collections.abc import Callable

import trio

from vfs.backend.protocol import ObjectBackend

CLOSE_S = 10.0
"""How long a mount keeps removed packs open. To look up again where chunks lie takes a millisecond a window."""


async def close_removed(backend: ObjectBackend, drop_places: Callable[[], None]) -> None:
    """Closes them now and then, until it is cancelled. `drop_places`: drops other references to open packs."""
    while True:
        await trio.sleep(CLOSE_S)
        drop_places()
        await trio.to_thread.run_sync(backend.close_removed)
