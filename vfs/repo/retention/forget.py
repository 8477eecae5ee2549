"""`forget`: removes versions for good. Their numbers and ids stay in use, and the history still shows them.

The line in the operation log is the commit point (docs/durability.md, G7); the sweep that follows removes the content
(vfs/repo/retention/gc.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from vfs.errors import Advice, Hint, NotPermitted
from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.overlay.object_references import layers, references
from vfs.repo.repository import Repository
from vfs.store.refs.operation import BRANCHES, TAGS, Operation, RefChange
from vfs.store.refs.operation_args import ForgetLogArgs
from vfs.store.refs.refs import FORGET

_COMMITS_IN_LINE = 4000
"""Ids in one line of the log: a quarter of a megabyte."""


def forget_commits(
    repo: Repository,
    versions: Sequence[Version],
    *,
    author: str,
    reason: str,
    refs: Sequence[RefChange] = (),
) -> None:
    """Appends the operations that forget commits and move refs; the caller holds the write lock."""
    for start in range(0, len(versions), _COMMITS_IN_LINE):
        part = versions[start : start + _COMMITS_IN_LINE]
        names = f"{part[0].name} to {part[-1].name}" if len(part) > 1 else part[0].name
        commits = tuple(version.id.hex() for version in part)
        args = ForgetLogArgs(commits=commits, versions=names, count=len(part), reason=reason)
        moved, refs = tuple(refs), ()
        repo.refs.move(Operation(time_ns=time.time_ns(), kind=FORGET, author=author, refs=moved, args=args))


def tags_to_remove(repo: Repository, versions: Sequence[Version], *, with_tags: bool) -> list[RefChange]:
    """Returns the changes that remove the tags of versions that are to be forgotten.

    Raises NotPermitted for a branch's newest version, one that a working layer stands on and, unless `with_tags`, one
    that has a tag.
    """
    names = {version.id: version.name for version in versions}
    for name, commit_id in repo.refs.list(BRANCHES):
        if commit_id in names:
            raise NotPermitted(
                f"{names[commit_id]} is the newest version of the branch {name.removeprefix(BRANCHES)}",
                hint="Commit something else first, or name an older version.",
            )
    for directory in layers(repo.work):
        base = references(directory).base
        if base in names:
            raise NotPermitted(
                f"the working layer of the branch {directory.name} stands on {names[base]}",
                hint=Hint(Advice.COMMIT_OR_DISCARD_ITS_CHANGES),
            )
    tags = [RefChange(name, commit_id.hex(), "") for name, commit_id in repo.refs.list(TAGS) if commit_id in names]
    if tags and not with_tags:
        raise NotPermitted(
            f"the tag {tags[0].name.removeprefix(TAGS)} names {names[CommitId(bytes.fromhex(tags[0].old))]}",
            hint="Name --with-tags to remove the tag too.",
        )
    return tags
