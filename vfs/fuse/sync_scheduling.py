"""Where a sync runs: on the event loop if the disk is faster than a switch to a worker thread, else in a thread.

Switching to a thread and back costs 100 to 200 us and wakes two cores; many disks make 4 KB durable in less. But how
long a sync takes is not known in advance, and on the loop requests wait for it. So it runs there only if all recent
syncs were fast and little is to be made durable: after the first slow sync the next ones run in threads again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import trio

from vfs.overlay.overlay import Overlay

RECENT_SYNCS = 8
"""How many fast syncs in a row it takes until syncs run on the event loop."""
FAST_SYNC_S = 0.0005
"""A sync is fast up to this. A request may wait as long for a computing thread (vfs/fuse/mount.py)."""
SMALL_BYTES = 256 * 1024
"""Syncs of more bytes always run in threads."""
"""Syncs of more bytes always run in threads."""


class SyncScheduler:
    """Syncs the working layers of a mount. Used on the event loop; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent_s: deque[float] = deque(maxlen=RECENT_SYNCS)

    async def sync(self, overlay: Overlay) -> None:
        """Makes all changes of a working layer durable. Raises OSError."""
        unsynced_bytes = overlay.unsynced_bytes()
        if unsynced_bytes <= SMALL_BYTES and self.is_fast():
            self._timed_sync_sync(overlay, unsynced_bytes)
        else:
            # Not abandoned when cancelled: the reply must not say "done" before it is.
            await trio.to_thread.run_sync(self._timed_sync_sync, overlay, unsynced_bytes)

    def is_fast(self) -> bool:
        """Returns True if all recent syncs were fast."""
        return len(self._recent_s) == RECENT_SYNCS and max(self._recent_s) <= FAST_SYNC_S

    def _timed_sync_sync(self, overlay: Overlay, unsynced_bytes: int) -> None:
        started = self._clock()
        try:
            overlay.sync()
        finally:
            # The time for much data does not predict the time for little.
            if unsynced_bytes <= SMALL_BYTES:
                self._recent_s.append(self._clock() - started)
