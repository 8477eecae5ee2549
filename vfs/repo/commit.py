"""Making versions: the working layer's changes, or a tree that is stored already, become a branch's next version.

The order of what becomes durable is here and nowhere else (docs/durability.md): data packs, tree packs, index, then
one line in the operation log, which is the commit point: it moves the branch and names the generation of the working
layer's journal is now part of the version. Tables and the working layer follow and can be made good from the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from vfs.errors import Advice, Conflict, Hint, InvalidInput, NothingToDo, VfsError
from vfs.history.diff import diff_trees
from vfs.history.merge_trees import Tree
from vfs.model.ids import CommitId
from vfs.model.names import show_path
from vfs.model.objects import Commit, Entry, Version
from vfs.overlay.overlay import Overlay
from vfs.overlay.snapshot import Expecting, snapshot
from vfs.overlay.state import Invalidation
from vfs.repo.ignore_rules import Rules
from vfs.repo.merge_conflicts import require_resolved
from vfs.repo.merge_state import drop_state, merge_state, refuse_in_merge
from vfs.repo.partial_commit import Selected, Selection, select
from vfs.repo.repository import Repository
from vfs.repo.runs.made_by import naming_makers, writers_of_changes
from vfs.repo.status import has_changes
from vfs.store.object_store import ObjectSink, ObjectSource
from vfs.store.object_writer import ObjectWriter, Statistics
from vfs.store.progress_callbacks import FileProgress
from vfs.store.refs.operation import BRANCHES, Operation, RefChange
from vfs.store.refs.operation_args import CommitLogArgs, LogArgs
from vfs.store.trees.content_writer import ContentWriter

COMMIT_TIMEOUT_S = 600.0
"""How long a commit waits for another one: long ones exist, but the user should be informed."""


Meta = Sequence[tuple[str, str]]
"""Free pairs that a version keeps; each key once."""


class Committed(NamedTuple):
    """A durable version, what the kernel must look up again in the working layer, and what was stored."""

    version: Version
    stale: Sequence[Invalidation]
    statistics: Statistics


def commit(
    repo: Repository,
    overlay: Overlay,
    message: str,
    author: str,
    *,
    meta: Meta = (),
    allow_empty: bool = False,
    replaces: Version | None = None,
    asked_ns: int | None = None,
    selection: Selection | None = None,
    progress: FileProgress | None = None,
    expecting: Expecting | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Committed:
    """Commits the working layer, as it is at one moment, as its branch's next version; durable on return.

    Others go on writing meanwhile; what they write is uncommitted. On any failure there is no version, and the working
    layer has what it had. `selection`: what of it (None: all but what `.vfsignore` files name); the rest stays
    uncommitted. `replaces`: the newest version, whose place the new one takes under the same number
    (vfs/repo/describe.py says when that may be). In an unfinished merge the version is the merge: its second parent
    is what was merged, and an empty message stands for the merge's own. `asked_ns`: when the caller asked (Unix
    time); where another commit came since and has all changes, the error names it. Raises NothingToDo for a clean layer
    (unless `allow_empty`, or in a merge), UnresolvedConflicts, Busy, Conflict (Protected too), OSError.
    """
    branch = overlay.branch
    with repo.write_lock(timeout_s=COMMIT_TIMEOUT_S, waiting=waiting):
        repo.refs.require_movable(BRANCHES + branch)
        state = merge_state(repo, branch)
        merged = None
        if state is not None:
            if selection is not None and selection.paths:
                raise InvalidInput("a merge is committed as a whole", hint="Commit without naming paths.")
            require_resolved(overlay, state)
            merged = Version(state.theirs_id, repo.store.get_commit(state.theirs_id))
            message, allow_empty = message or state.message, True
        parent = repo.head(branch)
        if overlay.is_clean() and not allow_empty:
            raise nothing_to_commit(parent, asked_ns)
        require_on_head(repo, overlay, parent)
        if replaces is not None and (parent is None or parent.id != replaces.id):
            raise Conflict("the branch has a newer version by now", hint=Hint(Advice.SEE_NEWEST_VERSION))
        frozen = overlay.freeze()
        try:
            with ObjectWriter(repo.store) as writer:
                content = ContentWriter(writer, repo.config.ingest)
                shown = Tree(*snapshot(frozen, writer, content, progress, expecting))
                chosen = _choose(writer, parent, shown, selection)
                version = same = None if allow_empty else _same_version(writer, parent, chosen)
                if version is None:
                    above = _parents(repo, replaces) if replaces is not None else [parent, merged]
                    wrote = writers_of_changes(repo, branch, selection.paths if selection is not None else ())
                    pairs = naming_makers(repo, meta, wrote)
                    version = put_commit(writer, above[0], *chosen.tree, message, author, pairs, above[1])
                whole = _put_whole(writer, parent, version, shown, branch, author)
                writer.flush()
                statistics = writer.statistics
            if same is None:
                kind = "amend" if replaces is not None else "commit" if merged is None else "merge"
                move_branch(repo, version, parent, kind, branch, (branch, frozen.generation), whole)
        except BaseException:
            overlay.thaw(frozen)
            raise
        if state is not None:
            drop_state(repo, branch)
        # Also where files have the bytes and times that they had: they are no changes any more.
        overlay.complete(frozen, version, whole)
        if same is not None:
            raise nothing_to_commit(same, asked_ns)
        return Committed(version, (), statistics)


def _choose(sink: ObjectSink, parent: Version | None, shown: Tree, selection: Selection | None) -> Selected:
    wanted = selection if selection is not None else Selection(Rules())
    old = Tree(parent.commit.root, parent.commit.links) if parent is not None else None
    wanted.require_paths(sink, [shown.root, *([old.root] if old is not None else [])])
    return select(sink, old, shown, wanted)


def _same_version(source: ObjectSource, parent: Version | None, chosen: Selected) -> Version | None:
    """Returns the newest version if another one would change nothing but times of directories."""
    if parent is None or parent.commit.links != chosen.tree.links:
        return None
    return parent if next(diff_trees(source, parent.commit.root, chosen.tree.root), None) is None else None


def _put_whole(
    sink: ObjectSink, parent: Version | None, version: Version, shown: Tree, branch: str, author: str
) -> Version | None:
    """Stores the working layer's whole tree as a commit that is no version, if the version has less; it becomes the
    layer's base."""
    if is_same(version.commit, *shown):
        return None
    return put_commit(sink, parent, shown.root, shown.links, f"working layer of {branch}", author)


