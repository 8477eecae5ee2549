"""A callback for the Trainer of Transformers: `Trainer(callbacks=[VersionCallback(version, outputs="out")])`."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback  # type: ignore[import-not-found]

from vfs.python.integrations.training import TrainingRecord
from vfs.python.versions import StrPath, Version


class VersionCallback(TrainerCallback):  # type: ignore[misc]
    """Records what `TrainingRecord` does of a training, in the process of rank 0.

    `version` is what it has committed.
    """

    def __init__(
        self,
        data: Version | None = None,
        *,
        outputs: StrPath | None = None,
        into: StrPath | None = None,
        at: str | None = None,
        message: str | None = None,
    ) -> None:
        self.record = TrainingRecord(data, outputs=outputs, into=into, at=at, message=message)

    @property
    def version(self) -> Version | None:
        """The version with the outputs; None before the end, and where nothing was committed."""
        return self.record.version

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Records the data's version."""
        if state.is_world_process_zero:
            self.record.begin()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Records the metrics that the Trainer logs."""
        if state.is_world_process_zero:
            self.record.measured(logs or {}, state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Commits the outputs."""
        if state.is_world_process_zero:
            self.record.end()
