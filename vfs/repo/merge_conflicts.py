"""Resolving the conflicts of an unfinished merge: by one side for a path, or as the user edited it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from vfs.errors import Advice, Conflict, Hint, InvalidInput
from vfs.history.directory_moves import entry_at
from vfs.history.merge_lines import has_conflict_markers
from vfs.model.ids import CommitId
from vfs.model.names import is_within, show_path
from vfs.model.objects import Kind, Version
from vfs.overlay.overlay import Overlay
from vfs.overlay.state import Invalidation
from vfs.repo.merge_state import MergeConflict, MergeState, Resolution, merge_state, save_state
from vfs.repo.repository import Repository
from vfs.repo.stash import make_parents
from vfs.store.trees.directories import resolve_path

_READ_BYTES = 1024 * 1024
_MARK_BYTES = 8
_SHOWN_MAX = 5


class UnresolvedConflicts(Conflict):
    """Conflicts of a merge are left."""

    code = "merge-conflicts"


def resolve_conflicts(
    repo: Repository, overlay: Overlay, paths: Sequence[bytes], resolution: Resolution
) -> tuple[MergeState, list[Invalidation]]:
    """Resolves the conflicts at paths and below (none: all that are left) by one side, or marks them as resolved.

    Nothing is copied; the change is in the working layer and no version yet. Returns the state, and what the kernel
    must look up again. Raises Conflict without a merge, InvalidInput for a path without a conflict.
    """
    with repo.write_lock(), overlay.lock:
        state = require_merge(repo, overlay.branch)
        chosen = [conflict for conflict in state.conflicts if _is_meant(overlay, conflict, paths)]
        for path in paths:
            if not any(is_within(conflict.path, path) for conflict in state.conflicts):
                raise InvalidInput(f"there is no conflict at {show_path(path)}", hint=Hint(Advice.LIST_CONFLICTS))
        stale: list[Invalidation] = []
        for conflict in chosen:
            if resolution != "resolved":
                stale += _take(repo, overlay, state, conflict, resolution)
            conflict.is_resolved = True
        overlay.sync()
        save_state(repo, overlay.branch, state)
        return state, stale


def require_merge(repo: Repository, branch: str) -> MergeState:
    """Returns the state of the unfinished merge; raises Conflict where there is none."""
    state = merge_state(repo, branch)
    if state is None:
        raise no_merge()
    return state


def no_merge() -> Conflict:
    """Returns the error of a command that needs an unfinished merge."""
    return Conflict("no merge is under way", hint=Hint(Advice.BEGIN_MERGE))


def unresolved(overlay: Overlay, state: MergeState) -> list[MergeConflict]:
    """Returns the conflicts that are left: not marked as resolved, and files that still have conflict markers."""
    return [conflict for conflict in state.conflicts if _is_open(overlay, conflict)]


def require_resolved(overlay: Overlay, state: MergeState) -> None:
    """Raises UnresolvedConflicts while conflicts are left."""
    left = unresolved(overlay, state)
    if left:
        shown = ", ".join(show_path(conflict.path) or "." for conflict in left[:_SHOWN_MAX])
        more = f" and {len(left) - _SHOWN_MAX} more" if len(left) > _SHOWN_MAX else ""
        raise UnresolvedConflicts(
            f"conflicts are left: {shown}{more}",
            hint=Hint(Advice.RESOLVE_CONFLICTS),
        )


def _is_meant(overlay: Overlay, conflict: MergeConflict, paths: Sequence[bytes]) -> bool:
    if not paths:
        return _is_open(overlay, conflict)
    return any(is_within(conflict.path, path) for path in paths)


def _is_open(overlay: Overlay, conflict: MergeConflict) -> bool:
    if conflict.is_resolved:
        return False
    return not conflict.is_marked or _has_conflict_markers(overlay, conflict.path)


def _has_conflict_markers(overlay: Overlay, path: bytes) -> bool:
    with overlay.opened(path) as attr:
        if attr is None or attr.kind != Kind.FILE:
            return False
        tail = b"\n"
        for offset in range(0, attr.size, _READ_BYTES):
            data = tail + bytes(overlay.read(attr.ino, offset, _READ_BYTES))
            if has_conflict_markers(data[1:] if offset == 0 else data):
                return True
            tail = data[-_MARK_BYTES:]
        return False


def _take(
    repo: Repository, overlay: Overlay, state: MergeState, conflict: MergeConflict, side: Literal["ours", "theirs"]
) -> list[Invalidation]:
    digits, path = (state.ours, conflict.ours) if side == "ours" else (state.theirs, conflict.theirs)
    commit_id = CommitId(bytes.fromhex(digits))
    version = Version(commit_id, repo.store.get_commit(commit_id))
    if path is None:
        return [*overlay.graft(conflict.path, None), *_drop_empty(repo, overlay, version, conflict.path)]
    place = resolve_path(repo.store, version.commit.root, path)
    stale = make_parents(repo, overlay, version, conflict.path)
    return [*stale, *overlay.graft(conflict.path, place.entry, place.directory, version.commit.links, path)]


def _drop_empty(repo: Repository, overlay: Overlay, version: Version, path: bytes) -> list[Invalidation]:
    """Removes directories that stood for a path alone: empty, and not in the version whose side was taken."""
    stale: list[Invalidation] = []
    while path := path.rpartition(b"/")[0]:
        with overlay.opened(path) as attr:
            if attr is None or next(overlay.names(attr.ino), None) is not None:
                break
        if entry_at(repo.store, version.commit.root, path) is not None:
            break
        stale += overlay.graft(path, None)
    return stale