def _parents(repo: Repository, version: Version) -> list[Version | None]:
    """Returns a version's two parents, None for one that it lacks."""
    found: list[Version | None] = [
        Version(CommitId(parent), repo.store.get_commit(CommitId(parent))) for parent in version.commit.parents
    ]
    return [*found, None, None][:2]


def require_on_head(repo: Repository, overlay: Overlay, parent: Version | None) -> None:
    """Refuses to commit a working layer that is behind the branch's head: the commit would undo the head.

    That can only be where the last step of an import failed after the version was made.
    """
    base = overlay.base.id if overlay.base is not None else None
    wanted = parent.id if parent is not None else None
    if base != wanted:
        raise Conflict(
            "the working layer does not stand on the branch's newest version yet",
            hint=Hint(Advice.COPY_AND_DISCARD),
        )


def publish(
    repo: Repository,
    overlay: Overlay,
    commit_id: CommitId,
    expected: CommitId | None,
    *,
    kind: str = "import",
) -> Committed:
    """Makes a commit that is stored already its branch's newest version, and the clean working layer stand on it.

    Where a run's program asks, the version is another commit, which names the run. `expected` is the branch's head
    that the commit was made on. Raises Conflict where the branch or the working layer
    has changed meanwhile; then nothing has happened. An OSError of the last step leaves the version made: the working
    layer then follows when it is opened the next time without changes, and cannot be committed before.
    """
    branch = overlay.branch
    version = Version(commit_id, repo.store.get_commit(commit_id))
    with repo.write_lock(timeout_s=COMMIT_TIMEOUT_S):
        parent = repo.head(branch)
        if (parent.id if parent is not None else None) != expected:
            raise Conflict("the branch has a newer version by now", hint=f"Run the {kind} again; it will be quick.")
        refuse_in_merge(repo, branch, f"no {kind} now")
        version = _named(repo, version)
        # No other process can write between the check and the move.
        with overlay.lock:
            require_clean(overlay, kind)
            move_branch(repo, version, parent, kind, branch, None)
            return Committed(version, overlay.set_base(version), Statistics())


