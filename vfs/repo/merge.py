"""`merge`: merges another branch, tag or version into the working layer's branch.

A merge without conflicts is a version at once. One with conflicts stands in the working layer, uncommitted: the merged
tree, with conflicts to resolve (vfs/repo/merge_conflicts.py); `commit` then makes the version, or `abort_merge` cancels
the merge. No file data is copied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from vfs.errors import Advice, Conflict, Hint
from vfs.history.merge_bases import is_ancestor, merge_bases
from vfs.history.merge_contents import ContentMerge, Key
from vfs.history.merge_kinds import DivergentRename, Side
from vfs.history.merge_lines import Labels
from vfs.history.merge_trees import Merged, Tree, base_tree, merge_trees
from vfs.model.ids import SHORT_HEX, CommitId
from vfs.model.names import is_within
from vfs.model.objects import Version
from vfs.overlay.overlay import Overlay
from vfs.overlay.state import Invalidation
from vfs.repo.commit import COMMIT_TIMEOUT_S, Meta, move_branch, put_commit, require_clean, require_on_head
from vfs.repo.merge_conflicts import no_merge
from vfs.repo.merge_state import MERGE_BEGIN, MergeConflict, MergeState, refuse_in_merge, state_or_initial
from vfs.repo.repository import Repository
from vfs.repo.runs.made_by import naming_makers
from vfs.repo.stash import replace_layer, stash_in_state, store_stash
from vfs.store.dry_run_sink import DryRunSink
from vfs.store.object_writer import ObjectWriter
from vfs.store.progress_callbacks import FileProgress
from vfs.store.refs.operation import BRANCHES, PULLED, Operation, RefChange, SettingChange
from vfs.store.refs.operation_args import MergeAbortLogArgs, MergeBeginLogArgs
from vfs.store.trees.content_writer import ContentWriter


class Preference(NamedTuple):
    """Whose side counts where both changed a path: at these paths and below, or (none) everywhere."""

    side: Side
    paths: Sequence[bytes] = ()

    def at(self, path: bytes) -> Side | None:
        """Returns the side for a path, None where there is no preference."""
        return self.side if not self.paths or any(is_within(path, above) for above in self.paths) else None


class MergeResult(NamedTuple):
    """What a merge did: a `version`; or an unfinished merge (`state`); or nothing, as all of it was there already.

    `divergent_renames`: what each side has given another name, and now has both.
    """

    version: Version | None
    state: MergeState | None
    stale: Sequence[Invalidation] = ()
    divergent_renames: Sequence[DivergentRename] = ()


def merge(
    repo: Repository,
    overlay: Overlay,
    name: str,
    theirs: Version,
    author: str,
    message: str = "",
    *,
    meta: Meta = (),
    preference: Preference | None = None,
    keys: Sequence[Key] = (),
    progress: FileProgress | None = None,
    waiting: Callable[[str], None] | None = None,
) -> MergeResult:
    """Merges a version into a clean working layer's branch; `name` is what people call it. Durable on return.

    The result is always one version of the branch, with two parents; a branch without a version takes theirs over.
    Raises Conflict where there are uncommitted changes, or a merge is unfinished; Protected, Busy, OSError.
    """
    branch = overlay.branch
    with repo.write_lock(timeout_s=COMMIT_TIMEOUT_S, waiting=waiting):
        repo.refs.require_movable(BRANCHES + branch)
        refuse_in_merge(repo, branch, "no other merge now")
        require_clean(overlay, "merge")
        ours = repo.head(branch)
        require_on_head(repo, overlay, ours)
        if ours is None:
            return _publish(repo, overlay, theirs, None)
        if is_ancestor(repo.store, theirs.id, ours.id):
            return MergeResult(None, None)
        with ObjectWriter(repo.store) as writer:
            made = _MergeRun(repo, writer, ours, theirs, name)
            merged = made.merge(preference, keys, progress)
            message = message or f"Merge {name}"
            if not merged.conflicts:
                tree = merged.tree
                pairs = naming_makers(repo, meta)
                version = put_commit(writer, ours, tree.root, tree.links, message, author, pairs, theirs)
                writer.flush()
                return _publish(repo, overlay, version, ours)._replace(divergent_renames=merged.divergent_renames)
            state = made.state(merged, message)
            kept = store_stash(writer, ours, merged.tree, branch, author, state)
            writer.flush()
        return _begin(repo, overlay, ours, kept, state, author)._replace(divergent_renames=merged.divergent_renames)


def abort_merge(repo: Repository, overlay: Overlay, author: str) -> list[Invalidation]:
    """Cancels an unfinished merge, also one whose state is lost: the working layer is what it was before.

    After a pull the branch is where it was before the pull, too.
    The changes made meanwhile are stashed, and `undo` restores them. Returns what the kernel must look up again. Raises
    Conflict without a merge.
    """
    with repo.write_lock(timeout_s=COMMIT_TIMEOUT_S):
        in_merge, state = state_or_initial(repo, overlay.branch)
        if not in_merge:
            raise no_merge()
        while True:
            kept = stash_in_state(repo, overlay, author, state)
            with overlay.lock:
                if kept.position != overlay.position:
                    continue
                args = MergeAbortLogArgs(before=kept.version.id.hex(), name=state.name if state is not None else "")
                refs, settings, base = _before_pull(repo, overlay, state)
                operation = Operation(
                    time_ns=time.time_ns(), kind="merge-abort", author=author, refs=refs, settings=settings, args=args
                )
                return replace_layer(repo, overlay, operation, base, base)[1]


def _before_pull(
    repo: Repository, overlay: Overlay, state: MergeState | None
) -> tuple[tuple[RefChange, ...], tuple[SettingChange, ...], Version]:
    """Returns what goes back when a merge is cancelled, and the version on which the working layer then stands."""
    assert overlay.base is not None
    branch = overlay.branch
    text, head = repo.refs.setting(PULLED + branch), repo.refs.get(BRANCHES + branch)
    own = CommitId(bytes.fromhex(text)) if text else None
    if own is None or head is None or not repo.index.has(own) or (state is not None and state.theirs != text):
        return (), (), overlay.base
    if is_ancestor(repo.store, own, head):
        # Of an earlier pull, whose merge was finished.
        return (), (), overlay.base
    ref = RefChange(BRANCHES + branch, head.hex(), text)
    return (ref,), (SettingChange(PULLED + branch, text, ""),), Version(own, repo.store.get_commit(own))


def _publish(repo: Repository, overlay: Overlay, version: Version, ours: Version | None) -> MergeResult:
    """Makes a stored commit the branch's newest version and lets the clean working layer stand on it."""
    with overlay.lock:
        require_clean(overlay, "merge")
        move_branch(repo, version, ours, "merge", overlay.branch, None)
        return MergeResult(version, None, overlay.set_base(version))


