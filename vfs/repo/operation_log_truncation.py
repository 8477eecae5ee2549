"""Signs that the operation log was truncated: an unfinished last line, and commits that no operation names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Set

from vfs.errors import Corrupt
from vfs.model.ids import CommitId
from vfs.model.objects import COMPOSED_META
from vfs.store.object_store import ObjectStore
from vfs.store.refs.operation import commits_of
from vfs.store.refs.operation_log import OperationLog
from vfs.store.refs.refs import Refs


def truncation_signs(log: OperationLog, refs: Refs, store: ObjectStore, stored: Set[CommitId]) -> Iterator[str]:
    """Yields in words what hints at a longer log; `stored`: the commits that the packs have, or some of them.

    A crash leaves the same, so it is no damage.
    """
    if refs.follow() != log.size():
        yield "the operation log ends in an unfinished line, which counts for nothing; the next operation removes it"
    count = sum(not _is_composed(store, commit_id) for commit_id in _unnamed(refs, store, stored))
    if count:
        commits = f"{count} stored commits are" if count > 1 else "a stored commit is"
        yield f"{commits} in no operation: the operation log has lost its end, or a command was interrupted"


def _is_composed(store: ObjectStore, commit_id: CommitId) -> bool:
    """Returns True for a composed view, which no operation ever names."""
    with contextlib.suppress(Corrupt):
        return COMPOSED_META in store.get_commit(commit_id).meta
    return False


def _unnamed(refs: Refs, store: ObjectStore, stored: Set[CommitId]) -> set[CommitId]:
    """Returns the commits that neither an operation names nor a commit which one names leads to."""
    left = set(stored)
    named: list[CommitId] = []
    for operation in refs.operations():
        if not left:
            break
        named.extend(commits_of(operation))
        while named:
            commit_id = named.pop()
            if commit_id in left:
                left.discard(commit_id)
                with contextlib.suppress(Corrupt):
                    named.extend(CommitId(parent) for parent in store.get_commit(commit_id).parents)
    return left
