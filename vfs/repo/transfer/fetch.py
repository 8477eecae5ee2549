"""Fetch: the remote's new tree packs and refs, and contents where they are wanted; then one line in the operation log.

What a remote says is checked before a ref names it: packs by their hash, histories by their numbers, trees by a walk
that finds every object. Order and rules: docs/durability.md, T5 and T6.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from vfs.backend.protocol import MissingKey, Token
from vfs.errors import Advice, Conflict, Corrupt, Hint
from vfs.model.ids import SHORT_HEX, CommitId
from vfs.remote.format import StoredPack
from vfs.remote.known_objects import in_groups
from vfs.remote.remote import Gone, State, is_named
from vfs.repo.config import LAZY, RUNS_FEATURE
from vfs.repo.repository import Repository
from vfs.repo.retention.replaced_commits import in_lines, newest_of, replaced_commits, settings_of_replaced
from vfs.repo.swept_packs import give_up
from vfs.repo.transfer.byte_transfer import ByteProgress, Movement, Pace, no_progress
from vfs.repo.transfer.missing_objects import Missing
from vfs.repo.transfer.note_transfer import fetched_notes, remember_notes
from vfs.repo.transfer.remotes import OpenRemote, Wrap, adopted, open_remote
from vfs.repo.transfer.run_transfer import fetched_runs, remember_runs, removed_numbers, run_faults
from vfs.store.packs.pack_file import PackInfo, PackKind, PackName
from vfs.store.refs.operation import BRANCHES, RUNS, TAGS, Operation, RefChange, SettingChange
from vfs.store.refs.operation_args import ForgetLogArgs, TransferLogArgs
from vfs.store.refs.refs import FORGET, PROTECTED

_DECEIVED = "Nothing here names it. Tell who keeps the remote; what was here before is unchanged."
_FORGOTTEN_IN_LINE = 4000
_ATTEMPTS = 20


class FetchedRef(NamedTuple):
    """A ref as it is now, by its name at the remote (`branches/main`); ids are those of commits, None for none."""

    name: str
    old: CommitId | None
    new: CommitId | None
    new_number: int


class Fetched(NamedTuple):
    """The result of a fetch. `kept`: tags that name another version here, and were left as they are.

    `bytes_elsewhere`: contents that are at remotes alone. `packs`: those of the remote. `protected`: its refs that are.
    `purged`: commits that are here, and were purged there. `token`: of the root that was fetched. `refused`: refs of
    runs that were not taken, and why.
    """

    refs: Sequence[FetchedRef]
    bytes: int
    bytes_elsewhere: int
    packs: int
    kept: Sequence[str]
    protected: Sequence[str]
    seq: int
    token: Token
    purged: int = 0
    refused: Mapping[str, str] = {}


class PurgeNotPushed(Conflict):
    """A remote has versions that stand on some that were purged here: fetching them would restore the contents."""

    code = "purge-not-pushed"


def fetch(
    repo: Repository,
    name: str,
    *,
    author: str,
    contents: bool | None = None,
    purged: bool = False,
    wrap: Wrap | None = None,
    progress: ByteProgress = no_progress,
    pace: Pace | None = None,
    waiting: Callable[[str], None] | None = None,
    state: State | None = None,
    thorough: bool = True,
) -> Fetched:
    """Fetches what a remote has: the refs `remotes/NAME/…`, new tags, and all versions; durable on return.

    `contents`: also of what the files have; None: unless the repository is a clone that reads them when they are
    needed. `purged`: also versions that were purged here. `state`: the remote's, where it was just read. Unless
    `thorough`, the trees of new versions are not walked; a later fetch does so. Raises PurgeNotPushed, RolledBack,
    Corrupt for a remote that is not what it says, and what the backend raises.
    """
    with repo.keeping_objects(), open_remote(repo, name, wrap=wrap, waiting=waiting) as opened:
        movement = Movement(progress, pace)
        if state is not None:
            opened.require_successor(state)
        return fetch_opened(
            opened, author=author, contents=contents, purged=purged, movement=movement, state=state, thorough=thorough
        )


def fetch_opened(
    opened: OpenRemote,
    *,
    author: str,
    contents: bool | None,
    movement: Movement,
    purged: bool = False,
    state: State | None = None,
    thorough: bool = True,
) -> Fetched:
    """As `fetch`, of a remote that is open; the caller keeps sweeps out."""
    state = state or opened.read_state()
    for _ in range(_ATTEMPTS):
        if not purged and is_purged(opened, state):
            return Fetched([], 0, 0, 0, [], state.root.protected, state.root.seq, state.token)
        try:
            return _fetch_state(opened, state, author, contents, movement, thorough=thorough)
        except Gone:
            newest = opened.read_state()
            if newest.hash == state.hash:
                raise
            # A sweep of the remote came between.
            state = newest
    return _fetch_state(opened, state, author, contents, movement, thorough=thorough)


def is_purged(opened: OpenRemote, state: State) -> bool:
    """Returns True if a remote has, of what was purged here, only what is known here in its new form.

    Raises PurgeNotPushed if it has more, as far as its last pushes tell.
    """
    root, refs = state.root, opened.repo.refs
    replaced = {gone: made for gone, made in replaced_commits(refs).items() if gone not in root.replaced}
    found = {ref for ref, text in root.refs.items() if text in replaced}
    moves = [move for line in root.recent for move in line.refs]
    stands = {move.name for move in moves if move.old in replaced and move.new not in replaced}
    if not found and not stands:
        return False
    for ref, text in root.refs.items():
        at = refs.get(opened.ref(ref.removeprefix(BRANCHES)) if ref.startswith(BRANCHES) else ref)
        if at != newest_of(replaced, CommitId(bytes.fromhex(text))):
            raise PurgeNotPushed(
                f"{opened.name} has versions that stand on some that were purged here",
                hint=Hint(Advice.PUSH_PURGE, {"remote": opened.name}),
            )
    return True


def _fetch_state(
    opened: OpenRemote, state: State, author: str, contents: bool | None, movement: Movement, *, thorough: bool
) -> Fetched:
    repo = opened.repo
    seen = opened.seen()
    is_lazy = LAZY in repo.config.features
    if seen is None or seen.nonce != state.root.nonce:
        opened.known.bring(opened.remote, state.root.indexes)
        opened.known.absorb(opened.remote, state.root.indexes)
    _bring_packs(opened, state, movement, contents=contents if contents is not None else not is_lazy)
    _check_heads(opened, state, thorough=thorough)
    faults = run_faults(opened, state.root)
    refs, kept, purged = _move_refs(opened, state, author, movement.done, faults)
    remember_notes(opened, state.root)
    remember_runs(opened, state.root)
    elsewhere = sum(row.size for row in repo.index.packs() if not row.is_here)
    packs, root = len(opened.known.packs()), state.root
    return Fetched(refs, movement.done, elsewhere, packs, kept, root.protected, root.seq, state.token, purged, faults)


def _bring_packs(opened: OpenRemote, state: State, movement: Movement, *, contents: bool) -> None:
    """Stores packs of the remote that are not here and indexes them: data before trees (rule 3)."""
    repo = opened.repo
    here = {row.name for row in repo.index.packs() if row.is_here}
    trees: dict[PackName, int] = {}
    data: dict[PackName, int] = {}
    elsewhere: set[PackName] = set()
    # Who has the newest versions has all that they need (rule 5); what else is there a purge may have left.
    is_known = all(repo.index.has(bytes.fromhex(text)) for text in state.root.refs.values())
    is_lazy = LAZY in repo.config.features
    for stored in _stored(opened, state):
        name = stored.pack
        if is_known and (name.kind == PackKind.TREE or not is_lazy):
            continue
        if name in here or (here and _has_all(repo, stored)):
            continue
        if name.kind == PackKind.TREE:
            trees[name] = stored.size
        elif contents:
            data[name] = stored.size
        elif not repo.index.knows(name):
            elsewhere.add(name)
    lacking = [_lacking(repo, wanted) for wanted in (data, trees)]
    movement.expect(sum(sum(wanted.values()) for wanted in lacking))
    for wanted in lacking:
        movement.run(_bringing(opened, wanted, movement))
    with repo.write_lock():
        give_up(repo, opened.known, opened.remote, state.root)
        for group in in_groups(_infos(opened, state, data.keys())):
            repo.index.add_packs(group)
        for group in in_groups(_infos(opened, state, elsewhere)):
            repo.index.add_packs(group, is_here=False)
        # Of one transaction: a node that is found stands for all that is below it.
        repo.index.add_packs(list(_infos(opened, state, trees.keys())))


def _has_all(repo: Repository, stored: StoredPack) -> bool:
    return all(repo.index.has_here(found.id) for block in stored.info().blocks for found in block.objects)


def _lacking(repo: Repository, wanted: Mapping[PackName, int]) -> dict[PackName, int]:
    """Returns the packs that are not stored here: a fetch that was interrupted has left some, which nothing names.

    Those that are stored are durable on return, with their names (rule 1).
    """
    lacking = {}
    for name, size in wanted.items():
        if _is_stored(repo, name, size):
            repo.backend.sync_name(name.key)
        else:
            lacking[name] = size
    return lacking


def _is_stored(repo: Repository, name: PackName, size: int) -> bool:
    try:
        return repo.backend.size(name.key) == size and is_named(name, repo.backend.read(name.key))
    except MissingKey:
        return False


def _bringing(
    opened: OpenRemote, wanted: Mapping[PackName, int], movement: Movement
) -> Iterator[tuple[int, Callable[[], None]]]:
    for name, size in wanted.items():

        def bring(name: PackName = name, size: int = size) -> None:
            movement.keep_pace(size)
            opened.repo.backend.put(name.key, opened.remote.read_pack(name, size))

        yield size, bring


def _stored(opened: OpenRemote, state: State) -> Iterator[StoredPack]:
    for index in state.root.indexes:
        yield from opened.known.stored(opened.remote, index)


def _infos(opened: OpenRemote, state: State, wanted: Container[PackName]) -> Iterator[PackInfo]:
    for stored in _stored(opened, state):
        if stored.pack in wanted:
            yield stored.info()


def _check_heads(opened: OpenRemote, state: State, *, thorough: bool) -> None:
    """Raises Corrupt unless every new head has a whole history: commits, and if `thorough` trees with their chunks."""
    repo = opened.repo
    fresh = opened.known.unchecked(stored.pack for stored in _stored(opened, state))
    heads = [CommitId(bytes.fromhex(text)) for text in sorted(set(state.root.refs.values()))]
    forgotten = state.root.forgotten

    def is_checked(object_id: bytes) -> bool:
        # What another pack has was checked when that came, or written here.
        place = repo.index.lookup(object_id)
        return place is not None and repo.index.pack_name(place.pack) not in fresh

    def is_forgotten(found: CommitId) -> bool:
        return not thorough or found.hex() in forgotten or repo.refs.is_forgotten(found)

    missing = Missing(repo.store, is_checked, is_forgotten, repo.path)
    for head in heads:
        missing.add(head)
    for object_id in missing.objects:
        if not repo.index.has(object_id):
            raise Corrupt(f"{opened.name} names an object {object_id.hex()} that it does not have", hint=_DECEIVED)
    for commit_id in missing.commits:
        commit = repo.store.get_commit(commit_id)
        below = repo.store.get_commit(CommitId(commit.parents[0])).number if commit.parents else 0
        if commit.number != below + 1:
            raise Corrupt(
                f"{opened.name} has a version {commit_id.hex()[:SHORT_HEX]} with a wrong number", hint=_DECEIVED
            )
    missing.objects.close()
    if thorough:
        opened.known.mark_checked(fresh)


def _move_refs(
    opened: OpenRemote, state: State, author: str, size: int, faults: Mapping[str, str]
) -> tuple[list[FetchedRef], list[str], int]:
    """Appends the line that makes the fetch happen."""
    repo, root = opened.repo, state.root
    with repo.write_lock():
        refs = repo.refs
        changes: list[RefChange] = []
        found: list[FetchedRef] = []
        kept: list[str] = []
        mine = {f"{BRANCHES}{ref.removeprefix(opened.ref(''))}": at for ref, at in refs.list(opened.ref(""))}
        for ref, text in sorted(root.refs.items()):
            new = CommitId(bytes.fromhex(text))
            if ref.startswith(RUNS):
                continue
            if ref.startswith(TAGS):
                at = refs.get(ref)
                if at is None and refs.get(BRANCHES + ref.removeprefix(TAGS)) is None and not refs.is_forgotten(new):
                    changes.append(RefChange(ref, "", text))
                    found.append(FetchedRef(ref, None, new, repo.store.get_commit(new).number))
                elif at is not None and at != new and newest_of(root.replaced, at) == new:
                    changes.append(RefChange(ref, at.hex(), text))
                    found.append(FetchedRef(ref, at, new, repo.store.get_commit(new).number))
                elif at != new:
                    kept.append(ref.removeprefix(TAGS))
                continue
            old = mine.pop(ref, None)
            if old != new:
                changes.append(RefChange(opened.ref(ref.removeprefix(BRANCHES)), old.hex() if old else "", text))
                found.append(FetchedRef(ref, old, new, repo.store.get_commit(new).number))
        for ref, at in mine.items():
            changes.append(RefChange(opened.ref(ref.removeprefix(BRANCHES)), at.hex(), ""))
            found.append(FetchedRef(ref, at, None, 0))
        runs = list(fetched_runs(opened, root, faults))
        if runs:
            repo.require_feature(RUNS_FEATURE)
        changes += runs
        found += [FetchedRef(change.name, _commit(change.old), _commit(change.new), 0) for change in runs]
        settings = [change for change in _settings(opened, state) if change.old != change.new]
        settings += removed_numbers(repo, runs)
        known = replaced_commits(refs)
        gone = [text for text in root.replaced if text not in known and repo.index.has(bytes.fromhex(text))]
        if gone:
            settings += settings_of_replaced(refs)
        notes = tuple(fetched_notes(opened, root))
        for old_ids, new_ids in in_lines([(text, root.replaced[text]) for text in gone]):
            told = TransferLogArgs(remote=opened.name, gone=old_ids, made=new_ids)
            refs.move(Operation(time_ns=time.time_ns(), kind="fetch", author=author, args=told))
        if changes or settings or notes:
            args = TransferLogArgs(remote=opened.name, bytes=size)
            refs.move(
                Operation(
                    time_ns=time.time_ns(),
                    kind="fetch",
                    author=author,
                    refs=tuple(changes),
                    settings=tuple(settings),
                    notes=notes,
                    args=args,
                )
            )
        _forget(opened, state, author)
    return found, kept, len(gone)


def _commit(text: str) -> CommitId | None:
    return CommitId(bytes.fromhex(text)) if text else None


def _settings(opened: OpenRemote, state: State) -> Iterator[SettingChange]:
    """Yields what is remembered of the remote, and the protection that it gives to branches and tags that are here."""
    refs = opened.repo.refs
    yield opened.seen_change(state)
    marks = {name for name, _ in refs.settings(adopted(opened.name, ""))}
    for ref in state.root.protected:
        mark = adopted(opened.name, ref)
        if mark not in marks and refs.get(ref) is not None:
            yield SettingChange(mark, "", "yes")
            yield SettingChange(PROTECTED + ref, refs.setting(PROTECTED + ref), "yes")
        marks.discard(mark)
    for mark in marks:
        ref = mark.removeprefix(adopted(opened.name, ""))
        yield SettingChange(mark, "yes", "")
        yield SettingChange(PROTECTED + ref, refs.setting(PROTECTED + ref), "")


def _forget(opened: OpenRemote, state: State, author: str) -> None:
    """Forgets the versions that were forgotten on the remote, but for those that a ref names here."""
    repo = opened.repo
    named = {commit_id for _, commit_id in repo.refs.list()}
    going = [
        text
        for text in sorted(state.root.forgotten)
        if CommitId(bytes.fromhex(text)) not in named
        and repo.index.has(bytes.fromhex(text))
        and not repo.refs.is_forgotten(CommitId(bytes.fromhex(text)))
    ]
    for start in range(0, len(going), _FORGOTTEN_IN_LINE):
        part = going[start : start + _FORGOTTEN_IN_LINE]
        args = ForgetLogArgs(commits=tuple(part), count=len(part), reason=f"fetch from {opened.name}")
        repo.refs.move(Operation(time_ns=time.time_ns(), kind=FORGET, author=author, args=args))


def bring_contents(
    repo: Repository, name: str, objects: Iterable[bytes] | None, *, movement: Movement, wrap: Wrap | None = None
) -> int:
    """Fetches the packs with contents that only a remote has: those with any of `objects`, or all; returns their bytes.

    Durable on return. Raises Conflict where the remote lacks one by now, and what the backend raises.
    """
    with repo.keeping_objects(), open_remote(repo, name, wrap=wrap) as opened:
        state = opened.read_state()
        opened.known.absorb(opened.remote, state.root.indexes)
        numbers = None
        if objects is not None:
            places = map(repo.index.lookup, objects)
            numbers = {place.pack for place in places if place is not None and not repo.index.is_here(place.pack)}
        wanted = {
            row.name: row.size
            for row in repo.index.packs()
            if not row.is_here and (numbers is None or row.number in numbers)
        }
        for pack in wanted.keys() - opened.known.packs():
            raise Conflict(f"{opened.name} has no pack {pack.key} any more", hint="Fetch, then try again.")
        lacking = _lacking(repo, wanted)
        movement.expect(sum(lacking.values()))
        movement.run(_bringing(opened, lacking, movement))
        for group in in_groups(_infos(opened, state, wanted)):
            repo.index.add_packs(group)
    return movement.done
