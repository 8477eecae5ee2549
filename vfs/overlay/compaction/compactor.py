"""Schedules compactions of one working layer, and cancels them when an operation needs the layer unfrozen."""

from __future__ import annotations

import contextlib
import threading
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from vfs.errors import Corrupt
from vfs.overlay.compaction.compaction import GENERATIONS, SPARE_BYTES, Cancelled, Compaction
from vfs.overlay.compaction.compaction_policy import (
    CompactionPolicy,
    free_bytes,
    should_compact_at_close,
    should_compact_when_full,
    total_size,
)
from vfs.overlay.compaction.hole_punching import WORTH_BYTES, reclaim
from vfs.overlay.layer_changes import is_clean
from vfs.overlay.replacing import start_over
from vfs.overlay.state import State

if TYPE_CHECKING:
    import logging


def _log() -> logging.Logger:
    """Returns the log, whose library every command that opens a layer would load otherwise."""
    import logging

    return logging.getLogger(__name__)


_STARTING_OVER_BYTES = 64 * 1024
_LITTLE_BYTES = 1 << 30
"""With less free space than this, a writer may fill the disk before the next check."""


class Compactor:
    """Compacts a working layer, one compaction at a time. `lock` is the overlay's; methods take it themselves."""

    def __init__(self, state: State, lock: AbstractContextManager[object]) -> None:
        self._state = state
        self._lock = lock
        self._policy = CompactionPolicy(state, lock, time.monotonic)
        self._run_lock = threading.RLock()
        """Held while a compaction runs, up to its last step on disk; taken before the overlay's lock."""
        self.running: Compaction | None = None
        self.generations = 0
        """How many generations compactions have begun."""
        self._is_reclaiming = False
        state.make_room = self._make_room
        if free_bytes(state) < _LITTLE_BYTES:
            state.journal.reserve()
        self.is_stopping = False
        """True once the layer is being closed: no compaction may begin."""

    def run(self) -> bool:
        """Replaces the journals by a checkpoint of their live data; writers continue meanwhile.

        Returns False if an operation that needs the layer unfrozen (a commit, a restore) cancelled the compaction or
        kept it from beginning. Raises OSError, Corrupt; then nothing has changed either.
        """
        with self._run_lock:
            return self._run()

    def _run(self, *, at_end: bool = False, uses_all_space: bool = False) -> bool:
        with self._lock:
            if (self.is_stopping and not at_end) or self._state.frozen is not None or self._state.journal.is_stopped:
                return False
            compaction = self.running = Compaction(self._state, uses_all_space=uses_all_space)
            self.generations += GENERATIONS
        try:
            compaction.write()
            is_going_on = True
            while is_going_on:
                with self._lock:
                    is_going_on = compaction.advance()
        except Cancelled:
            return False
        finally:
            with self._lock:
                compaction.end()
                compaction.release()
                self.running = None
            compaction.clean_up()
        return True

    def compact_if_due(self) -> bool:
        """Compacts if the policy says so (vfs/overlay/compaction/compaction_policy.py). Returns True if it has.

        Cheap if there is nothing to gain, so one thread may call it often. Errors go to the log: nothing is lost by
        them, and the next call tries again.
        """
        try:
            if self._policy.lacks_space():
                with self._lock:
                    self._state.journal.reserve()
                    self.reclaim()
                self._run_when_full()
            if not self._policy.should_compact() or not self.run():
                return False
        except (OSError, Corrupt) as error:
            _log().warning("the journals cannot be compacted now: %s", error)
            return False
        _log().info("compacted the journals: %d bytes now", total_size(self._state).bytes)
        return True

    def _run_when_full(self, *, at_end: bool = False) -> None:
        """Compacts on a full disk if the live data fits: around small records there is no whole block to punch out."""
        with self._run_lock:
            with self._lock:
                if not should_compact_when_full(self._state):
                    return
                # The checkpoint takes the reserved space; what it replaces gives it back.
                self._state.journal.release_reserve()
            try:
                self._run(at_end=at_end, uses_all_space=True)
            finally:
                with self._lock:
                    self._state.journal.reserve()

    def reclaim(self, bytes_min: int = WORTH_BYTES, *, may_start_over: bool = True) -> bool:
        """Frees dead data in the journals if the disk has no space to compact; returns True if at least `bytes_min`
        were freed. Needs the overlay's lock. `may_start_over`: not in the middle of an operation."""
        if self._is_reclaiming or self._state.frozen is not None or free_bytes(self._state) >= SPARE_BYTES:
            return False
        self._is_reclaiming = True
        try:
            if may_start_over and self._starts_over(bytes_min):
                return True
            return reclaim(self._state, bytes_min) > 0
        except OSError as error:
            _log().warning("the space of deleted uncommitted changes cannot be freed: %s", error)
            return False
        finally:
            self._is_reclaiming = False

    def _starts_over(self, bytes_min: int) -> bool:
        """Replaces the journals of a layer without changes by an empty one; returns True if it has."""
        state = self._state
        size = total_size(state).bytes
        if state.base is None or state.below is not None or state.orphans:
            return False
        if size < max(bytes_min, _STARTING_OVER_BYTES) or not is_clean(state):
            return False
        start_over(state)
        return True

    def _make_room(self) -> bool:
        return self.reclaim(1, may_start_over=False)

    def run_at_end(self) -> None:
        """Compacts a layer that is about to be closed, if that is quick and saves the next opening much replaying."""
        # Unlinked open files end with this process.
        self._state.orphans.clear()
        if not self._state.directory.is_dir():
            # The layer was removed with its branch while it was open.
            return
        self.reclaim()
        with contextlib.suppress(OSError, Corrupt):
            self._run_when_full(at_end=True)
            if should_compact_at_close(self._state):
                self._run(at_end=True)

    def stop(self) -> None:
        """Cancels a running compaction and lets none begin; on return it has cleaned up.

        The caller is about to release the layer's lock file: a later step of a compaction would meet another process's
        files. Must be called without the overlay's lock.
        """
        with self._lock:
            self.is_stopping = True
            self.cancel()
        with self._run_lock:
            pass

    def cancel_and_reclaim(self) -> None:
        """Cancels a running compaction at once and frees dead data if space is short; needs the overlay's lock."""
        self.cancel()
        self.reclaim()

    def cancel(self) -> None:
        """Cancels the compaction that another thread runs, at once; it need not be waited for."""
        with self._lock:
            if self.running is not None:
                self.running.end()
