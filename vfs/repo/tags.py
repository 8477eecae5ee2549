"""`tag`: names for versions that people choose."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from vfs.errors import Advice, AlreadyExists, Hint, NotFound
from vfs.history.revision import check_ref_name
from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.repo.repository import Repository
from vfs.store.refs.operation import BRANCHES, TAGS, Operation, RefChange


class Tag(NamedTuple):
    """A tag and the commit that it names."""

    name: str
    commit_id: CommitId


def list_tags(repo: Repository) -> Iterator[Tag]:
    """Yields all tags by name."""
    for name, commit_id in repo.refs.list(TAGS):
        yield Tag(name.removeprefix(TAGS), commit_id)


def create_tag(repo: Repository, name: str, version: Version, *, author: str, replace: bool = False) -> Tag:
    """Names a version. Raises InvalidInput for a name with another meaning, AlreadyExists for a tag or branch of it."""
    check_ref_name(name)
    if repo.refs.get(BRANCHES + name) is not None:
        raise AlreadyExists(f"{name!r} is a branch", hint="Choose another name.")
    with repo.write_lock():
        old = repo.refs.get(TAGS + name)
        if old is not None and not replace:
            raise AlreadyExists(
                f"the tag {name!r} exists: it names {repo.describe(old)}", hint="Delete it first, or use --force."
            )
        _move(repo, "tag", name, old, version.id, author)
    return Tag(name, version.id)


def delete_tag(repo: Repository, name: str, *, author: str) -> Tag:
    """Removes a tag and returns what it was; the version stays. Raises NotFound."""
    with repo.write_lock():
        old = repo.refs.get(TAGS + name)
        if old is None:
            raise NotFound(f"there is no tag {name!r}", hint=Hint(Advice.LIST_TAGS))
        _move(repo, "untag", name, old, None, author)
    return Tag(name, old)


def _move(repo: Repository, kind: str, name: str, old: CommitId | None, new: CommitId | None, author: str) -> None:
    change = RefChange(TAGS + name, _hex(old), _hex(new))
    repo.refs.move(Operation(kind=kind, time_ns=time.time_ns(), author=author, refs=(change,)))


def _hex(commit_id: CommitId | None) -> str:
    return "" if commit_id is None else commit_id.hex()
