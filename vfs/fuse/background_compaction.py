"""What a mount does to its working layer on its own: keeping the journals short."""

from __future__ import annotations

import logging

import trio

from vfs.overlay.overlay import Overlay
from vfs.repo.repository_anchor import Anchor, Moved

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often to look. A writer as fast as the kernel lets one be writes some hundred MB meanwhile."""


async def keep_compact(overlay: Overlay, anchor: Anchor) -> None:
    """Compacts a working layer whenever that is worth it, in a worker thread; runs until it is closed, or cancelled.

    Nothing is done while its repository is not in its place: journals are made and removed by their paths.
    `Compactor.cancel` ends one that is in progress, so that cancelling need not wait for it.
    """
    while not overlay.is_closed:
        await trio.sleep(LOOK_S)
        try:
            anchor.require_in_place()
            await trio.to_thread.run_sync(overlay.compactor.compact_if_due)
        except Moved:
            continue
        except Exception:
            # The journals work as they are, only longer.
            log.exception("compacting failed; no more is tried in this mount")
            return
