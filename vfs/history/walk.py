"""Walks over commits, newest first."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.store.object_store import ObjectSource


def first_parents(
    source: ObjectSource, start: CommitId, *, leave_out: Callable[[CommitId], bool] | None = None
) -> Iterator[Version]:
    """Yields a commit and the first parents below it: the versions of its branch, newest first, some left out."""
    current: CommitId | None = start
    while current is not None:
        version = Version(current, source.get_commit(current))
        if leave_out is None or not leave_out(current):
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


def only_from(source: ObjectSource, start: CommitId, others: list[CommitId]) -> Iterator[Version]:
    """Yields the commits that `start` leads to and none of `others` does, newest first.

    The cost follows what is younger than the youngest that is shared, not the history.
    """
    if start in others:
        return
    commits: dict[bytes, Version] = {}
    is_shared: dict[bytes, bool] = {}
    queue: list[tuple[int, int, bytes]] = []
    alone = 0

    def push(commit_id: bytes, shared: bool) -> None:
        nonlocal alone
        if commit_id not in is_shared:
            version = commits[commit_id] = Version(CommitId(commit_id), source.get_commit(CommitId(commit_id)))
            heapq.heappush(queue, (-version.commit.time_ns, -version.commit.number, commit_id))
            alone += not shared
        elif shared and not is_shared[commit_id] and commit_id in commits:
            # A commit leaves the queue before what it is made on does, so one that has left it meets no news.
            alone -= 1
        is_shared[commit_id] = is_shared.get(commit_id, False) or shared

    push(start, False)
    for other in others:
        push(other, True)
    while alone:
        commit_id = heapq.heappop(queue)[2]
        version, shared = commits.pop(commit_id), is_shared[commit_id]
        if not shared:
            alone -= 1
            yield version
        for parent in version.commit.parents:
            push(parent, shared)
