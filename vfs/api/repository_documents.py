"""The JSON documents of a repository: branches, tags, mounts, status, operations, costs and statistics."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from vfs.api.documents import (
    ChangeDocument,
    ConflictDocument,
    conflict_document,
    iso_time,
)
from vfs.model.ids import CommitId
from vfs.model.names import path_text
from vfs.model.objects import Version
from vfs.store.refs.operation import Operation
from vfs.store.refs.operation_args import encode_args

if TYPE_CHECKING:  # Each is loaded by the commands that have one to show.
    from vfs.repo.costs import Cost
    from vfs.repo.merge_state import MergeConflict, MergeState
    from vfs.repo.stats import Stats


class HeadDocument(TypedDict):
    """A branch's name and its newest version, null before the first."""

    branch: str
    version: str | None
    id: str | None


def _head(branch: str, head: Version | None) -> HeadDocument:
    return {
        "branch": branch,
        "version": None if head is None else head.name,
        "id": None if head is None else head.id.hex(),
    }


class BranchDocument(HeadDocument):
    """A branch. `remotes`: those of its name, where they were asked for."""

    current: bool
    protected: bool
    remotes: NotRequired[list[TrackedDocument]]


def branch_document(
    branch: str,
    head: Version | None,
    *,
    is_current: bool,
    is_protected: bool,
    remotes: list[TrackedDocument] | None = None,
) -> BranchDocument:
    """Returns the document of a branch."""
    shown = _head(branch, head)
    found: BranchDocument = {
        "branch": shown["branch"],
        "version": shown["version"],
        "id": shown["id"],
        "current": is_current,
        "protected": is_protected,
    }
    if remotes is not None:
        found["remotes"] = remotes
    return found


class SwitchDocument(HeadDocument):
    """The current branch; `switched` says whether it was another one before."""

    switched: bool


def switch_document(branch: str, head: Version | None, *, switched: bool) -> SwitchDocument:
    """Returns the document of a switch to a branch."""
    return {**_head(branch, head), "switched": switched}


class TagDocument(TypedDict):
    """A tag and the version that it names."""

    tag: str
    version: str
    id: str
    protected: bool


def tag_document(tag: str, version: Version, *, is_protected: bool) -> TagDocument:
    """Returns the document of a tag."""
    return {"tag": tag, "version": version.name, "id": version.id.hex(), "protected": is_protected}


class MountDocument(TypedDict):
    """A mount of the repository; `pid` is null where its daemon does not answer or the mount is read-only."""

    path: str
    pid: int | None
    read_only: bool


def mount_document(path: Path, pid: int | None, *, is_read_only: bool) -> MountDocument:
    """Returns the document of a mount."""
    return {"path": str(path), "pid": pid, "read_only": is_read_only}


class UnfinishedMergeDocument(TypedDict):
    """A merge that is under way: the name and commit id of the other side, and the conflicts left."""

    name: str
    theirs: str
    conflicts: list[ConflictDocument]


def unfinished_merge_document(state: MergeState, left: Iterable[MergeConflict]) -> UnfinishedMergeDocument:
    """Returns the document of a merge that is under way."""
    return {
        "name": state.name,
        "theirs": state.theirs,
        "conflicts": [conflict_document(state, conflict) for conflict in left],
    }


class TrackedDocument(TypedDict):
    """A branch of a remote, `REMOTE/BRANCH`, as it was last seen; how many versions only this side, or only it, has."""

    name: str
    ahead: int
    behind: int


class StatusDocument(TypedDict):
    """A branch, its newest version (null before the first), and what is not committed."""

    repository: str
    branch: str
    version: str | None
    id: str | None
    clean: bool
    merge: UnfinishedMergeDocument | None
    mounts: list[MountDocument]
    changes: list[ChangeDocument]
    ignored: int
    ignored_paths: NotRequired[list[str]]
    remotes: NotRequired[list[TrackedDocument]]


def status_document(
    repository: Path,
    branch: str,
    head: Version | None,
    changes: list[ChangeDocument],
    ignored: Sequence[bytes],
    mounts: list[MountDocument],
    merge: UnfinishedMergeDocument | None,
    *,
    with_ignored: bool,
    remotes: Sequence[TrackedDocument] = (),
) -> StatusDocument:
    """Returns the document of a working layer's state; the ignored paths are listed where `with_ignored`."""
    value: StatusDocument = {
        "repository": path_text(os.fsencode(repository)),
        "branch": branch,
        "version": None if head is None else head.name,
        "id": None if head is None else head.id.hex(),
        "clean": not changes,
        "merge": merge,
        "mounts": mounts,
        "changes": changes,
        "ignored": len(ignored),
    }
    if with_ignored:
        value["ignored_paths"] = [path_text(path) for path in ignored]
    if remotes:
        value["remotes"] = list(remotes)
    return value


