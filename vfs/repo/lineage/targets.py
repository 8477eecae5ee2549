"""What a question about lineage is about, and the graph that answers it."""

from __future__ import annotations

from typing import NamedTuple

from vfs.model.objects import Version
from vfs.repo.runs.records import RunRef


class FileTarget(NamedTuple):
    """A file. `content`: its content id, empty where only the path counts. `version`: where it stands, None outside."""

    path: bytes
    content: bytes = b""
    sha256: str = ""
    size: int = 0
    version: Version | None = None
    is_outside: bool = False


class VersionTarget(NamedTuple):
    """A version."""

    version: Version


class RunTarget(NamedTuple):
    """A run."""

    run: RunRef


Target = FileTarget | VersionTarget | RunTarget
