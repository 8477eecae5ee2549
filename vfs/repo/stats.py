"""`stats`: how much there is, what it takes on disk, and why the two differ."""

from __future__ import annotations

import msgspec

from vfs.history.walk import ancestors
from vfs.repo.repository import Repository
from vfs.store.packs.blocks import ObjectType
from vfs.store.packs.pack_file import PackKind
from vfs.store.refs.operation import RUNS, TAGS


class Stats(msgspec.Struct, frozen=True):
    """Numbers of one repository.

    `logical_bytes` and `logical_files` are the sums over the versions that branches and tags lead to, as copies would
    take them; `unique_bytes` are the distinct chunks among them before compression (tiny files stand in tree nodes),
    and `stored_bytes` are the packs. `head_bytes` and `head_files` are those of the newest version.
    """

    versions: int
    tags: int
    head_files: int
    head_bytes: int
    logical_files: int
    logical_bytes: int
    chunks: int
    unique_bytes: int
    nodes: int
    packs: int
    stored_data_bytes: int
    stored_tree_bytes: int
    index_bytes: int
    log_bytes: int

    @property
    def stored_bytes(self) -> int:
        """What all packs take."""
        return self.stored_data_bytes + self.stored_tree_bytes

    @property
    def dedup_ratio(self) -> float:
        """How many times a distinct byte is used; 1.0 for nothing."""
        return _ratio(self.logical_bytes, self.unique_bytes)

    @property
    def compression_ratio(self) -> float:
        """How much smaller the chunks are in packs; 1.0 for nothing."""
        return _ratio(self.unique_bytes, self.stored_data_bytes)

    @property
    def saving_ratio(self) -> float:
        """How much less the packs take than a copy for each version would."""
        return _ratio(self.logical_bytes, self.stored_bytes)


def stats(repo: Repository, branch: str | None = None) -> Stats:
    """Returns the numbers; reads every version's commit and the whole index, and no file's bytes.

    Packs hold what all branches have, so all of them count. `branch` is the one whose newest version is described.
    """
    files = size = count = 0
    for version in ancestors(
        repo.store, [commit_id for name, commit_id in repo.refs.list() if not name.startswith(RUNS)]
    ):
        if repo.refs.is_forgotten(version.id):
            continue
        count += 1
        files += version.commit.root.files
        size += version.commit.root.size
    chunks = unique = nodes = 0
    for _, location in repo.index.locations():
        if location.type == ObjectType.CHUNK:
            chunks += 1
            unique += location.size
        elif location.type == ObjectType.NODE:
            nodes += 1
    stored = {PackKind.DATA: 0, PackKind.TREE: 0}
    packs = 0
    for row in repo.index.packs():
        packs += 1
        stored[row.name.kind] += row.size
    head = repo.head(branch)
    return Stats(
        versions=count,
        tags=sum(1 for _ in repo.refs.list(TAGS)),
        head_files=head.commit.root.files if head is not None else 0,
        head_bytes=head.commit.root.size if head is not None else 0,
        logical_files=files,
        logical_bytes=size,
        chunks=chunks,
        unique_bytes=unique,
        nodes=nodes,
        packs=packs,
        stored_data_bytes=stored[PackKind.DATA],
        stored_tree_bytes=stored[PackKind.TREE],
        index_bytes=repo.index_bytes(),
        log_bytes=repo.log.size(),
    )


def _ratio(large: int, small: int) -> float:
    return large / small if small else 1.0
