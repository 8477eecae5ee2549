"""Pull: moves the branch to the remote's head, and puts versions that the remote lacks after it.

The published side is the first parent of the merge, or what a rebase builds on: no number that others have seen
changes. Moving the branch and merging are two operations; between them a setting names the versions that are still to
be merged, so that the next pull continues one that was interrupted, or whose merge was aborted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vfs.errors import Advice, Conflict, Hint
from vfs.history.merge_bases import is_ancestor, merge_bases
from vfs.history.merge_contents import ContentMerge
from vfs.history.merge_lines import Labels
from vfs.history.merge_trees import Tree, merge_trees
from vfs.history.walk import ancestors
from vfs.model.ids import SHORT_HEX, CommitId
from vfs.model.names import show_path
from vfs.model.objects import Version
from vfs.overlay.overlay import Overlay
from vfs.overlay.state import Invalidation
from vfs.repo.commit import COMMIT_TIMEOUT_S, put_commit, require_clean, require_on_head
from vfs.repo.merge_state import refuse_in_merge
from vfs.repo.repository import Repository
from vfs.repo.retention.replaced_commits import newest_of, replaced_commits
from vfs.repo.runs.made_by import naming_makers
from vfs.store.dry_run_sink import DryRunSink
from vfs.store.object_writer import ObjectWriter
from vfs.store.refs.operation import BRANCHES, PULLED, Operation, RefChange, SettingChange
from vfs.store.trees.content_writer import ContentWriter

PULL = "pull"
"""The kind of the operation that moves a branch to where a remote's is."""


class Advanced(NamedTuple):
    """What a pull did before any merge. `own`: the versions that are now to be merged (None: none).

    `before` and `after` are the branch's newest versions; they are the same where there was nothing to do.
    """

    before: Version | None
    after: Version | None
    own: Version | None
    stale: Sequence[Invalidation] = ()


def advance(repo: Repository, overlay: Overlay, theirs: Version, author: str, *, rebase: bool = False) -> Advanced:
    """Moves a clean working layer's branch to the remote's newest version, or past it by a rebase.

    Raises Conflict where there are uncommitted changes, or a merge is unfinished, or a rebase has conflicts; Protected,
    Busy, OSError. Then nothing has happened.
    """
    branch = overlay.branch
    with repo.write_lock(timeout_s=COMMIT_TIMEOUT_S):
        refuse_in_merge(repo, branch, "no pull now")
        before = repo.head(branch)
        own = waiting(repo, branch, before)
        if before is not None and is_ancestor(repo.store, theirs.id, before.id):
            if own is None or is_ancestor(repo.store, own.id, before.id):
                return Advanced(before, before, None)
            return Advanced(before, before, own)
        require_clean(overlay, PULL)
        require_on_head(repo, overlay, before)
        if before is not None and not is_ancestor(repo.store, before.id, theirs.id):
            if own is not None and not is_ancestor(repo.store, own.id, before.id):
                raise Conflict(
                    f"an earlier pull has left {own.name} ({own.id.hex()[:SHORT_HEX]}) to be merged",
                    hint="Merge it first, by its id; then pull again.",
                )
            own = before
        replaced = replaced_commits(repo.refs)
        if replaced:
            own = _without_purged(repo, own, theirs, replaced, rebase=rebase)
        after = theirs
        if rebase and own is not None:
            after, own = _rebased(repo, own, theirs, author, replaced), None
        stale = _move(repo, overlay, before, after, own, author)
        return Advanced(before, after, own, stale)


def _without_purged(
    repo: Repository, own: Version | None, theirs: Version, replaced: Mapping[str, str], *, rebase: bool
) -> Version | None:
    """Returns the own versions that are still to be merged; none where a purge has put the remote's in their place.

    Raises Conflict where the pull would restore purged versions.
    """
    if any(version.id.hex() in replaced for version in ancestors(repo.store, [theirs.id])):
        raise Conflict("the remote's versions stand on some that were purged here", hint=Hint(Advice.PUSH_PURGE))
    if own is None:
        return None
    if own.id.hex() in replaced:
        made = newest_of(replaced, own.id)
        if repo.index.has(made) and is_ancestor(repo.store, made, theirs.id):
            return None
    if not rebase and any(version.id.hex() in replaced for version in ancestors(repo.store, [own.id])):
        raise Conflict(
            f"your {own.name} stands on versions that were purged at the remote", hint=Hint(Advice.PULL_PURGED)
        )
    return own


