"""Background compaction: a mount keeps the journals of its working layers short."""

from __future__ import annotations

import logging

import trio

from vfs.overlay.overlay import Overlay
from vfs.repo.repository_anchor import Anchor, Moved

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 1.0
"""How often compaction is considered. The fastest writer that the kernel permits writes some hundred MB meanwhile."""


async def compact_in_background(overlay: Overlay, anchor: Anchor) -> None:
    """Compacts a working layer in a worker thread whenever the policy says so; runs until it is closed, or cancelled.

    Does nothing while the repository is not in its place: journals are created and removed by their paths.
    `Compactor.cancel` ends one that is in progress, so that cancelling need not wait for it.
    """
    while not overlay.is_closed:
        await trio.sleep(CHECK_INTERVAL_S)
        try:
            anchor.require_in_place()
            await trio.to_thread.run_sync(overlay.compactor.compact_if_due)
        except Moved:
            continue
        except Exception:
            # Without compaction the journals stay usable; they only grow.
            log.exception("compaction failed; it is not tried again in this mount")
            return
