"""`undo`: reverses the last operation, of any kind, by another operation; undoing that one redoes it.

Refs and settings move back, and the working layer with them. A commit that is undone leaves its files in the working
layer, as changes; what gave the working layer other content is undone by giving it back what the operation has kept.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from vfs.errors import Advice, Conflict, Hint
from vfs.history.merge_trees import Tree
from vfs.model.ids import SHORT_HEX, CommitId
from vfs.model.names import show_path
from vfs.model.objects import Version
from vfs.overlay.overlay import Overlay
from vfs.overlay.state import Invalidation
from vfs.repo.branches import closed_layer, remove_layer, shown_uncommitted
from vfs.repo.commit import COMMIT_TIMEOUT_S, require_on_head
from vfs.repo.merge_state import MergeState, merge_state, refuse_in_merge, stashed_state
from vfs.repo.repository import Repository
from vfs.repo.stash import differing_paths, replace_layer, stash_layer, store_stash
from vfs.store.object_writer import ObjectWriter
from vfs.store.refs.operation import BRANCHES, RUN, NoteChange, Operation, RefChange, SettingChange
from vfs.store.refs.operation_args import LayerLogArgs, UndoLogArgs
from vfs.store.refs.refs import FORGET, PURGE

UNDO = "undo"
_WITHOUT_EFFECT = frozenset({"gc", "fetch", "push", "pulled", RUN})
"""Operations without a visible change, which undo skips."""
_MAKES_VERSIONS = frozenset({"commit", "import", "merge", "amend"})
_SHOWN_MAX = 5


class Undone(NamedTuple):
    """What was undone, the operation that did it, and what the kernel must look up again."""

    undone: Operation
    by: Operation
    stale: Sequence[Invalidation]


def last_operation(repo: Repository) -> Operation:
    """Returns the operation that `undo` reverses. Raises Conflict, with the reason, where it cannot be reversed."""
    for operation in repo.refs.operations():
        if operation.kind in _WITHOUT_EFFECT:
            continue
        is_final = operation.kind in (FORGET, PURGE)
        if is_final or not (operation.refs or operation.settings or operation.notes or operation.before is not None):
            raise Conflict(
                f"operation {operation.seq} ({operation.kind}) cannot be undone: it kept nothing to go back to",
                hint=Hint(Advice.LIST_OPERATIONS),
            )
        return operation
    raise Conflict("there is nothing to undo", hint=Hint(Advice.LIST_OPERATIONS))


def layer_of(operation: Operation) -> str | None:
    """Returns the branch whose working layer is needed to undo an operation, None where none is."""
    if operation.layer is not None and operation.before is not None:
        return operation.layer.branch
    change = _version_change(operation)
    return change.name.removeprefix(BRANCHES) if change is not None else None


def undo(repo: Repository, overlay: Overlay | None, operation: Operation, author: str) -> Undone:
    """Reverses the last operation; `overlay` is the working layer that `layer_of` names.

    Raises Conflict where later uncommitted changes would be lost, where another operation came meanwhile or refs have
    moved; then nothing has happened. Raises Protected, Busy, NotReplaced, OSError.
    """
    with repo.write_lock(timeout_s=COMMIT_TIMEOUT_S):
        last = last_operation(repo)
        if last.seq != operation.seq:
            raise Conflict(f"operation {last.seq} ({last.kind}) came meanwhile", hint=Hint(Advice.UNDO_THAT_FIRST))
        reverse = Operation(
            time_ns=time.time_ns(),
            kind=UNDO,
            author=author,
            refs=tuple(RefChange(change.name, change.new, change.old) for change in operation.refs),
            settings=tuple(SettingChange(change.name, change.new, change.old) for change in operation.settings),
            notes=tuple(NoteChange(change.commit, change.new, change.old) for change in operation.notes),
            args=UndoLogArgs(undoes=operation.seq, what=operation.kind),
        )
        if overlay is None:
            return Undone(operation, _move_refs(repo, reverse), ())
        if not _leads_back_into_merge(repo, overlay, operation):
            refuse_in_merge(repo, overlay.branch, "nothing is undone")
        require_on_head(repo, overlay, repo.head(overlay.branch))
        by, stale = _Layer(repo, overlay, author).undo(operation, reverse)
        return Undone(operation, by, stale)


def _leads_back_into_merge(repo: Repository, overlay: Overlay, operation: Operation) -> bool:
    """Returns True if an operation began the merge that is unfinished, or happened within it."""
    state = merge_state(repo, overlay.branch)
    if state is not None and operation.work == (overlay.branch, state.generation):
        return True
    before = operation.before
    if before is None or not repo.index.has(before):
        return False
    return stashed_state(repo.store.get_commit(before)) is not None


def _version_change(operation: Operation) -> RefChange | None:
    """Returns the move of a branch that its working layer follows: not that of one that was made or removed."""
    for change in operation.refs:
        if change.name.startswith(BRANCHES):
            is_version = operation.work is not None or operation.kind in _MAKES_VERSIONS
            return change if is_version or (change.old and change.new) else None
    return None


def _move_refs(repo: Repository, reverse: Operation) -> Operation:
    """Moves refs and settings that no working layer follows; the layers of branches that go go with them."""
    going = [change.name.removeprefix(BRANCHES) for change in reverse.refs if _removes_branch(change)]
    with contextlib.ExitStack() as stack:
        for name in going:
            uncommitted = stack.enter_context(closed_layer(repo, name))
            if uncommitted or name == _current_after(repo, reverse):
                why = shown_uncommitted(uncommitted) or ["the current branch"]
                raise Conflict(f"the branch {name!r} would go, and with it {why[0]}", hint="Commit them, or switch.")
        done = repo.refs.move(reverse)
        for name in going:
            remove_layer(repo, name)
    return done


def _removes_branch(change: RefChange) -> bool:
    return change.name.startswith(BRANCHES) and not change.new


def _current_after(repo: Repository, operation: Operation) -> str:
    return next((change.new for change in operation.settings if change.name == "current"), repo.current_branch)


class _Layer:
    """A working layer in which an operation is undone, under the write lock."""

    def __init__(self, repo: Repository, overlay: Overlay, author: str) -> None:
        self._repo = repo
        self._overlay = overlay
        self._author = author

    def undo(self, operation: Operation, reverse: Operation) -> tuple[Operation, list[Invalidation]]:
        change = _version_change(operation)
        base = self._version(change.old) if change is not None else self._overlay.base
        layer = operation.layer
        if layer is not None and layer.before:
            return self._restore_content(layer, reverse, base)
        if operation.work is not None:
            return self._keep_content(operation, reverse, base)
        assert change is not None
        return self._move_back(change, reverse, base)

    def _restore_content(
        self, layer: LayerLogArgs, reverse: Operation, base: Version | None
    ) -> tuple[Operation, list[Invalidation]]:
        """Restores the layer's content from before the operation, if it has not changed since."""
        before = self._required(layer.before)
        after = self._required(layer.after)
        reverse = _with_before(reverse, layer.after)
        while True:
            later, position = differing_paths(self._repo, self._overlay, after.commit)
            if later:
                raise _would_lose_changes(later, in_merge=merge_state(self._repo, self._overlay.branch) is not None)
            with self._overlay.lock:
                if position == self._overlay.position:
                    return replace_layer(self._repo, self._overlay, reverse, base, before)

    def _keep_content(
        self, operation: Operation, reverse: Operation, base: Version | None
    ) -> tuple[Operation, list[Invalidation]]:
        """Leaves the layer as it is, as changes to the version before; an undone merge is unfinished again."""
        while True:
            kept = stash_layer(self._repo, self._overlay, self._author)
            shown = self._in_merge(operation, kept.version)
            with self._overlay.lock:
                if kept.position == self._overlay.position:
                    return replace_layer(self._repo, self._overlay, reverse, base, shown)

    def _in_merge(self, operation: Operation, kept: Version) -> Version:
        change = _version_change(operation)
        made = self._version(change.new) if change is not None else None
        if operation.kind != "merge" or made is None:
            return kept
        ours, theirs = (parent.hex() for parent in made.commit.parents)
        state = MergeState(ours, theirs, [], theirs[:SHORT_HEX], made.commit.message, [])
        with ObjectWriter(self._repo.store) as writer:
            tree = Tree(kept.commit.root, kept.commit.links)
            shown = store_stash(writer, self._version(ours), tree, self._overlay.branch, self._author, state)
            writer.flush()
        return shown

    def _move_back(
        self, change: RefChange, reverse: Operation, base: Version | None
    ) -> tuple[Operation, list[Invalidation]]:
        """Moves a layer without changes to the version before: of an import or a merge that never was in it."""
        shown = base if base is not None else self._empty(change)
        reverse = _with_before(reverse, change.new)
        with self._overlay.lock:
            later = [item.path for item in self._overlay.changes()]
            if later:
                raise _would_lose_changes(later)
            return replace_layer(self._repo, self._overlay, reverse, base, shown)

    def _empty(self, change: RefChange) -> Version:
        """Returns a commit with nothing but the root directory that a first version has."""
        root = self._required(change.new).commit.root
        tree = Tree(msgspec.structs.replace(root, content=b"", tiny=b"", files=0, size=0), b"")
        with ObjectWriter(self._repo.store) as writer:
            kept = store_stash(writer, None, tree, self._overlay.branch, self._author, None)
            writer.flush()
        return kept

    def _version(self, digits: str) -> Version | None:
        return self._required(digits) if digits else None

    def _required(self, digits: str) -> Version:
        commit_id = CommitId(bytes.fromhex(digits))
        if self._repo.refs.is_forgotten(commit_id) or not self._repo.index.has(commit_id):
            raise Conflict(
                f"what there was before ({digits[:SHORT_HEX]}) is not kept any more",
                hint="It was forgotten, or a sweep took it after the time in which operations can be undone.",
            )
        return Version(commit_id, self._repo.store.get_commit(commit_id))


def _with_before(reverse: Operation, digits: str) -> Operation:
    """Returns an undo that names the commit (in hex) that the working layer shows before it."""
    assert reverse.layer is not None
    return msgspec.structs.replace(reverse, args=msgspec.structs.replace(reverse.layer, before=digits))


def _would_lose_changes(paths: list[bytes], *, in_merge: bool = False) -> Conflict:
    shown = ", ".join(show_path(path) or "." for path in paths[:_SHOWN_MAX])
    more = f" and {len(paths) - _SHOWN_MAX} more" if len(paths) > _SHOWN_MAX else ""
    hint = Hint(Advice.COMMIT_OR_DISCARD_THEN_UNDO)
    if in_merge:
        # Restoring would drop what was merged and go on with the merge.
        hint = Hint(Advice.ABORT_WHOLE_MERGE)
    return Conflict(f"uncommitted changes made since would be lost: {shown}{more}", hint=hint)
