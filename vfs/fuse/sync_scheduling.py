"""Where a sync runs: on the event loop while the disk is quicker than a hop to a worker thread, else in one.

A hop to a thread and back costs 100 to 200 us and wakes two cores; many disks make 4 KB durable in less. But nobody
knows before how long a sync will take, and on the loop requests wait for it. So it runs there only if all of the last
ones were quick, nothing else is being synced, and little is to be made durable: the first slow one sends those after it
to threads again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import trio

from vfs.overlay.overlay import Overlay

LATELY = 8
"""How many quick syncs in a row it takes."""
QUICK_S = 0.0005
"""What a request may have to wait, as for a computing thread (vfs/fuse/mount.py)."""
SMALL_BYTES = 256 * 1024


class Pace:
    """Syncs the working layers of a mount. Used on the event loop; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lately: deque[float] = deque(maxlen=LATELY)

    async def sync(self, overlay: Overlay) -> None:
        """Makes everything durable that was changed in a working layer. Raises OSError."""
        waiting = overlay.unsynced_bytes()
        if waiting <= SMALL_BYTES and self.is_quick():
            self._timed(overlay, waiting)
        else:
            # Not abandoned when cancelled: the reply must not say "done" before it is.
            await trio.to_thread.run_sync(self._timed, overlay, waiting)

    def is_quick(self) -> bool:
        """Whether the disk has been quick lately."""
        return len(self._lately) == LATELY and max(self._lately) <= QUICK_S

    def _timed(self, overlay: Overlay, waiting: int) -> None:
        started = self._clock()
        try:
            overlay.sync()
        finally:
            # How long much data takes says nothing of little.
            if waiting <= SMALL_BYTES:
                self._lately.append(self._clock() - started)
