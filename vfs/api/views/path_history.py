"""All versions of one path: what changed it, found without opening the other versions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypedDict

from vfs.api.documents import kind_name
from vfs.api.views.history import history_from
from vfs.api.views.viewed_repository import LinkedVersion, ViewedRepository, checked
from vfs.errors import NotFound
from vfs.history.path_history import path_revisions
from vfs.model.names import path_text, show_path
from vfs.model.objects import Version
from vfs.repo.notes import described

STEPS_A_PAGE = 50
_LOOK_S = 1.0
"""How long versions are looked through before a page shows what it has found and offers to go on."""


class StepDocument(LinkedVersion):
    """A version that changed a path; `old` and `new` are sizes in bytes, None where the path was not there."""

    change: str
    path: str
    was: str | None
    old: int | None
    new: int | None
    kind: str


class PathHistoryDocument(TypedDict):
    """The versions that changed a path, newest first; `next` where there may be more."""

    branch: str
    path: str
    steps: list[StepDocument]
    next: str | None
    searched: int


class _Looked:
    """Versions that pass by, until the time is over."""

    def __init__(self, versions: Iterator[Version]) -> None:
        self._versions = versions
        self.count = 0
        self.last: Version | None = None
        self.is_cut = False

    def __iter__(self) -> Iterator[Version]:
        deadline = time.monotonic() + _LOOK_S
        for version in self._versions:
            self.count += 1
            self.last = version
            yield version
            if self.count % 64 == 0 and time.monotonic() > deadline:
                self.is_cut = True
                return


def path_history(
    viewed: ViewedRepository, path: bytes, branch: str | None = None, cursor: str = ""
) -> PathHistoryDocument:
    """Returns the versions of a branch that changed a path, newest first, under this name.

    `cursor` is a version to begin at. Raises NotFound where no version has the path.
    """
    branch = branch if branch is not None else viewed.repository.current_branch
    viewed.repository.require_branch(branch)
    start = viewed.version(cursor, branch)
    looked = _Looked(history_from(viewed, start))
    tags = viewed.tags()
    found: list[StepDocument] = []
    following = None
    for step in path_revisions(viewed.repository.store, looked, checked(path), follow=False):
        if looked.is_cut and looked.last is not None and step.version.id == looked.last.id and step.old is None:
            # The versions before it were not looked at: whether it added the path is for the next page.
            break
        if len(found) == STEPS_A_PAGE:
            following = step.version.id.hex()
            break
        entry = step.new if step.new is not None else step.old
        found.append(
            {
                **viewed.linked(described(viewed.repository, step.version), tags),
                "change": step.kind,
                "path": path_text(step.path),
                "was": path_text(step.old_path) if step.old_path != step.path else None,
                "old": step.old.size if step.old is not None else None,
                "new": step.new.size if step.new is not None else None,
                "kind": kind_name(entry) if entry is not None else "file",
            }
        )
    if following is None and looked.is_cut and looked.last is not None:
        following = looked.last.id.hex()
    if not found and following is None and not cursor:
        raise NotFound(f"no version has {show_path(path)}")
    return {
        "branch": branch,
        "path": path_text(path),
        "steps": found,
        "next": following,
        "searched": looked.count,
    }
