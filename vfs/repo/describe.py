"""`describe` and `amend`: change a version's message and metadata after it was made.

A commit's id is the hash of its fields, so a commit never changes. A later message or metadata is a note beside it,
in the operation log; every output shows a version with its note.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from vfs.errors import Advice, Conflict, Hint, InvalidInput, NothingToDo
from vfs.history.merge_bases import is_ancestor
from vfs.model.objects import Version
from vfs.overlay.overlay import Overlay
from vfs.overlay.state import Invalidation
from vfs.repo.commit import COMMIT_TIMEOUT_S, commit
from vfs.repo.merge_state import refuse_in_merge
from vfs.repo.notes import described
from vfs.repo.repository import Repository
from vfs.repo.status import has_changes
from vfs.store.refs.operation import BRANCHES, Note, NoteChange, Operation
from vfs.store.refs.operation_args import DescribeLogArgs

OWN_META = "vfs."
"""Keys of metadata that begin so are the program's own."""
_KEY_CHARACTERS_MAX = 100


class Amended(NamedTuple):
    """The version as it is now: the same one with other words, or a new one in its place."""

    version: Version
    stale: list[Invalidation]


def check_meta(pairs: Mapping[str, str]) -> None:
    """Raises InvalidInput for a key that metadata cannot have."""
    for key in pairs:
        if not key or len(key) > _KEY_CHARACTERS_MAX or not key.isprintable() or "=" in key or " " in key:
            raise InvalidInput(f"{key!r} cannot be a key of metadata", hint="Write pairs as `acc=0.93`.")
        if key.startswith(OWN_META):
            raise InvalidInput(f"{key!r}: keys that begin with `{OWN_META}` are the program's own")


def describe(
    repo: Repository, version: Version, author: str, message: str | None = None, meta: Mapping[str, str] | None = None
) -> Version:
    """Replaces a version's message (None: keeps it) and adds metadata; an empty value removes a key.

    Nothing of the data is touched; the id stays. Raises NothingToDo where that changes nothing, InvalidInput.
    """
    check_meta(meta or {})
    with repo.write_lock():
        return _describe(repo, version, author, message, meta or {})


def amend(
    repo: Repository,
    overlay: Overlay,
    author: str,
    message: str | None = None,
    meta: Mapping[str, str] | None = None,
) -> Amended:
    """Replaces the message or metadata of the newest version, and adds the uncommitted changes to it.

    Without uncommitted changes it is `describe`. With some, another commit takes the version's place under its number;
    what it was stays reachable by its id, and `undo` goes back to it. Raises Conflict where a tag or another branch
    has the version, or a merge is unfinished, NothingToDo.
    """
    check_meta(meta or {})
    branch = overlay.branch
    with repo.write_lock(timeout_s=COMMIT_TIMEOUT_S):
        refuse_in_merge(repo, branch, "nothing is amended")
        head = repo.head(branch)
        if head is None:
            raise NothingToDo("there is no version yet", hint=Hint(Advice.COMMIT_MAKES_ONE))
        if not has_changes(overlay):
            return Amended(_describe(repo, head, author, message, meta or {}), [])
        _require_alone(repo, head, branch)
        words = described(repo, head).commit
    pairs = _changed(dict(words.meta), meta or {})
    done = commit(
        repo,
        overlay,
        words.message if message is None else message,
        author,
        meta=tuple(pairs.items()),
        replaces=head,
    )
    return Amended(done.version, list(done.stale))


def _describe(repo: Repository, version: Version, author: str, message: str | None, meta: Mapping[str, str]) -> Version:
    old = repo.refs.note(version.id)
    before = described(repo, version).commit
    pairs = _changed(dict(before.meta), meta)
    text = before.message if message is None else message
    if (text, pairs) == (before.message, dict(before.meta)):
        raise NothingToDo(f"{version.name} says that already")
    made = version.commit
    new = Note(text if text != made.message else None, pairs if pairs != dict(made.meta) else None)
    change = NoteChange(version.id.hex(), old, new if new != Note() else None)
    args = DescribeLogArgs(version=version.name)
    repo.refs.move(Operation(time_ns=time.time_ns(), kind="describe", author=author, notes=(change,), args=args))
    return described(repo, version)


def _changed(old: dict[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in {**old, **changes}.items() if value}


def _require_alone(repo: Repository, head: Version, branch: str) -> None:
    """Refuses to replace a version that other refs lead to: they would keep the old one."""
    for name, commit_id in repo.refs.list():
        if name == BRANCHES + branch:
            continue
        if commit_id == head.id or (name.startswith(BRANCHES) and is_ancestor(repo.store, head.id, commit_id)):
            kind, _, short = name.partition("/")
            raise Conflict(
                f"{head.name} is part of the {'branch' if kind == 'branches' else 'tag'} {short!r}",
                hint="Commit the changes as a version of their own.",
            )
