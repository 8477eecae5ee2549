"""Merge bases of two commits: the newest commits that both have among their ancestors."""

from __future__ import annotations

import heapq

from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.store.object_store import ObjectSource

_OURS, _THEIRS, _OLD = 1, 2, 4


def merge_bases(source: ObjectSource, ours: CommitId, theirs: CommitId) -> list[Version]:
    """Returns the common ancestors that no other common ancestor has above it, newest first; a commit is its own.

    None for histories without a common commit, several where two branches merged each other crosswise. Reads the
    commits down to there, not the whole history.
    """
    found: list[Version] = []
    walk = _Walk(source)
    walk.paint(ours, _OURS)
    walk.paint(theirs, _THEIRS)
    while walk.is_open():
        version, flags = walk.pop()
        if flags == _OURS | _THEIRS:
            found.append(version)
            flags |= _OLD
        for parent in version.commit.parents:
            walk.paint(parent, flags)
    return found


def is_ancestor(source: ObjectSource, older: CommitId, newer: CommitId) -> bool:
    """Returns True if a commit is another one or among its ancestors."""
    return [version.id for version in merge_bases(source, older, newer)] == [older]


class _Walk:
    """Commits on the way down, each given out after all its descendants: a merge is later than all its parents."""

    def __init__(self, source: ObjectSource) -> None:
        self._source = source
        self._flags: dict[bytes, int] = {}
        self._versions: dict[bytes, Version] = {}
        self._queue: list[tuple[int, int, bytes]] = []
        self._wanted = 0

    def is_open(self) -> bool:
        """Returns True if anything is left that is not below a common ancestor already."""
        return self._wanted > 0

    def paint(self, commit_id: bytes, flags: int) -> None:
        """Records from which side a commit was reached."""
        old = self._flags.get(commit_id)
        if old is None:
            version = Version(CommitId(commit_id), self._source.get_commit(CommitId(commit_id)))
            self._versions[commit_id] = version
            heapq.heappush(self._queue, (-version.commit.time_ns, -version.commit.number, commit_id))
        was_wanted = old is not None and not old & _OLD
        new = self._flags[commit_id] = (old or 0) | flags
        self._wanted += (not new & _OLD) - was_wanted

    def pop(self) -> tuple[Version, int]:
        """Returns the newest commit that is left."""
        commit_id = heapq.heappop(self._queue)[2]
        flags = self._flags[commit_id]
        self._wanted -= not flags & _OLD
        return self._versions.pop(commit_id), flags
