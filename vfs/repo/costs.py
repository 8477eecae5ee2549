"""What each version costs: bytes that no other version has, bytes that it added, and what they take on disk.

Every distinct node is walked twice, however many versions share it: once from the oldest version on and once from the
newest. What a version is the first to have in both walks, no other version has.
"""

from __future__ import annotations

import msgspec

from vfs.history.walk import ancestors
from vfs.model.objects import Version
from vfs.repo.repository import Repository
from vfs.store.progress_callbacks import StageProgress
from vfs.store.trees.reachability import Marker, Marks, Visits


class Cost(msgspec.Struct):
    """What a version costs, in bytes of distinct objects: chunks, tree nodes, its commit.

    `new_bytes`: what no older version has (any, of any branch). `alone_bytes`: what no other version has, which is what
    forgetting it frees. Before compression; `…_stored` is what that takes, each object counted as its pack compresses
    on average.
    """

    version: Version
    new_bytes: int = 0
    new_stored: int = 0
    alone_bytes: int = 0
    alone_stored: int = 0

    @property
    def new_share(self) -> float:
        """The part of the version's files that it added itself, from 0 to 1; 0 for an empty one."""
        size = self.version.commit.root.size
        return self.new_bytes / size if size else 0.0

    @property
    def compression_ratio(self) -> float:
        """How many times smaller its new bytes are stored; 1.0 where there are none."""
        return self.new_bytes / self.new_stored if self.new_stored else 1.0


def version_costs(repo: Repository, progress: StageProgress | None = None) -> list[Cost]:
    """Returns what every version that refs lead to costs, oldest first; forgotten ones cost nothing and are left out.

    Memory: some 60 bytes for each object. Raises Corrupt for what cannot be read.
    """
    heads = [commit_id for _, commit_id in repo.refs.list()]
    versions = [version for version in ancestors(repo.store, heads) if not repo.refs.is_forgotten(version.id)]
    versions.reverse()
    costs = [Cost(version) for version in versions]
    visits = Visits(repo.index)
    marker = Marker(repo.store, visits, repo.refs.is_forgotten)

    def visit(number: int) -> None:
        visits.visitor = number + 1
        marker.commit(versions[number].id, versions[number].commit)
        if progress is not None:
            progress("versions", number, len(versions))

    for number in range(len(versions)):
        visit(number)
    first = visits.start_again()
    for number in reversed(range(len(versions))):
        visit(number)
    last = visits.start_again()
    shares = _stored_shares(repo, visits)
    for (pack, size), oldest, newest in zip(visits.objects(), first, last, strict=True):
        if not oldest:
            continue
        stored = size * shares.get(pack, 0.0)
        cost = costs[oldest - 1]
        cost.new_bytes += size
        cost.new_stored += round(stored)
        if oldest == newest:
            cost.alone_bytes += size
            cost.alone_stored += round(stored)
    return costs


def held_bytes(repo: Repository, version: Version) -> int:
    """Returns the bytes of all distinct objects that a version needs, shared or not."""
    marks = Marks(repo.index)
    Marker(repo.store, marks, repo.refs.is_forgotten).commit(version.id, version.commit)
    return sum(use.bytes_marked for use in marks.uses().values())


def _stored_shares(repo: Repository, visits: Visits) -> dict[int, float]:
    """Returns by pack number how many bytes it takes for each byte of its objects."""
    plain: dict[int, int] = {}
    for pack, size in visits.objects():
        plain[pack] = plain.get(pack, 0) + size
    return {row.number: row.size / plain[row.number] for row in repo.index.packs() if plain.get(row.number)}
