"""Compactions of one working layer: begun when they are worth it, called off when somebody needs the layer."""

from __future__ import annotations

import contextlib
import logging
import threading
import time

from vfs.errors import Corrupt
from vfs.overlay.changes import is_clean
from vfs.overlay.compaction.compaction import GENERATIONS, SPARE_BYTES, Cancelled, Compaction
from vfs.overlay.compaction.hole_punching import WORTH_BYTES, reclaim
from vfs.overlay.compaction.policy import CompactionPolicy, free_bytes, should_compact_at_close, total_size
from vfs.overlay.replacing import start_over
from vfs.overlay.state import State

log = logging.getLogger(__name__)

_STARTING_OVER_BYTES = 64 * 1024
_LITTLE_BYTES = 1 << 30
"""A writer may fill a disk with less before anything looks again."""


class Compactor:
    """Compacts a working layer, one compaction at a time. `lock` is the overlay's, and is taken where it is needed."""

    def __init__(self, state: State, lock: threading.RLock) -> None:
        self._state = state
        self._lock = lock
        self._policy = CompactionPolicy(state, lock, time.monotonic)
        self._run_lock = threading.RLock()
        """Held while a compaction runs, to its last step on the disk; taken before the overlay's lock."""
        self.running: Compaction | None = None
        self.generations = 0
        """How many generations were begun by compactions alone."""
        self._is_reclaiming = False
        state.make_room = self._make_room
        if free_bytes(state) < _LITTLE_BYTES:
            state.journal.reserve()
        self.is_stopping = False
        """Whether the layer is not ours any more."""

    def run(self) -> bool:
        """Writes what is live in the journals anew and lets go of the rest; writers go on meanwhile.

        Returns False where it was called off by somebody who needs the layer for itself (a commit, a restore), or could
        not begin because of that. Raises OSError, Corrupt; then nothing has changed either.
        """
        with self._run_lock:
            return self._run()

    def _run(self, *, at_end: bool = False) -> bool:
        with self._lock:
            if (self.is_stopping and not at_end) or self._state.frozen is not None or self._state.journal.is_stopped:
                return False
            compaction = self.running = Compaction(self._state)
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
        """Compacts if the journals take much more than what is live in them (vfs/overlay/compaction/policy.py).

        Cheap where there is nothing to gain, so it may be called again and again; by one thread. What goes wrong is in
        the log: nothing is lost by it, and the next call tries again.
        """
        try:
            if self._policy.lacks_space():
                with self._lock:
                    self._state.journal.reserve()
                    self.reclaim()
            if not self._policy.should_compact() or not self.run():
                return False
        except (OSError, Corrupt) as error:
            log.warning("the journals cannot be compacted now: %s", error)
            return False
        log.info("compacted the journals: %d bytes now", total_size(self._state).bytes)
        return True

    def reclaim(self, bytes_min: int = WORTH_BYTES, *, may_start_over: bool = True) -> bool:
        """Gives back what is of no use in the journals, where the disk has no room to compact; says whether it was so
        much. With the overlay's lock held; in the middle of an operation the layer cannot start over."""
        if self._is_reclaiming or self._state.frozen is not None or free_bytes(self._state) >= SPARE_BYTES:
            return False
        self._is_reclaiming = True
        try:
            if may_start_over and self._starts_over(bytes_min):
                return True
            return reclaim(self._state, bytes_min) > 0
        except OSError as error:
            log.warning("uncommitted changes that are gone cannot be given back: %s", error)
            return False
        finally:
            self._is_reclaiming = False

    def _starts_over(self, bytes_min: int) -> bool:
        """Lets go of the journals of a layer that stands on a version and has no changes."""
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
        """Compacts a layer that is about to be closed, where that is quick and saves the next opening much."""
        # Files that are open without a name end with us.
        self._state.orphans.clear()
        if not self._state.directory.is_dir():
            # The layer was removed with its branch while it was open.
            return
        self.reclaim()
        with contextlib.suppress(OSError, Corrupt):
            if should_compact_at_close(self._state):
                self._run(at_end=True)

    def stop(self) -> None:
        """Ends a compaction that another thread is in the middle of, and lets none begin; it has cleaned up on return.

        The layer's lock is about to be let go: what a compaction does later meets another process's files. Not to be
        called with the overlay's lock held.
        """
        with self._lock:
            self.is_stopping = True
            self.cancel()
        with self._run_lock:
            pass

    def cancel_and_reclaim(self) -> None:
        """Ends a compaction, at once, and gives back what there is; with the overlay's lock held."""
        self.cancel()
        self.reclaim()

    def cancel(self) -> None:
        """Ends a compaction that another thread is in the middle of, at once."""
        with self._lock:
            if self.running is not None:
                self.running.end()
