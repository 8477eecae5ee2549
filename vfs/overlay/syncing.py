"""Making the changes of a working layer durable, while others change it further (docs/durability.md, W4)."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

from vfs.overlay.state import State


def sync(state: State, lock: AbstractContextManager[object]) -> None:
    """Makes every change so far durable; holds the layer's lock only before and after the disk is waited for."""
    with lock:
        journals = [journal for journal in state.journals.values() if not journal.is_removed]
        for journal in journals:
            journal.hold()
    try:
        for journal in sorted(journals, key=lambda journal: journal.generation):
            journal.sync()
        with lock, contextlib.suppress(OSError):
            state.journal.mark_synced()
    finally:
        with lock:
            for journal in journals:
                journal.release()


def unsynced_bytes(state: State) -> int:
    """Returns the number of bytes that `sync` has to make durable; sys.maxsize or more while another sync runs."""
    return sum(journal.unsynced_bytes for journal in state.journals.values() if not journal.is_removed)
