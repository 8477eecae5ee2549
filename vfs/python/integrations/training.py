"""What callbacks of training libraries share: the version at the start, metrics on the way, the outputs at the end."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vfs.errors import InvalidInput
from vfs.metric_logging import log
from vfs.python.repositories import open_repository
from vfs.python.versions import StrPath, Version

DATA = "data.version"
"""The key of metadata that names the version that a training read: its address with the id."""


class TrainingRecord:
    """Says of one training what it read, what it measured, and what it made.

    `data`: the version that is read. `outputs`: a file or directory that is committed at the end, to the repository
    `into` (that of `data` by default), at the path `at` (the name of `outputs` by default). Metrics go into the record
    of the run, where the program is run as one; the last ones into the metadata of what is committed.
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
        if outputs is not None and data is None and into is None:
            raise InvalidInput("no repository is named for the outputs", hint="Give `into` or `data`.")
        self.data = data
        self.outputs = Path(outputs) if outputs is not None else None
        self.into = Path(into) if into is not None else data.repository if data is not None else None
        self.at = at
        self.message = message
        self.metrics: dict[str, float] = {}
        self.version: Version | None = None
        """What was committed at the end."""

    def begin(self) -> None:
        """Records which version is read."""
        self.metrics.clear()
        self.version = None
        if self.data is not None:
            named: dict[str, Any] = {DATA: self.data.url}
            log(**named)

    def measured(self, values: Mapping[str, Any], step: int) -> None:
        """Records metrics at a step; values that are no numbers are left out."""
        found: dict[str, float] = {}
        for name, value in values.items():
            try:
                found[name] = float(value)
            except (TypeError, ValueError):
                continue
        if found:
            self.metrics.update(found)
            log(**found, step=step)

    def end(self) -> None:
        """Commits the outputs, where there are any. Raises what a commit raises."""
        if self.outputs is None or self.into is None or not self.outputs.exists():
            return
        metadata = {re.sub(r"[\s=]+", "_", name): repr(value) for name, value in self.metrics.items()}
        if self.data is not None:
            metadata[DATA] = self.data.url
        top = self.at if self.at is not None else self.outputs.name
        with open_repository(self.into) as repository, repository.working() as layer:
            if layer.exists(top):
                layer.remove(top)
            for path in _files(self.outputs):
                name = os.path.join(top, path.relative_to(self.outputs)) if path != self.outputs else top
                with layer.open(name, "wb") as copy, open(path, "rb") as source:
                    while piece := source.read(1 << 20):
                        copy.write(piece)
            self.version = layer.commit(self.message or f"outputs of a training: {top}", metadata=metadata)


def _files(top: Path) -> list[Path]:
    return [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
