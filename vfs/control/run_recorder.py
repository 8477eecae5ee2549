"""What records runs in a live mount, as services use it; vfs/fuse/recorder.py implements it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from vfs.model.ids import CommitId
    from vfs.overlay.overlay import Overlay
    from vfs.repo.runs.snapshots import Snapshots


class RunningRun(msgspec.Struct):
    """A run in progress: its id, and the process id of its supervisor (the command that runs the program)."""

    id: str
    pid: int


class RunRecorder(Protocol):
    """Records the processes of runs; its methods are called in worker threads."""

    snapshots: Snapshots

    def begin(
        self, run_id: str, process: int, namespace: str, parent: str, overlay: Overlay, named: Sequence[bytes]
    ) -> str:
        """Records what the processes below `process` do from now on; returns the id of the run around it, or none."""

    def join(self, run_id: str, process: int, namespace: str) -> None:
        """Makes the processes below `process` belong to a run in progress."""

    def overlay_of(self, run_id: str) -> Overlay | None:
        """Returns the working layer of a run in progress."""

    def run_of(self, process: int, namespace: str) -> str:
        """Returns the id of the run that a process belongs to, empty for none."""

    def finish(self, run_id: str, after: CommitId | None) -> None:
        """Ends a run; `after` is what its working layer shows."""

    def running(self) -> list[RunningRun]:
        """Returns the runs in progress."""
