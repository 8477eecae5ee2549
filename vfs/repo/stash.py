"""Stashes: a working layer's tree kept as a commit that is no version, compared with it, replaced by another one.

An operation that removes content of the working layer stashes it first, for undo (docs/durability.md, W12);
the operation's arguments name it (docs/format.md, "Operation log").
"""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec

from vfs.errors import Advice, Hint, NotADirectory, NotFound, VfsError
from vfs.history.diff import diff_trees
from vfs.history.merge_trees import Tree
from vfs.model.names import split_path
from vfs.model.objects import Commit, Entry, Version
from vfs.overlay.overlay import Overlay
from vfs.overlay.snapshot import snapshot
from vfs.overlay.state import Invalidation
from vfs.repo.merge_state import MergeState, drop_state, merge_state, save_state, stashed_state, state_meta
from vfs.repo.repository import Repository
from vfs.store.dry_run_sink import DryRunSink
from vfs.store.object_store import ObjectSink, ObjectSource
from vfs.store.object_writer import ObjectWriter
from vfs.store.refs.operation import Operation
from vfs.store.trees.content_writer import ContentWriter
from vfs.store.trees.directories import resolve_path


class NotReplaced(VfsError):
    """An operation has happened, and the working layer does not show it yet."""

    code = "not-replaced"


class Stash(NamedTuple):
    """A commit with a working layer's tree, and the layer's position (Overlay.position) at that moment."""

    version: Version
    position: tuple[int, int]


def stash_layer(repo: Repository, overlay: Overlay, author: str) -> Stash:
    """Stores a working layer's tree as a commit, durable on return; an unchanged layer gives its base version.

    Reads and stores what was changed, as a commit does; others go on writing meanwhile. The caller holds the write
    lock.
    """
    return stash_in_state(repo, overlay, author, merge_state(repo, overlay.branch))


def stash_in_state(repo: Repository, overlay: Overlay, author: str, state: MergeState | None) -> Stash:
    """Does the same for a layer whose merge state the caller knows (None: no merge is under way)."""
    with overlay.lock:
        if overlay.base is not None and state is None and overlay.is_clean():
            return Stash(overlay.base, overlay.position)
        frozen = overlay.freeze()
        position = overlay.position
    try:
        with ObjectWriter(repo.store) as writer:
            root, links = snapshot(frozen, writer, ContentWriter(writer, repo.config.ingest))
            kept = store_stash(writer, overlay.base, Tree(root, links), overlay.branch, author, state)
            writer.flush()
    finally:
        overlay.thaw(frozen)
    return Stash(kept, position)


def store_stash(
    sink: ObjectSink, base: Version | None, tree: Tree, branch: str, author: str, state: MergeState | None
) -> Version:
    """Stores a working layer's tree as a stash; `state`: of its unfinished merge, if any."""
    made = Commit(
        number=base.commit.number + 1 if base is not None else 1,
        parents=(base.id,) if base is not None else (),
        root=tree.root,
        links=tree.links,
        time_ns=time.time_ns(),
        author=author,
        message=f"working layer of {branch}",
        meta=tuple(sorted(state_meta(state))),
    )
    return Version(sink.put_commit(made), made)


def differing_paths(repo: Repository, overlay: Overlay, commit: Commit) -> tuple[list[bytes], tuple[int, int]]:
    """Returns the paths in which a working layer differs from a commit, times of directories apart, and its position.

    Reads what was changed; stores nothing. The caller holds the write lock.
    """
    with overlay.lock:
        if overlay.base is not None and overlay.is_clean():
            return _paths(repo.store, commit.root, overlay.base.commit.root), overlay.position
        frozen = overlay.freeze()
        position = overlay.position
    sink = DryRunSink(repo.store)
    try:
        root, _ = snapshot(frozen, sink, ContentWriter(sink, repo.config.ingest))
    finally:
        overlay.thaw(frozen)
    return _paths(sink, commit.root, root), position


def _paths(source: ObjectSource, old: Entry, new: Entry) -> list[bytes]:
    return [change.path for change in diff_trees(source, old, new)]


def replace_layer(
    repo: Repository, overlay: Overlay, operation: Operation, base: Version | None, shown: Version
) -> tuple[Operation, list[Invalidation]]:
    """Logs an operation and gives a working layer another base version and the tree of a commit.

    The layer's old content is gone, but for what the operation names as stashed; an unfinished merge ends, and one
    that the shown commit was kept in the middle of goes on. Appending to the log is the commit point; cut off after it,
    the next opening of the layer does the rest (docs/durability.md, W13). The caller holds the write lock and
    `overlay.lock`. Raises what `Refs.move` does, with nothing changed; NotReplaced where the disk failed after it.
    """
    branch = overlay.branch
    generation = overlay.begin_replacing()
    state = stashed_state(shown.commit)
    if state is not None:
        save_state(repo, branch, msgspec.structs.replace(state, generation=generation))
    assert operation.layer is not None
    args = msgspec.structs.replace(
        operation.layer, branch=branch, base=base.id.hex() if base is not None else "", after=shown.id.hex()
    )
    done = repo.refs.move(msgspec.structs.replace(operation, work=(branch, generation), args=args))
    try:
        stale = overlay.replace(base, shown.commit.root, shown.commit.links)
    except (OSError, VfsError) as error:
        why, advice = str(error), Advice.CHECK_AND_REMOUNT
        if isinstance(error, OSError):
            why, advice = error.strerror or why, Advice.MAKE_ROOM_AND_REMOUNT
        raise NotReplaced(
            f"the {operation.kind} is done, but the working layer could not follow: {why}",
            hint=Hint(advice),
        ) from error
    if state is None:
        drop_state(repo, branch)
    return done, stale


def make_parents(repo: Repository, overlay: Overlay, version: Version, path: bytes) -> list[Invalidation]:
    """Makes the directories that lead to a path where they are missing: as they are in a version, or like its root."""
    stale: list[Invalidation] = []
    names = split_path(path)[:-1]
    for end in range(1, len(names) + 1):
        above = b"/".join(names[:end])
        if overlay.find(above) is None:
            try:
                entry = resolve_path(repo.store, version.commit.root, above).entry
            except (NotFound, NotADirectory):
                entry = version.commit.root
            empty = msgspec.structs.replace(entry, name=names[end - 1], content=b"", tiny=b"", files=0, size=0)
            stale.extend(overlay.graft(above, empty))
    return stale