def _named(repo: Repository, version: Version) -> Version:
    """Returns a version, or the same one with the run whose program makes it; stored."""
    made = msgspec.structs.replace(version.commit, meta=tuple(sorted(naming_makers(repo, version.commit.meta))))
    if made == version.commit:
        return version
    with ObjectWriter(repo.store) as writer:
        named = Version(writer.put_commit(made), made)
        writer.flush()
    return named


def require_clean(overlay: Overlay, what: str = "import") -> None:
    """Raises Conflict where the working layer has uncommitted changes."""
    if not overlay.is_clean():
        raise uncommitted_changes(what, only_ignored=not has_changes(overlay))


def uncommitted_changes(what: str, *, only_ignored: bool) -> Conflict:
    """Returns the error for a working layer whose changes an operation would replace."""
    if only_ignored:
        return Conflict(
            f"the working layer has files that ignore rules name, which the {what} would remove",
            hint=Hint(Advice.LIST_IGNORED),
        )
    return Conflict(
        f"the working layer has uncommitted changes, which the {what} would replace",
        hint=Hint(Advice.COMMIT_OR_DISCARD),
    )


def put_commit(
    sink: ObjectSink,
    parent: Version | None,
    root: Entry,
    links: bytes,
    message: str,
    author: str,
    meta: Meta = (),
    merged: Version | None = None,
    made_ns: int | None = None,
) -> Version:
    """Stores the commit of a stored tree; it is no version before a branch moves to it. `merged`: a second parent.

    `made_ns`: when it was made elsewhere (Unix time), else it is made now.
    """
    parents = [version for version in (parent, merged) if version is not None]
    # Times never go back along a branch, whatever the clock does: versions are found by time. A merge is later than
    # both of its parents, so that the order of times is one of descent (vfs/history/merge_bases.py).
    later_ns = max((version.commit.time_ns for version in parents), default=0) + (len(parents) > 1)
    now_ns = time.time_ns()
    made = Commit(
        number=parent.commit.number + 1 if parent is not None else 1,
        parents=tuple(version.id for version in parents),
        root=root,
        links=links,
        time_ns=max(now_ns if made_ns is None else min(made_ns, now_ns), later_ns),
        author=author,
        message=message,
        meta=tuple(sorted(meta)),
    )
    return Version(sink.put_commit(made), made)


def move_branch(
    repo: Repository,
    version: Version,
    parent: Version | None,
    kind: str,
    branch: str,
    work: tuple[str, int] | None,
    whole: Version | None = None,
) -> None:
    """Appends the operation that makes a durable commit a version. After an error nothing has happened.

    `whole`: the commit that has all of the working layer, where the version leaves something out. The caller holds the
    write lock.
    """
    change = RefChange(BRANCHES + branch, parent.id.hex() if parent is not None else "", version.id.hex())
    made = version.commit
    operation = Operation(
        time_ns=max(made.time_ns, time.time_ns()),
        kind=kind,
        author=made.author,
        message=made.message,
        refs=(change,),
        work=work,
        args=CommitLogArgs(whole=whole.id.hex()) if whole is not None else LogArgs(),
    )
    try:
        repo.refs.move(operation)
    except BaseException:
        # An interrupt may strike when the line is in the log already: then the version exists.
        if not _has_moved(repo, version, branch):
            raise


def is_same(old: Commit, root: Entry, links: bytes) -> bool:
    """Returns True if a tree is the one that a commit has."""
    return old.root == root and old.links == links


def nothing_to_commit(newest: Version | None, asked_ns: int | None = None) -> NothingToDo:
    """Returns the error for a tree without a change; the caller asked for a commit at `asked_ns` (Unix time)."""
    if newest is None:
        return NothingToDo(
            "there is nothing to commit: the working layer is empty, and there is no version yet",
            hint=Hint(Advice.ADD_DATA),
        )
    first_line = newest.commit.message.partition("\n")[0]
    words = show_path(f"{newest.name} ({newest.commit.author}: {first_line})".encode("utf-8", "surrogateescape"))
    if asked_ns is not None and asked_ns <= newest.commit.time_ns <= time.time_ns():
        return NothingToDo(
            f"{words} was committed meanwhile and has all changes, yours too",
            hint=Hint(Advice.SHOW_OR_DESCRIBE, {"version": newest.name}),
        )
    return NothingToDo(f"nothing has changed since the last version, {words}")


def _has_moved(repo: Repository, version: Version, branch: str) -> bool:
    try:
        return repo.refs.get(BRANCHES + branch) == version.id
    except (OSError, VfsError):
        return False