class RefDocument(TypedDict):
    """A ref or setting that an operation changed; empty texts stand for nothing there."""

    name: str
    old: str
    new: str


class OperationDocument(TypedDict):
    """An operation of the log. `notes` are the commits of which something was written."""

    seq: int
    time: str
    kind: str
    author: str
    message: str
    refs: list[RefDocument]
    settings: list[RefDocument]
    notes: list[str]
    args: dict[str, str]


def operation_document(operation: Operation) -> OperationDocument:
    """Returns the document of an operation."""
    return {
        "seq": operation.seq,
        "time": iso_time(operation.time_ns),
        "kind": operation.kind,
        "author": operation.author,
        "message": operation.message,
        "refs": [{"name": change.name, "old": change.old, "new": change.new} for change in operation.refs],
        "settings": [{"name": each.name, "old": each.old, "new": each.new} for each in operation.settings],
        "notes": [change.commit for change in operation.notes],
        "args": encode_args(operation.args),
    }


class NowDocument(TypedDict):
    """How things are after an undo: the current branch, changes not committed, and the commit of each branch."""

    current: str
    uncommitted: int | None
    branches: dict[str, str]


class UndoDocument(TypedDict):
    """The operation that was undone, and how things are now."""

    undone: OperationDocument
    now: NowDocument


def undo_document(
    operation: Operation, current: str, uncommitted: int | None, branches: Mapping[str, CommitId]
) -> UndoDocument:
    """Returns the document of an undo; `uncommitted` is None where no working layer was concerned."""
    heads = {name: commit_id.hex() for name, commit_id in branches.items()}
    now: NowDocument = {"current": current, "uncommitted": uncommitted, "branches": heads}
    return {"undone": operation_document(operation), "now": now}


class CostDocument(TypedDict):
    """What a version costs: bytes that are new in it or that no other version has, before and after compression."""

    version: str
    id: str
    time: str
    size: int
    new_bytes: int
    new_stored: int
    alone_bytes: int
    alone_stored: int
    new_share: float
    compression_ratio: float
    held_bytes: NotRequired[int]
    shared_bytes: NotRequired[int]


def cost_document(cost: Cost, held_bytes: int | None = None) -> CostDocument:
    """Returns the document of a version's cost; with `held_bytes` also what it holds and what of it is shared."""
    version = cost.version
    value: CostDocument = {
        "version": version.name,
        "id": version.id.hex(),
        "time": iso_time(version.commit.time_ns),
        "size": version.commit.root.size,
        "new_bytes": cost.new_bytes,
        "new_stored": cost.new_stored,
        "alone_bytes": cost.alone_bytes,
        "alone_stored": cost.alone_stored,
        "new_share": round(cost.new_share, 4),
        "compression_ratio": round(cost.compression_ratio, 3),
    }
    if held_bytes is not None:
        value["held_bytes"] = held_bytes
        value["shared_bytes"] = held_bytes - cost.alone_bytes
    return value


class StatsDocument(TypedDict):
    """How much a repository holds and stores; see `vfs.repo.stats.Stats`."""

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
    stored_bytes: int
    dedup_ratio: float
    compression_ratio: float
    saving_ratio: float


def stats_document(found: Stats) -> StatsDocument:
    """Returns the document of a repository's numbers."""
    return {
        "versions": found.versions,
        "tags": found.tags,
        "head_files": found.head_files,
        "head_bytes": found.head_bytes,
        "logical_files": found.logical_files,
        "logical_bytes": found.logical_bytes,
        "chunks": found.chunks,
        "unique_bytes": found.unique_bytes,
        "nodes": found.nodes,
        "packs": found.packs,
        "stored_data_bytes": found.stored_data_bytes,
        "stored_tree_bytes": found.stored_tree_bytes,
        "index_bytes": found.index_bytes,
        "log_bytes": found.log_bytes,
        "stored_bytes": found.stored_bytes,
        "dedup_ratio": round(found.dedup_ratio, 3),
        "compression_ratio": round(found.compression_ratio, 3),
        "saving_ratio": round(found.saving_ratio, 3),
    }


class RecoveredDocument(TypedDict):
    """What a recovery of a damaged working layer kept, and what it has to say."""

    branch: str
    records: int
    notices: list[str]


def recovered_document(branch: str, records: int, notices: list[str]) -> RecoveredDocument:
    """Returns the document of a recovery."""
    return {"branch": branch, "records": records, "notices": notices}


class RepositoryDocument(TypedDict):
    """A repository that was made."""

    repository: str
    id: str


def repository_document(path: Path, repository_id: str) -> RepositoryDocument:
    """Returns the document of a new repository."""
    return {"repository": str(path), "id": repository_id}
