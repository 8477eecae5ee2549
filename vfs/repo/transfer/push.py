"""Push: packs, then index objects and a log line, then the root by compare-and-swap, the commit point.

An interruption before it leaves objects that no root names; the next push does not send their packs again.
Order and rules: docs/durability.md, T1 to T4.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

from vfs.backend.memory import MemoryBackend
from vfs.backend.protocol import MissingKey
from vfs.errors import Advice, Busy, Conflict, Corrupt, Hint, NotFound
from vfs.model.ids import CommitId
from vfs.remote.format import (
    PushLine,
    RefMove,
    Root,
    StoredPack,
    remote_ref_fault,
)
from vfs.remote.remote import Gone, Moved, State, following, is_named, new_nonce
from vfs.repo.repository import Repository
from vfs.repo.retention.replaced_commits import replaced_commits
from vfs.repo.transfer.byte_transfer import ByteProgress, Movement, Pace, no_progress
from vfs.repo.transfer.missing_objects import Missing
from vfs.repo.transfer.note_transfer import remember_notes
from vfs.repo.transfer.object_set import ObjectSet
from vfs.repo.transfer.ref_moves import Asked, Moves, PushedRef, PushRefused
from vfs.repo.transfer.remote_sweep import sweep_remote
from vfs.repo.transfer.remotes import OpenRemote, Wrap, adopted, list_remotes, open_remote, renamed
from vfs.repo.transfer.run_transfer import remember_runs
from vfs.repo.transfer.sent_packs import SentPacks
from vfs.store.packs.index import PackRow
from vfs.store.packs.pack_file import PackInfo, PackName, read_info, table_of
from vfs.store.packs.repacking import Repacker
from vfs.store.refs.operation import BRANCHES, RUNS, TAGS, Operation, RefChange, SettingChange
from vfs.store.refs.operation_args import TransferLogArgs

ATTEMPTS = 100
"""How often a push begins again because another one came first."""
_DELAY_MAX_S = 2.0


class Pushed(NamedTuple):
    """What a push did. `refs` is empty where the remote had everything."""

    refs: Sequence[PushedRef]
    packs: int
    bytes: int
    seq: int


def push(
    repo: Repository,
    name: str,
    branches: Sequence[str],
    *,
    author: str,
    tags: bool = False,
    runs: bool = True,
    removed: Sequence[str] = (),
    force: bool = False,
    wrap: Wrap | None = None,
    progress: ByteProgress = no_progress,
    pace: Pace | None = None,
    waiting: Callable[[str], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Pushed:
    """Sends branches, and all tags if `tags`, to a remote; durable there on return, or nothing has happened there.

    `runs`: also the runs that name nothing else. `removed`: branches that the remote is to lose; `force`: with versions
    that have no other name. Raises PushRefused where the remote has versions of a branch that are not here, or a tag of
    another version; NotFound for a branch without a version, Conflict for a protected one, and what the backend raises.
    """
    refs = [BRANCHES + branch for branch in branches]
    for branch, ref in zip(branches, refs, strict=True):
        if repo.refs.get(ref) is None:
            is_remote = branch in dict(list_remotes(repo))
            hint = Hint(Advice.PUSH_TO_REMOTE, {"remote": branch}) if is_remote else Hint(Advice.LIST_BRANCHES)
            raise NotFound(f"the branch {branch!r} has no version to push", hint=hint)
    if tags:
        refs += [ref for ref, _ in repo.refs.list(TAGS)]
    for ref in refs:
        fault = remote_ref_fault(ref)
        if fault:
            raise Conflict(f"{ref!r} cannot be pushed: {fault}")
    with repo.keeping_objects(), open_remote(repo, name, wrap=wrap, waiting=waiting) as opened:
        asked = Asked(refs, [BRANCHES + branch for branch in removed], runs, force)
        pushing = _Push(opened, asked, author, Movement(progress, pace), sleep)
        done = pushing.run()
    if pushing.has_purged:
        # From here on no fetch gets what was purged. If the sweep fails, the next sweep of the remote removes it.
        sweep_remote(repo, name, author=author, thorough=True, wrap=wrap, waiting=waiting, sleep=sleep)
    return done


class _Push:
    def __init__(
        self, opened: OpenRemote, asked: Asked, author: str, movement: Movement, sleep: Callable[[float], None]
    ) -> None:
        self._opened = opened
        self._repo = opened.repo
        self._refs = [*asked.refs, *asked.removed]
        self._author = author
        self._movement = movement
        self._sleep = sleep
        self._jitter = random.Random()
        self._sent = SentPacks(self._repo.path)
        self._sent_objects: list[ObjectSet] = []
        self._nonce = new_nonce()
        self._moves = Moves(opened, asked, replaced_commits(self._repo.refs))
        self.has_purged = False

    def run(self) -> Pushed:
        """Pushes, with as many attempts as others make necessary."""
        try:
            return self._run()
        finally:
            self._sent.close()
            for sent in self._sent_objects:
                sent.close()

    def _run(self) -> Pushed:
        state = self._opened.read_state()
        for attempt in range(ATTEMPTS):
            moves = self._moves.moves(state.root)
            changes = self._moves.other_changes(state.root)
            if not moves and not changes:
                self._remember(state, [])
                return Pushed([], 0, 0, state.root.seq)
            try:
                state = self._attempt(state, moves, changes)
            except Moved as moved:
                # Another push came first: this one stands on it from here on.
                if moved.state.root.swept != state.root.swept:
                    # What was sent, and nothing named, may be gone; what is there is not sent again.
                    self._sent.clear()
                    self._sent_objects.clear()
                state = moved.state
                self._sleep(self._jitter.uniform(0, min(_DELAY_MAX_S, 0.02 * 2 ** min(attempt, 10))))
                continue
            self.has_purged = "replaced" in changes
            self._remember(state, moves)
            return Pushed(moves, len(self._sent), self._movement.done, state.root.seq)
        raise Busy(f"{self._opened.name} is changed by others all the time", hint="Push again later.")

    # One attempt.

    def _attempt(self, state: State, moves: Sequence[PushedRef], changes: dict[str, object]) -> State:
        opened, root = self._opened, state.root
        try:
            opened.known.absorb(opened.remote, root.indexes)
        except Gone:
            self._raise_moved(state)
            raise
        self._send(root, moves)
        there = opened.known.packs()
        fresh = self._sent.names(there)
        indexes = opened.write_indexes(root.indexes, self._sent.stored(fresh))
        line = PushLine(
            root.seq + 1,
            self._nonce,
            time.time_ns(),
            self._author[:1000],
            tuple(_told(move) for move in moves if not move.name.startswith(RUNS)),
            self._movement.done,
            root.log,
            sum(move.name.startswith(RUNS) for move in moves),
        )
        log = opened.remote.write_line(line)
        refs = {**root.refs, **{move.name: move.new.hex() for move in moves if move.new is not None}}
        for move in moves:
            if move.new is None:
                del refs[move.name]
        sent = {name.key for name in fresh}
        # A pack that a sweep was to remove stays, since it is needed: then the sweep's own swap fails.
        retiring = {key: time_ns for key, time_ns in root.retiring.items() if key not in sent}
        after = following(state, self._nonce, line, log, refs=refs, indexes=indexes, retiring=retiring, **changes)
        newest = opened.remote.swap(state, after)
        opened.known.add(stored.info() for stored in self._sent.stored(fresh))
        opened.known.mark_checked(fresh)
        return newest

    def _raise_moved(self, state: State) -> None:
        """Raises Moved if there is a newer root, which names something else."""
        newest = self._opened.read_state()
        if newest.hash != state.hash:
            raise Moved(newest)

    def _has(self, object_id: bytes) -> bool:
        return any(object_id in sent for sent in self._sent_objects) or self._opened.known.has(object_id)

    def _send(self, root: Root, moves: Sequence[PushedRef]) -> None:
        """Sends the packs with what the remote lacks."""
        missing = Missing(self._repo.store, self._has, self._repo.refs.is_forgotten, self._repo.path)
        for move in moves:
            if move.new is not None:
                missing.add(move.new)
        self._refuse_replaced(root, moves, missing.commits)
        wanted: Counter[int] = Counter()
        for object_id in missing.objects:
            place = self._repo.index.lookup(object_id)
            if place is None:
                raise Corrupt(f"object {object_id.hex()} is missing", hint=Hint(Advice.CHECK_DATA))
            wanted[place.pack] += 1
        rows = {row.number: row for row in self._repo.index.packs() if row.number in wanted}
        # A sweep may remove what has a tombstone at any moment: its name is not used again.
        whole = [
            row
            for row in rows.values()
            if row.is_here and wanted[row.number] == row.objects and row.name.key not in root.tombstones
        ]
        names = {row.number for row in whole}
        part = [row for row in rows.values() if row.number not in names]
        shares = (row.size * wanted[row.number] // max(1, row.objects) for row in part)
        self._movement.expect(sum(row.size for row in whole) + sum(shares))
        there = self._sent_before()
        tasks = chain(self._whole_tasks(whole, there), self._copied(part, missing.objects, root))
        self._sent.open()
        self._movement.run(tasks)
        self._sent_objects.append(missing.objects)

    def _refuse_replaced(self, root: Root, moves: Sequence[PushedRef], commits: Sequence[CommitId]) -> None:
        named = [move.new for move in moves if move.new is not None]
        for commit_id in commits if root.replaced else ():
            named += [commit_id, *map(CommitId, self._repo.store.get_commit(commit_id).parents)]
        for commit_id in named:
            if commit_id.hex() in root.replaced:
                raise PushRefused(
                    f"{commit_id.hex()[:8]} was purged on {self._opened.name}, and your versions stand on it",
                    hint=Hint(Advice.PULL_PURGED),
                )

    def _whole_tasks(self, rows: Sequence[PackRow], there: set[str]) -> Iterator[tuple[int, Callable[[], None]]]:
        for row in sorted(rows, key=lambda row: (row.name.kind, row.number)):

            def send(row: PackRow = row) -> None:
                local, key = self._repo.backend, row.name.key
                stored = _stored(row.name, row.size, table_of(local, row.name, row.size))
                if key not in there or not self._is_there(key, row.size):
                    data = local.read(key)
                    if not is_named(row.name, data):
                        raise Corrupt(f"{key} is damaged and was not pushed", hint=Hint(Advice.CHECK_DATA))
                    self._put(key, data)
                self._sent.add(stored)

            yield row.size, send

    def _copied(
        self, rows: Sequence[PackRow], wanted: ObjectSet, root: Root
    ) -> Iterator[tuple[int, Callable[[], None]]]:
        """Makes packs of what is wanted of packs that hold more, and yields the sending of each."""
        space, source = MemoryBackend(), self._repo.store.backend
        repacker = Repacker(space, self._repo.store.compression, source=source)
        by_number = sorted(rows, key=lambda row: row.number)
        for row in by_number:
            info = self._info(row)
            repacker.copy(info, partial(self._is_in, wanted, row.number))
            yield from self._sealed(self._renamed(repacker.take_sealed(), space, root), space)
        repacker.seal()
        yield from self._sealed(self._renamed(repacker.take_sealed(), space, root), space)

    def _is_in(self, wanted: ObjectSet, pack: int, object_id: bytes) -> bool:
        place = self._repo.index.lookup(object_id) if object_id in wanted else None
        return place is not None and place.pack == pack

    def _renamed(self, infos: Sequence[PackInfo], space: MemoryBackend, root: Root) -> list[PackInfo]:
        return renamed(infos, space, self._repo.store.compression, root)

    def _info(self, row: PackRow) -> PackInfo:
        return read_info(self._repo.store.backend, row.name, row.size)

    def _sealed(self, infos: Sequence[PackInfo], space: MemoryBackend) -> Iterator[tuple[int, Callable[[], None]]]:
        for info in infos:
            data, table = space.read(info.name.key), table_of(space, info.name, info.size)
            space.delete(info.name.key)

            def send(info: PackInfo = info, data: bytes = data, table: bytes = table) -> None:
                self._put(info.name.key, data)
                self._sent.add(_stored(info.name, info.size, table))

            yield info.size, send

    def _put(self, key: str, data: bytes) -> None:
        self._movement.keep_pace(len(data))
        self._opened.remote.backend.put(key, data)
        self._note(key)

    # Going on where a push was cut off.

    def _note_key(self) -> str:
        return f"remotes/{self._opened.name}/sent"

    def _sent_before(self) -> set[str]:
        """Returns the packs that a push sent that has not happened; whether they are still there is asked again."""
        try:
            return set(self._repo.backend.read(self._note_key()).decode("ascii", "replace").splitlines())
        except MissingKey:
            return set()

    def _note(self, key: str) -> None:
        self._repo.files.append(self._note_key(), f"{key}\n".encode())

    def _is_there(self, key: str, size: int) -> bool:
        try:
            return self._opened.remote.backend.size(key) == size
        except MissingKey:
            return False

    # The end.

    def _remember(self, state: State, moves: Sequence[PushedRef]) -> None:
        """Notes here where the remote's branches are now."""
        opened, refs = self._opened, self._repo.refs
        with self._repo.write_lock():
            settings = [opened.seen_change(state)]
            for ref in self._refs:
                mark = adopted(opened.name, ref)
                settings.append(SettingChange(mark, refs.setting(mark), "yes" if ref in state.root.protected else ""))
            settings = [change for change in settings if change.old != change.new]
            changes = []
            for ref in self._refs:
                if ref.startswith(BRANCHES):
                    name, new = opened.ref(ref.removeprefix(BRANCHES)), state.root.refs.get(ref, "")
                    old = refs.get(name)
                    if (old.hex() if old else "") != new and (not new or self._repo.index.has(bytes.fromhex(new))):
                        changes.append(RefChange(name, old.hex() if old else "", new))
            if changes or settings:
                args = TransferLogArgs(remote=opened.name, bytes=self._movement.done)
                refs.move(
                    Operation(
                        time_ns=time.time_ns(),
                        kind="push",
                        author=self._author,
                        refs=tuple(changes),
                        settings=tuple(settings),
                        args=args,
                    )
                )
        remember_notes(opened, state.root)
        remember_runs(opened, state.root)
        try:
            self._repo.backend.delete(self._note_key())
        except MissingKey:
            return


def _told(move: PushedRef) -> RefMove:
    old, new = (commit_id.hex() if commit_id is not None else "" for commit_id in (move.old, move.new))
    return RefMove(move.name, old, new, move.old_number, move.new_number)


def _stored(name: PackName, size: int, table: bytes) -> StoredPack:
    return StoredPack(int(name.kind), bytes.fromhex(name.hex), size, table)
