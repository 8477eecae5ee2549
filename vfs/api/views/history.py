"""The history as a graph, a page at a time, and the search in it.

A page costs its own commits: the cursor to the next one holds the commits that its lanes wait for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NotRequired, TypedDict

from vfs.api.views.viewed_repository import LinkedVersion, ViewedRepository
from vfs.errors import InvalidInput, VfsError
from vfs.history.walk import ancestors, first_parents
from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.repo.notes import described
from vfs.store.refs.operation import BRANCHES

VERSIONS_A_PAGE = 50
_LANES_MAX = 12
"""Branches that are drawn side by side; of more only the newest."""
_SEARCH_S = 0.5
"""How long a search looks before it shows what it has found and offers to go on."""


class GraphDocument(TypedDict):
    """A row of the graph: the lane of its version, and lines as (lane above, lane below)."""

    lane: int
    above: list[tuple[int, int]]
    below: list[tuple[int, int]]
    lanes: int


class ListedVersion(LinkedVersion):
    """A version in the list, with the branches whose head it is."""

    heads: list[str]
    forgotten: NotRequired[bool]
    graph: NotRequired[GraphDocument]


class HistoryDocument(TypedDict):
    """A page of the history. `next` is the cursor of the page behind it; a search that stopped early has one too."""

    branch: str
    all_branches: bool
    query: str
    versions: list[ListedVersion]
    next: str | None
    searched: int
    hidden_branches: int


class _Graph:
    """Lanes of the graph: each waits for a commit, which comes later in the list."""

    def __init__(self, waiting: Sequence[bytes]) -> None:
        self.waiting: list[bytes] = list(waiting)

    def place(self, version: Version) -> GraphDocument:
        """Puts the next version in its lane and makes its parents waited for."""
        before = list(self.waiting)
        if version.id not in before:
            before.append(version.id)
        lane = before.index(version.id)
        after = [waited for waited in before if waited != version.id]
        fresh = [parent for parent in version.commit.parents if parent not in after]
        after[min(lane, len(after)) : min(lane, len(after))] = fresh
        above = [
            (at, at if waited != version.id else lane) for at, waited in enumerate(before) if waited in self.waiting
        ]
        # What goes on keeps its commit; a version goes on to each of its parents.
        below = [(before.index(waited), at) for at, waited in enumerate(after) if waited in before]
        below += [(lane, after.index(parent)) for parent in version.commit.parents]
        self.waiting = after
        return {"lane": lane, "above": above, "below": below, "lanes": max(len(before), len(after))}


def history(
    viewed: ViewedRepository,
    branch: str | None = None,
    *,
    all_branches: bool = False,
    query: str = "",
    cursor: str = "",
) -> HistoryDocument:
    """Returns a page of the history, newest first: of a branch with what was merged into it, or of all branches.

    With `query` only the versions that have its words in message, author, tags, metadata or id. Raises NotFound,
    InvalidInput for a bad cursor.
    """
    repo = viewed.repository
    branch = branch if branch is not None else repo.current_branch
    repo.require_branch(branch)
    heads: dict[CommitId, list[str]] = {}
    for name, commit_id in repo.refs.list(BRANCHES):
        heads.setdefault(commit_id, []).append(name.removeprefix(BRANCHES))
    starts, hidden = _starts(viewed, branch, heads, all_branches=all_branches)
    if cursor:
        starts = _cursor(cursor)
    tags = viewed.tags()
    graph = _Graph(starts if cursor else [])
    found: list[ListedVersion] = []
    searched = 0
    is_over = True
    words = query.casefold().split()
    waiting = dict.fromkeys(starts)
    deadline = time.monotonic() + _SEARCH_S
    for version in _walk(viewed, starts):
        if len(found) == VERSIONS_A_PAGE or (words and searched % 64 == 63 and time.monotonic() > deadline):
            is_over = False
            break
        searched += 1
        shown = described(repo, version)
        names = heads.get(version.id, [])
        waiting.pop(version.id, None)
        waiting.update(dict.fromkeys(map(CommitId, version.commit.parents)))
        placed = graph.place(version) if not words else None
        if words and not _has(shown, [*tags.get(version.id, []), *names], words):
            continue
        listed: ListedVersion = {**viewed.linked(shown, tags), "heads": names}  # type: ignore[typeddict-item]
        if repo.refs.is_forgotten(version.id):
            listed["forgotten"] = True
        if placed is not None:
            listed["graph"] = placed
        found.append(listed)
    following = graph.waiting if not words else list(waiting)
    return {
        "branch": branch,
        "all_branches": all_branches,
        "query": query,
        "versions": found,
        "next": None if is_over else ",".join(each.hex() for each in following),
        "searched": searched,
        "hidden_branches": hidden,
    }


def _walk(viewed: ViewedRepository, starts: list[CommitId]) -> Iterator[Version]:
    return ancestors(viewed.repository.store, starts)


def _starts(
    viewed: ViewedRepository, branch: str, heads: dict[CommitId, list[str]], *, all_branches: bool
) -> tuple[list[CommitId], int]:
    if not all_branches:
        newest = viewed.repository.head(branch)
        return ([newest.id] if newest is not None else []), 0
    store = viewed.repository.store
    newest_first = sorted(heads, key=lambda commit_id: -store.get_commit(commit_id).time_ns)
    return newest_first[:_LANES_MAX], max(len(newest_first) - _LANES_MAX, 0)


def _cursor(text: str) -> list[CommitId]:
    try:
        ids = [bytes.fromhex(part) for part in text.split(",")]
    except ValueError:
        ids = []
    if not ids or any(len(each) != 32 for each in ids):
        raise InvalidInput("the address names no page of the history", hint="Begin again at the newest version.")
    return [CommitId(each) for each in ids]


def _has(version: Version, names: Sequence[str], words: Sequence[str]) -> bool:
    commit = version.commit
    pairs = (f"{key}={value}" for key, value in commit.meta)
    text = " ".join([version.name, version.id.hex(), commit.author, commit.message, *names, *pairs]).casefold()
    return all(word in text for word in words)


def found_version(viewed: ViewedRepository, query: str, branch: str | None) -> Version | None:
    """Returns the version that a search names outright, `v12` or digits of an id, or None."""
    try:
        return viewed.version(query.strip(), branch) if query.strip() else None
    except VfsError:
        return None


def history_from(viewed: ViewedRepository, start: Version) -> Iterator[Version]:
    """Yields a version and those before it on its branch that are not forgotten."""
    refs = viewed.repository.refs
    return first_parents(viewed.repository.store, start.id, leave_out=refs.is_forgotten)