def _begin(
    repo: Repository, overlay: Overlay, ours: Version, kept: Version, state: MergeState, author: str
) -> MergeResult:
    with overlay.lock:
        require_clean(overlay, "merge")
        args = MergeBeginLogArgs(before=ours.id.hex(), name=state.name, theirs=state.theirs)
        operation = Operation(time_ns=time.time_ns(), kind=MERGE_BEGIN, author=author, args=args)
        _, stale = replace_layer(repo, overlay, operation, ours, kept)
    return MergeResult(None, state, stale)


class _MergeRun:
    """One merge of two versions, its result stored by a writer."""

    def __init__(self, repo: Repository, writer: ObjectWriter, ours: Version, theirs: Version, name: str) -> None:
        self._repo = repo
        self._writer = writer
        self._ours = ours
        self._theirs = theirs
        self._name = name
        self._bases = merge_bases(repo.store, ours.id, theirs.id)
        for base in self._bases:
            if repo.refs.is_forgotten(base.id):
                raise Conflict(
                    f"what both sides come from, {base.name} {base.id.hex()[:SHORT_HEX]}, was forgotten",
                    hint=Hint(Advice.RESTORE_FROM, {"version": name}),
                )

    def merge(self, preference: Preference | None, keys: Sequence[Key], progress: FileProgress | None) -> Merged:
        repo, sink = self._repo, DryRunSink(self._writer)
        base_id = self._bases[0].id.hex()[:SHORT_HEX] if self._bases else "nothing"
        labels = Labels(
            f"ours ({self._ours.name})",
            f"base ({base_id})",
            f"theirs ({self._name}, {self._theirs.id.hex()[:SHORT_HEX]})",
        )
        contents = ContentMerge(ContentWriter(self._writer, repo.config.ingest), labels, keys)
        merged = merge_trees(
            sink,
            base_tree(sink, self._bases, contents),
            Tree.of(self._ours.commit),
            Tree.of(self._theirs.commit),
            contents,
            prefer=preference.at if preference is not None else lambda _path: None,
            progress=progress,
        )
        root = merged.tree.root
        sink.store(self._writer, root.content, root.tiny, merged.tree.links)
        return merged

    def state(self, merged: Merged, message: str) -> MergeState:
        return MergeState(
            self._ours.id.hex(),
            self._theirs.id.hex(),
            [base.id.hex() for base in self._bases],
            self._name,
            message,
            [MergeConflict(*conflict) for conflict in merged.conflicts],
        )
