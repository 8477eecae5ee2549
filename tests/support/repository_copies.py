"""Copies of repositories, for tests that begin again from one state many times."""

from __future__ import annotations

import shutil
from pathlib import Path


def copy_closed(source: Path, target: Path) -> None:
    """Copies a repository that no process has open, and claims its index: without, opening the copy makes it again."""
    shutil.copytree(source, target)
    claim_index(target)


def claim_index(repository: Path) -> None:
    """Has the index of a copy taken as one that was begun there."""
    (repository / "index/origin").write_text(f"{(repository / 'index/data.mdb').stat().st_ino}\n")
