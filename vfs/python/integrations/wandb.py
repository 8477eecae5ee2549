"""Versions as artifacts of Weights & Biases: by reference, no file is uploaded."""

from __future__ import annotations

import os
import re

import wandb  # type: ignore[import-not-found]

from vfs.python.integrations.dataset_addresses import VersionPath
from vfs.python.versions import StrPath, Version

_FORBIDDEN = re.compile(r"[^A-Za-z0-9._-]+")


def artifact(version: Version, path: StrPath = "", *, name: str | None = None, kind: str = "dataset") -> wandb.Artifact:
    """Returns an artifact that refers to a path of a version (all of it by default) by its address `vfs://…@ID/…`.

    For `run.use_artifact` or `run.log_artifact`; `kind` is the artifact's type. The id in the address names one content
    for ever, so W&B makes a new version of the artifact exactly where there is a new one here. Raises NotFound.
    """
    at = VersionPath(version, os.fspath(path))
    metadata = {
        "vfs.version": version.name,
        "vfs.id": version.id,
        "vfs.content": at.digest,
        "vfs.message": version.message,
        "vfs.time": version.time.isoformat(),
    }
    made = wandb.Artifact(_FORBIDDEN.sub("-", name or at.name), type=kind, metadata=metadata)
    made.add_reference(at.url, name=at.name, checksum=False)
    return made
