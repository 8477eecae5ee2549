"""Ways through the commits, newest first."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.store.objectstore import ObjectSource


def first_parents(source: ObjectSource, start: CommitId) -> Iterator[Version]:
    """Yields a commit and the first parents below it: the versions of its branch, newest first."""
    current: CommitId | None = start
    while current is not None:
        version = Version(current, source.get_commit(current))
        yield version
        parents = version.commit.parents
        current = CommitId(parents[0]) if parents else None


def ancestors(source: ObjectSource, starts: list[CommitId]) -> Iterator[Version]:
    """Yields all commits reachable from `starts`, each once, newest first; a commit never precedes its descendants.

    Memory grows with the number of commits.
    """
    seen: set[bytes] = set()
    queue: list[tuple[int, int, bytes]] = []
    commits: dict[bytes, Version] = {}

    def push(commit_id: bytes) -> None:
        if commit_id in seen:
            return
        seen.add(commit_id)
        version = Version(CommitId(commit_id), source.get_commit(CommitId(commit_id)))
        commits[commit_id] = version
        # A parent's number is below its child's even where both carry the same time.
        heapq.heappush(queue, (-version.commit.time_ns, -version.commit.number, commit_id))

    for start in starts:
        push(start)
    while queue:
        version = commits.pop(heapq.heappop(queue)[2])
        yield version
        for parent in version.commit.parents:
            push(parent)