def finish(repo: Repository, branch: str, author: str) -> None:
    """Notes that nothing is left to be merged, where the branch has all of it."""
    head = repo.head(branch)
    own = waiting(repo, branch, head)
    if own is not None and head is not None and is_ancestor(repo.store, own.id, head.id):
        with repo.write_lock():
            change = SettingChange(PULLED + branch, own.id.hex(), "")
            repo.refs.move(Operation(time_ns=time.time_ns(), kind="pulled", author=author, settings=(change,)))


def waiting(repo: Repository, branch: str, head: Version | None) -> Version | None:
    """Returns the versions that an earlier pull has left to be merged."""
    text = repo.refs.setting(PULLED + branch)
    commit_id = CommitId(bytes.fromhex(text)) if text else None
    if commit_id is None or head is None or not repo.index.has(commit_id) or repo.refs.is_forgotten(commit_id):
        return None
    return Version(commit_id, repo.store.get_commit(commit_id))


def _move(
    repo: Repository, overlay: Overlay, before: Version | None, after: Version, own: Version | None, author: str
) -> list[Invalidation]:
    branch = overlay.branch
    ref = RefChange(BRANCHES + branch, before.id.hex() if before is not None else "", after.id.hex())
    old, new = repo.refs.setting(PULLED + branch), own.id.hex() if own is not None else ""
    settings = (SettingChange(PULLED + branch, old, new),) if old != new else ()
    with overlay.lock:
        require_clean(overlay, PULL)
        repo.refs.move(Operation(time_ns=time.time_ns(), kind=PULL, author=author, refs=(ref,), settings=settings))
        return overlay.set_base(after)


def _rebased(repo: Repository, own: Version, theirs: Version, author: str, replaced: Mapping[str, str]) -> Version:
    """Stores the own versions again, each on the one before, from the remote's newest on; returns the last.

    Raises Conflict where one cannot be put there without a decision.
    """
    bases = merge_bases(repo.store, own.id, theirs.id)
    line: list[Version] = []
    below = {base.id for base in bases}
    current: Version | None = own
    while current is not None and current.id not in below and current.id.hex() not in replaced:
        line.append(current)
        parents = current.commit.parents
        if len(parents) > 1:
            raise Conflict(
                f"{current.name} is a merge, which a rebase cannot put elsewhere", hint="Pull without --rebase."
            )
        current = _version(repo, parents[0]) if parents else None
    with ObjectWriter(repo.store) as writer:
        tip = theirs
        for version in reversed(line):
            parents = version.commit.parents
            labels = Labels(f"ours ({tip.name})", "base", f"theirs ({version.name})")
            scratch = DryRunSink(writer)
            merged = merge_trees(
                scratch,
                Tree.of(repo.store.get_commit(CommitId(parents[0])) if parents else None),
                Tree.of(tip.commit),
                Tree.of(version.commit),
                ContentMerge(ContentWriter(writer, repo.config.ingest), labels, []),
                prefer=lambda _path: None,
                progress=None,
            )
            if merged.conflicts:
                paths = ", ".join(show_path(conflict.path) for conflict in merged.conflicts[:3])
                raise Conflict(
                    f"{version.name} and the remote's versions both changed {paths}",
                    hint="Pull without --rebase: the merge shows the conflicts.",
                )
            root = merged.tree.root
            scratch.store(writer, root.content, root.tiny, merged.tree.links)
            made = version.commit
            pairs = naming_makers(repo, made.meta)
            tip = put_commit(writer, tip, root, merged.tree.links, made.message, made.author or author, pairs)
        writer.flush()
    return tip


def _version(repo: Repository, commit_id: bytes) -> Version:
    return Version(CommitId(commit_id), repo.store.get_commit(CommitId(commit_id)))
