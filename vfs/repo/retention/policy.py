"""Retention policy: what a sweep keeps (refs, working layers, undoable operations), and which versions it may remove.

Rules and reasons: decision 60.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import msgspec

from vfs.errors import Corrupt
from vfs.history.walk import first_parents
from vfs.model.ids import CommitId
from vfs.model.objects import Entry, Version
from vfs.overlay.object_references import layers, references
from vfs.repo.merge_state import merge_state
from vfs.repo.repository import Repository
from vfs.store.refs.operation import BRANCHES, TAGS, Operation, SettingChange, commits_of
from vfs.store.refs.refs import FORGET, PURGE

_NS = 1_000_000_000
_SETTING = "keep"
"""The setting that remembers rules, as `last=20 monthly=12`."""


class Rules(msgspec.Struct, frozen=True):
    """Retention rules: which versions of each branch are kept; all zero keeps every one.

    `last`: the newest ones. `daily`, `weekly`, `monthly`: the newest of each of so many days, weeks (ISO) or months, in
    UTC, that have versions. `tagged`: nothing but what is always kept. Always kept are each branch's newest version,
    versions with tags, those that working layers stand on, and where branches fork or merge.
    """

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    tagged: bool = False

    @property
    def is_empty(self) -> bool:
        """Returns True if there is no rule, so that no version goes."""
        return self == NO_RULES


NO_RULES = Rules()


def remembered_rules(repo: Repository) -> Rules:
    """Returns the retention rules of the repository. Raises Corrupt for what a newer program has written."""
    pairs = (word.partition("=") for word in repo.refs.setting(_SETTING).split())
    try:
        return msgspec.convert({name: int(value) for name, _, value in pairs}, Rules, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise Corrupt(f"the remembered rules cannot be read: {error}", hint="Name rules, with --remember.") from error


def remember_rules(repo: Repository, rules: Rules, *, author: str) -> None:
    """Saves rules for every later gc without rules; durable on return."""
    words = (f"{name}={int(value)}" for name, value in msgspec.structs.asdict(rules).items() if value)
    with repo.write_lock():
        change = SettingChange(_SETTING, repo.refs.setting(_SETTING), " ".join(words))
        if change.old != change.new:
            repo.refs.move(Operation(time_ns=time.time_ns(), kind="rules", author=author, settings=(change,)))


class Roots(msgspec.Struct):
    """The roots of the mark phase: commits, and content in working layers (see References)."""

    commits: set[CommitId] = set()
    grafted: list[tuple[Entry, Entry | None]] = []


def roots(repo: Repository, undo_since_ns: int) -> Roots:
    """Returns what is kept now; `undo_since_ns`: operations since then can be undone. Raises Corrupt."""
    found = Roots({commit_id for _, commit_id in repo.refs.list()})
    # An earlier sweep, with a shorter time for undo, may have removed some.
    found.commits.update(filter(repo.index.has, _undoable(repo.refs.operations(), undo_since_ns)))
    for directory in layers(repo.work):
        layer = references(directory)
        branch = directory.name
        if layer.base is not None:
            found.commits.add(layer.base)
        if layer.below is not None:
            found.commits.add(layer.below)
        found.grafted.extend(layer.grafted)
        consumed = repo.refs.consumed_generation(branch)
        if layer.generation <= consumed:
            # The layer has not followed an operation yet; the next opening does, with the commits of the operation.
            found.commits.update(filter(repo.index.has, _named_by_step(repo, branch, consumed)))
        state = merge_state(repo, branch)
        if state is not None:
            found.commits.update(filter(repo.index.has, state.commits()))
            # The state with which the merge began, where the current one is lost.
            found.commits.update(filter(repo.index.has, _named_by_step(repo, branch, consumed)))
    return found


def _named_by_step(repo: Repository, branch: str, generation: int) -> Iterator[CommitId]:
    for operation in repo.refs.operations():
        if operation.work == (branch, generation):
            yield from commits_of(operation)
            return


def _undoable(operations: Iterable[Operation], since_ns: int) -> Iterator[CommitId]:
    """Yields what the operations since a moment keep, given newest first.

    Only the last operation can be undone, and what forgets or purges cannot: nothing before it needs to be kept.
    """
    for operation in operations:
        if operation.time_ns < since_ns or operation.kind in (FORGET, PURGE):
            return
        yield from commits_of(operation)


def outside(repo: Repository, rules: Rules) -> list[Version]:
    """Returns the versions that no rule keeps, oldest first; none where there is no rule."""
    if rules.is_empty:
        return []
    keep = {commit_id for _, commit_id in repo.refs.list(TAGS)}
    for directory in layers(repo.work):
        base = references(directory).base
        if base is not None:
            keep.add(base)
    lines = _lines(repo)
    for line in lines:
        keep.update(_kept_of_branch(line, rules))
    keep.update(_forks_and_merges(lines))
    candidates = {version.id: version for line in lines for version in reversed(line)}
    return [version for commit_id, version in candidates.items() if commit_id not in keep]


def _lines(repo: Repository) -> list[list[Version]]:
    """Returns each branch's versions that are not forgotten, newest first; what branches share is read once."""
    known: dict[CommitId, tuple[list[Version], int]] = {}
    lines: list[list[Version]] = []
    for _, head in repo.refs.list(BRANCHES):
        line: list[Version] = []
        for version in first_parents(repo.store, head, leave_out=repo.refs.is_forgotten):
            if version.id in known:
                other, position = known[version.id]
                line += other[position:]
                break
            line.append(version)
        for position, version in enumerate(line):
            known.setdefault(version.id, (line, position))
        lines.append(line)
    return lines


def _forks_and_merges(lines: list[list[Version]]) -> Iterator[CommitId]:
    """Yields the commits where branches fork or merge: merge bases of later merges."""
    shared = Counter(version.id for line in lines for version in line)
    for line in lines:
        count = 1
        for version in line:
            if shared[version.id] > count:
                count = shared[version.id]
                yield version.id
            yield from map(CommitId, version.commit.parents[1:])


def _kept_of_branch(line: list[Version], rules: Rules) -> Iterator[CommitId]:
    """Yields what the rules keep of a branch's versions, given newest first."""
    yield from (version.id for version in line[: max(1, rules.last)])
    for count, form in ((rules.daily, "%Y-%m-%d"), (rules.weekly, "%G-%V"), (rules.monthly, "%Y-%m")):
        seen: set[str] = set()
        for version in line:
            period = datetime.fromtimestamp(version.commit.time_ns // _NS, UTC).strftime(form)
            if period not in seen:
                if len(seen) == count:
                    break
                seen.add(period)
                yield version.id
