"""Progress of long work: the two shapes in which a caller is told, from any layer."""

from __future__ import annotations

from collections.abc import Callable

FileProgress = Callable[[int, int, int | None], None]
"""Called with (files done, bytes done, all files or None where they are not known)."""

StageProgress = Callable[[str, int, int | None], None]
"""Called with (what is being worked on, units done, all units or None where they are not known)."""


def ignore_stages(_stage: str, _done: int, _total: int | None) -> None:
    """A StageProgress for callers that want none."""
    return
