"""Branches: made, listed, renamed, removed; which one is current. Every change is one line of the operation log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from vfs.errors import Advice, AlreadyExists, Conflict, Hint, InvalidInput, NotFound
from vfs.history.revision import check_ref_name
from vfs.history.walk import only_from
from vfs.model.ids import CommitId
from vfs.model.names import BRANCH_NAME_BYTES_MAX, ref_name_fault, show_path
from vfs.model.objects import Version
from vfs.repo.protection import protected
from vfs.repo.repository import Repository
from vfs.store.refs.operation import BRANCHES, CURRENT, REMOTE_REFS, TAGS, Operation, RefChange, SettingChange

_REMOVED = ".removed-"
_LOST_MAX = 1000
COUNTED_MAX = 10_000
_SHOWN_MAX = 3


class Branch(NamedTuple):
    """A branch and its newest version, None before the first."""

    name: str
    head: CommitId | None
    is_current: bool
    is_protected: bool


def list_branches(repo: Repository) -> list[Branch]:
    """Returns all branches by name, the current one also before its first version. The cost follows their number."""
    current, kept = repo.current_branch, protected(repo, BRANCHES)
    heads: dict[str, CommitId | None] = {current: None}
    heads.update((name.removeprefix(BRANCHES), head) for name, head in repo.refs.list(BRANCHES))
    return [Branch(name, heads[name], name == current, name in kept) for name in sorted(heads)]


class Tracked(NamedTuple):
    """A branch of a remote, `REMOTE/BRANCH`, as it was last seen.

    `ahead` versions are in the branch of the same name here alone, `behind` there alone; COUNTED_MAX or more are that.
    """

    name: str
    ahead: int
    behind: int


def list_remote_branches(repo: Repository) -> list[Branch]:
    """Returns the branches of all remotes as they were last seen, named `REMOTE/BRANCH`."""
    return [Branch(ref.removeprefix(REMOTE_REFS), at, False, False) for ref, at in repo.refs.list(REMOTE_REFS)]


def tracked(repo: Repository, branch: str) -> list[Tracked]:
    """Returns where a branch is at each remote. The cost follows the versions that only one side has."""
    head = repo.refs.get(BRANCHES + branch)
    found = []
    for ref, there in repo.refs.list(REMOTE_REFS):
        name = ref.removeprefix(REMOTE_REFS)
        if name.partition("/")[2] != branch or not repo.index.has(there):
            continue
        ahead = _count_alone(repo, head, there) if head is not None else 0
        found.append(Tracked(name, ahead, _count_alone(repo, there, head)))
    return found


def _count_alone(repo: Repository, start: CommitId, other: CommitId | None) -> int:
    versions = only_from(repo.store, start, [other] if other is not None else [])
    return sum(1 for _ in islice(versions, COUNTED_MAX))


def create_branch(repo: Repository, name: str, version: Version, *, author: str) -> None:
    """Makes a branch whose newest version is a given one; the cost follows neither the data nor the history.

    Raises InvalidInput for a name with another meaning, AlreadyExists for a branch or tag of it.
    """
    _check_name(name)
    with repo.write_lock():
        _require_free(repo, name)
        # A crash while a branch of this name was removed may have left its layer.
        remove_layer(repo, name)
        _move(repo, "branch", author, (RefChange(BRANCHES + name, "", version.id.hex()),))


def delete_branch(repo: Repository, name: str, *, author: str, force: bool = False) -> CommitId:
    """Removes a branch with its working layer and returns what its newest version was.

    Raises Conflict where uncommitted changes, or versions that no other name leads to, would be lost, unless `force`;
    Conflict for the current branch and a protected one, Busy while another process uses its working layer, NotFound.
    """
    if name == repo.current_branch:
        raise Conflict(f"{name!r} is the current branch", hint=Hint(Advice.SWITCH_FIRST))
    with repo.write_lock(), closed_layer(repo, name) as uncommitted:
        head = _head(repo, name)
        repo.refs.require_movable(BRANCHES + name)
        if not force:
            lost = [*shown_uncommitted(uncommitted), *_only_here(repo, name, head)]
            if lost:
                raise Conflict(
                    f"removing the branch {name!r} would lose {' and '.join(lost)}",
                    hint="Commit or merge what you need, or tag the version; --force removes it all the same.",
                )
        _move(repo, "unbranch", author, (RefChange(BRANCHES + name, head.hex(), ""),))
        remove_layer(repo, name)
    return head


def rename_branch(repo: Repository, name: str, new_name: str, *, author: str) -> None:
    """Renames a branch.

    Raises Conflict where it has uncommitted changes (inode numbers and the journal are the name's), or is protected;
    Busy while another process uses its working layer; what `create_branch` raises of the new name.
    """
    _check_name(new_name)
    with repo.write_lock(), closed_layer(repo, name) as uncommitted:
        head = _head(repo, name)
        _require_free(repo, new_name)
        repo.refs.require_movable(BRANCHES + name)
        if uncommitted:
            raise Conflict(
                f"the branch {name!r} has {' and '.join(shown_uncommitted(uncommitted))}",
                hint=Hint(Advice.COMMIT_OR_DISCARD),
            )
        remove_layer(repo, new_name)
        refs = (RefChange(BRANCHES + name, head.hex(), ""), RefChange(BRANCHES + new_name, "", head.hex()))
        settings: tuple[SettingChange, ...] = ()
        if name == repo.current_branch:
            settings = (SettingChange(CURRENT, repo.refs.setting(CURRENT), new_name),)
        _move(repo, "rename-branch", author, refs, settings)
        remove_layer(repo, name)


def set_current_branch(repo: Repository, name: str, *, author: str) -> bool:
    """Makes a branch the current one; returns False where it is already. Raises NotFound.

    This is what a mount shows that is made later. One that is there must be told: see `switch_working` in vfs/cli/.
    """
    with repo.write_lock():
        repo.require_branch(name)
        if name == repo.current_branch:
            return False
        _move(repo, "switch", author, (), (SettingChange(CURRENT, repo.refs.setting(CURRENT), name),))
    return True


def _check_name(name: str) -> None:
    check_ref_name(name)
    fault = ref_name_fault(name, BRANCH_NAME_BYTES_MAX)
    if fault:
        raise InvalidInput(f"{name!r} cannot be a branch: {fault}", hint="Choose a name like `relabel`.")


def _require_free(repo: Repository, name: str) -> None:
    if repo.refs.get(BRANCHES + name) is not None:
        raise AlreadyExists(f"the branch {name!r} exists", hint=Hint(Advice.SWITCH_TO, {"branch": name}))
    if name == repo.current_branch:
        raise AlreadyExists(
            f"{name!r} is the current branch and has no version yet", hint=Hint(Advice.COMMIT_MAKES_ONE)
        )
    if repo.refs.get(TAGS + name) is not None:
        raise AlreadyExists(f"{name!r} is a tag", hint="Choose another name.")


def _head(repo: Repository, name: str) -> CommitId:
    head = repo.refs.get(BRANCHES + name)
    if head is None:
        raise NotFound(f"there is no branch {name!r} with a version", hint=Hint(Advice.LIST_BRANCHES))
    return head


@contextmanager
def closed_layer(repo: Repository, name: str) -> Iterator[list[bytes]]:
    """Locks a branch's working layer, and gives the first paths that are not committed."""
    _head(repo, name)
    if not repo.work_path(name).is_dir():
        yield []
        return
    with repo.open_overlay(name) as overlay:
        # Opening it has finished interrupted operations; closing it writes to files that may be gone by then.
        yield [change.path for change in islice(overlay.changes(), _SHOWN_MAX + 1)]


def shown_uncommitted(paths: list[bytes]) -> list[str]:
    """Returns words for the first paths that are not committed; nothing where there are none."""
    if not paths:
        return []
    more = ", …" if len(paths) > _SHOWN_MAX else ""
    return [f"uncommitted changes ({', '.join(show_path(path) or '.' for path in paths[:_SHOWN_MAX])}{more})"]


def _only_here(repo: Repository, name: str, head: CommitId) -> list[str]:
    others = [commit_id for ref, commit_id in repo.refs.list() if ref != BRANCHES + name]
    versions = list(islice(only_from(repo.store, head, others), _LOST_MAX))
    if not versions:
        return []
    count = "1 version" if len(versions) == 1 else f"{len(versions)} versions"
    more = " or more" if len(versions) == _LOST_MAX else ""
    return [f"{count}{more} that no other name leads to (up to {versions[0].name} {repo.describe(versions[0].id)})"]


def remove_layer(repo: Repository, name: str) -> None:
    """Removes a branch's working layer; it is there as a whole, or not at all, whenever the process dies."""
    if repo.work_path(name).is_dir():
        repo.work_path(name).rename(repo.work / f"{_REMOVED}{name}-{time.time_ns()}")
    for path in repo.work.glob(f"{_REMOVED}*"):
        path.remove_directory()


def _move(
    repo: Repository,
    kind: str,
    author: str,
    refs: tuple[RefChange, ...],
    settings: tuple[SettingChange, ...] = (),
) -> None:
    repo.refs.move(Operation(kind=kind, time_ns=time.time_ns(), author=author, refs=refs, settings=settings))
