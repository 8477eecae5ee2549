"""The last step of a durable commit: repeated until it succeeds, should the disk be full (docs/durability.md, W7)."""

from __future__ import annotations

from vfs.model.objects import Version
from vfs.overlay import freezing
from vfs.overlay.freezing import Frozen
from vfs.overlay.state import State


class CommitCompletion:
    """Makes the version of a durable commit the base of its working layer. The caller holds the layer's lock."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._unfinished: tuple[Frozen, Version, Version | None] | None = None

    @property
    def version(self) -> Version | None:
        """The version that is durable, and not the base yet; None: there is none."""
        return None if self._unfinished is None else self._unfinished[1]

    def complete(self, frozen: Frozen, version: Version, below: Version | None) -> None:
        """Takes the step, or leaves it to `finish` where disk space or memory is missing. Arguments: Overlay.complete.

        Raises Busy for a frozen layer that is not the current one.
        """
        freezing.check_current(self._state, frozen)
        self._unfinished = frozen, version, below
        try:
            self.finish()
        except (OSError, MemoryError) as error:
            why = error if isinstance(error, OSError) else "no memory is left"
            import logging

            message = "version %s is durable, but its journal cannot be removed yet: %s"
            logging.getLogger(__name__).warning(message, version.name, why)

    def finish(self) -> None:
        """Repeats the step if it failed; raises OSError if it fails again."""
        if self._unfinished is None:
            return
        frozen, _, below = self._unfinished
        if below is not None and not self._state.source.has(below.id):
            # Of a commit that found nothing new no line of the log names `below`: a sweep has removed it. It would have
            # kept it if the record were in `base`, so the journals are still what the layer consists of.
            freezing.thaw(self._state, frozen)
        else:
            freezing.complete(self._state, *self._unfinished)
        self._unfinished = None
