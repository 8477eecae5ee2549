"""Versions as data sets of MLflow: a run says which version it read, and the version can be read from the run again."""

from __future__ import annotations

import json
import os
from typing import Any

import mlflow  # type: ignore[import-not-found]
from mlflow.data.dataset_source import DatasetSource  # type: ignore[import-not-found]
from mlflow.data.meta_dataset import MetaDataset  # type: ignore[import-not-found]

from vfs.python.integrations.dataset_addresses import VersionPath
from vfs.python.versions import StrPath, Version

_DIGEST_CHARS = 32
"""MLflow takes 36 at most; that many digits of a hash name one content."""


class VersionSource(DatasetSource):  # type: ignore[misc]
    """A path of a version, as the source of a data set; MLflow finds it by the entry point of this package."""

    def __init__(self, at: VersionPath) -> None:
        self.at = at

    @staticmethod
    def _get_source_type() -> str:
        return "vfs"

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return isinstance(raw_source, str) and raw_source.startswith("vfs://")

    @classmethod
    def _resolve(cls, raw_source: Any) -> VersionSource:
        return cls(VersionPath.parse(raw_source))

    def load(self, dst_path: StrPath | None = None) -> str:
        """Copies the files into a directory (a new temporary one by default) and returns where they are."""
        return self.at.download(dst_path)

    def to_dict(self) -> dict[str, str]:
        """Returns what MLflow keeps of it."""
        return {"uri": self.at.url}

    @classmethod
    def from_dict(cls, source_dict: dict[str, str]) -> VersionSource:
        """Returns the source that MLflow has kept."""
        return cls(VersionPath.parse(source_dict["uri"]))


def dataset(version: Version, path: StrPath = "", *, name: str | None = None) -> MetaDataset:
    """Returns a path of a version (a file, a directory; all of it by default) as a data set for `mlflow.log_input`.

    The digest of a file is the same exactly where its content is. Raises NotFound.
    """
    at = VersionPath(version, os.fspath(path))
    return MetaDataset(VersionSource(at), name=name or at.name, digest=at.digest[:_DIGEST_CHARS])


def log_input(version: Version, path: StrPath = "", *, context: str | None = None, name: str | None = None) -> None:
    """Records in the active MLflow run that it reads a path of a version; `context`: such as `training`."""
    tags = {"vfs.version": version.name, "vfs.id": version.id, "vfs.message": json.dumps(version.message)}
    mlflow.log_input(dataset(version, path, name=name), context=context, tags=tags)
