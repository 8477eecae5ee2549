"""A callback for Lightning: `Trainer(callbacks=[VersionCallback(version, outputs="checkpoints")])`."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Callback  # type: ignore[import-not-found]

from vfs.python.integrations.training import TrainingRecord
from vfs.python.versions import StrPath, Version


class VersionCallback(Callback):  # type: ignore[misc]
    """Records what `TrainingRecord` does of a fit, in the process of rank 0; `version` is what it has committed."""

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

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Records the data's version."""
        if trainer.is_global_zero:
            self.record.begin()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Records the metrics that the model logged, those of the validation with them."""
        if trainer.is_global_zero:
            self.record.measured(trainer.callback_metrics, trainer.global_step)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Commits the outputs."""
        if trainer.is_global_zero:
            self.record.end()
