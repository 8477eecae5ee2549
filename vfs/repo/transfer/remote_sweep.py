"""`gc --remote`: removes what no ref of a remote reaches, concurrently with pushes and readers, without a lock.

Two swaps of the root come before each deletion. The first takes packs out of the index and names them as retiring;
after a grace, which is for readers alone, the second gives them tombstones. A pusher that needs one either swaps
first, and then the sweep's swap fails, or it sees what was decided and sends it again.

Rules: docs/durability.md, T8 to T10.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from vfs.backend.memory import MemoryBackend
from vfs.backend.protocol import MissingKey
from vfs.errors import Advice, Busy, Hint
from vfs.model.ids import CommitId
from vfs.remote.format import IndexName, PushLine, Root, StoredPack, can_go
from vfs.remote.remote import Gone, Moved, State, following, is_named, new_nonce
from vfs.repo.repository import Repository
from vfs.repo.transfer.byte_transfer import Movement
from vfs.repo.transfer.fetch import PurgeNotPushed, fetch_opened, is_purged
from vfs.repo.transfer.remotes import OpenRemote, Wrap, open_remote, renamed
from vfs.store.packs.pack_file import PREFIX, PackInfo, PackKind, PackName, table_of
from vfs.store.packs.repacking import Repacker
from vfs.store.progress_callbacks import StageProgress, ignore_stages
from vfs.store.trees.reachability import Marker, Marks

GRACE_S = 24 * 3600.0
"""How long readers that have not seen the newest root may still read what is not needed."""
TOMBSTONE_S = 30 * 24 * 3600.0
"""How long a name is not used again: a sweep that was stopped so long deletes nothing any more."""
ATTEMPTS = 100
_DELAY_MAX_S = 2.0
_NS = 10**9
_DEAD_SHARE = 0.25
"""A data pack is rewritten when this much of it is not needed."""
_SMALL_BYTES = 1024 * 1024
_SMALL_PACKS = 64
"""So many small packs of a kind become larger ones."""
_INDEX_FOLDER = "index/"


class RemoteCollected(msgspec.Struct):
    """What went, or (in a dry run) would go.

    `retired` objects (packs and index objects) are not needed and go after the grace; `repacked` packs of them had
    something that is, and was written anew. `removed` have gone now. `waiting` are retiring, these included.
    """

    retired: int = 0
    repacked: int = 0
    bytes_sent: int = 0
    removed: int = 0
    bytes_removed: int = 0
    waiting: int = 0
    bytes_waiting: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    seq: int = 0


def sweep_remote(
    repo: Repository,
    name: str,
    *,
    author: str,
    grace_s: float = GRACE_S,
    thorough: bool = False,
    dry_run: bool = False,
    wrap: Wrap | None = None,
    progress: StageProgress | None = None,
    waiting: Callable[[str], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock_ns: Callable[[], int] = time.time_ns,
) -> RemoteCollected:
    """Removes from a remote what none of its refs leads to; fetches first. Stopped anywhere, it has lost nothing.

    What is not needed any more goes `grace_s` later, by this or a later sweep. `thorough`: packs with any unneeded
    object are written anew. Raises what `fetch` raises, Corrupt for damage that hides what is needed, Busy where
    others change the remote all the time.
    """
    with repo.keeping_objects(), open_remote(repo, name, wrap=wrap, waiting=waiting) as opened:
        sweep = _RemoteSweep(opened, author, int(grace_s * _NS), thorough, progress or ignore_stages, sleep, clock_ns)
        if dry_run:
            return sweep.preview()
        return sweep.run()


class _Plan(msgspec.Struct):
    """What leaves the index of a root: packs without anything needed, packs to write anew; keys that no root names."""

    going: set[PackName]
    anew: list[PackInfo]
    orphans: set[str]
    needed: dict[PackName, int]


class _RemoteSweep:
    def __init__(
        self,
        opened: OpenRemote,
        author: str,
        grace_ns: int,
        thorough: bool,
        progress: StageProgress,
        sleep: Callable[[float], None],
        clock_ns: Callable[[], int],
    ) -> None:
        self._opened = opened
        self._repo = opened.repo
        self._author = author
        self._grace_ns = grace_ns
        self._thorough = thorough
        self._progress = progress
        self._sleep = sleep
        self._clock_ns = clock_ns
        self._jitter = random.Random()
        self._marks: Marks | None = None
        self._seen: set[CommitId] = set()
        self._there: dict[str, int] = {}
        self._made_of: tuple[object, list[StoredPack]] | None = None
        self._forgotten: dict[str, int] = {}
        self.result = RemoteCollected()

    def preview(self) -> RemoteCollected:
        """Counts what `run` would do."""
        state = self._fetched()
        self._list()
        plan = self._plan(state)
        root = state.root
        packs = plan.going | {info.name for info in plan.anew}
        gone = {name.key for name in packs} | plan.orphans
        for index in root.indexes:
            if any(stored.pack in packs for stored in self._opened.known.stored(self._opened.remote, index)):
                gone.add(index.key)
        self._count(root, gone, plan)
        due = self._due(root.retiring)
        self.result.removed, self.result.bytes_removed = len(due), self._bytes(due)
        self.result.bytes_after = self.result.bytes_before - self._bytes(gone | due)
        return self.result

    def run(self) -> RemoteCollected:
        """Retires, then gives tombstones, then deletes."""
        self._tried(self._retire)
        state = self._tried(lambda: self._bury(self._opened.read_state()))
        self._delete(state.root)
        # What this repository knows of the remote follows.
        fetch_opened(self._opened, author=self._author, contents=None, movement=Movement())
        result = self.result
        result.seq = state.root.seq
        result.waiting, result.bytes_waiting = len(state.root.retiring), self._bytes(state.root.retiring)
        result.bytes_after = sum(self._there.values())
        return result

    def _tried(self, step: Callable[[], State]) -> State:
        """Takes a step that a push may come before, until none does."""
        for attempt in range(ATTEMPTS):
            try:
                return step()
            except (Moved, Gone):
                self._sleep(self._jitter.uniform(0, min(_DELAY_MAX_S, 0.02 * 2 ** min(attempt, 10))))
        raise Busy(f"{self._opened.name} is changed by others all the time", hint="Run it again later.")

    def _fetched(self) -> State:
        """Returns a state of which all trees are here."""
        opened = self._opened
        for _ in range(ATTEMPTS):
            fetch_opened(opened, author=self._author, contents=None, movement=Movement())
            state = opened.read_state()
            if is_purged(opened, state):
                raise PurgeNotPushed("a purge was not pushed yet", hint=Hint(Advice.PUSH_PURGE))
            seen = opened.seen()
            if seen is not None and seen.hash == state.hash:
                return state
        raise Busy(f"{opened.name} is changed by others all the time", hint="Run it again later.")

    def _list(self) -> None:
        """Looks up what is at the remote. What comes later is none of this sweep's."""
        backend = self._opened.remote.backend
        self._there = {}
        for prefix in (PREFIX, _INDEX_FOLDER):
            for key, size in backend.list(prefix):
                if can_go(key):
                    self._there[key] = size
                    self._progress("listing", len(self._there), None)
        self.result.bytes_before = sum(self._there.values())

    # What is needed.

    def _mark(self, root: Root) -> Marks:
        """Marks what the refs of a root lead to; what was marked for an older one stays marked."""
        repo = self._repo
        if self._marks is None:
            self._marks = Marks(repo.index)
        self._forgotten = {
            commit_id.hex(): time_ns // _NS
            for commit_id, time_ns in repo.refs.forgotten()
            if commit_id.hex() not in set(root.refs.values())
        } | root.forgotten
        marker = Marker(repo.store, self._marks, lambda commit_id: commit_id.hex() in self._forgotten)
        stack = [CommitId(bytes.fromhex(text)) for text in root.refs.values()]
        while stack:
            commit_id = stack.pop()
            if commit_id in self._seen:
                continue
            self._seen.add(commit_id)
            self._progress("versions", len(self._seen), None)
            commit = repo.store.get_commit(commit_id)
            marker.commit(commit_id, commit)
            stack.extend(map(CommitId, commit.parents))
        return self._marks

    def _plan(self, state: State) -> _Plan:
        opened, root = self._opened, state.root
        marks = self._mark(root)
        infos = [stored.info() for index in root.indexes for stored in opened.known.stored(opened.remote, index)]
        infos = list({info.name: info for info in infos}.values())
        counted: set[bytes] = set()
        plan = _Plan(set(), [], set(), {})
        small: dict[PackKind, list[PackInfo]] = {kind: [] for kind in PackKind}
        for info in infos:
            needed = needed_bytes = objects = size = 0
            for block in info.blocks:
                for stored in block.objects:
                    objects += 1
                    size += stored.size
                    if stored.id not in counted and marks.is_marked(stored.id):
                        counted.add(stored.id)
                        needed += 1
                        needed_bytes += stored.size
            plan.needed[info.name] = needed
            if not needed:
                plan.going.add(info.name)
            elif needed < objects and self._is_worth_it(info, size - needed_bytes, size):
                plan.anew.append(info)
            elif info.size < _SMALL_BYTES:
                small[info.name.kind].append(info)
        for group in small.values():
            if len(group) >= _SMALL_PACKS:
                plan.anew += group
        named = {info.name.key for info in infos} | {index.key for index in root.indexes}
        plan.orphans = self._there.keys() - named - root.retiring.keys() - root.tombstones.keys()
        return plan

    def _is_worth_it(self, info: PackInfo, dead: int, size: int) -> bool:
        # A node that the index finds stands for all below it: no node may stay that nothing needs.
        return info.name.kind == PackKind.TREE or self._thorough or dead >= _DEAD_SHARE * size

    # First swap: out of the index.

    def _retire(self) -> State:
        opened = self._opened
        state = self._fetched()
        root = state.root
        # The list is older than the root that is replaced: a pack of a push in between is in that root's index.
        self._list()
        newest = opened.read_state()
        if newest.hash != state.hash:
            raise Moved(newest)
        plan = self._plan(state)
        if not plan.going and not plan.anew and not plan.orphans:
            return state
        made = self._made(plan, root)
        gone = plan.going | {info.name for info in plan.anew}
        gone -= {stored.pack for stored in made}
        indexes, replaced = self._indexes(root, gone, made)
        now = self._clock_ns()
        keys = {name.key for name in gone} | plan.orphans | replaced
        keys -= {stored.pack.key for stored in made}
        retiring = {**root.retiring, **dict.fromkeys(sorted(keys), now)}
        for stored in made:
            retiring.pop(stored.pack.key, None)
        forgotten = {text: at for text, at in self._forgotten.items() if opened.known.has(bytes.fromhex(text))}
        after = self._swap(
            state, indexes=indexes, retiring=retiring, forgotten={**forgotten, **root.forgotten}, swept=root.seq + 1
        )
        self._count(root, keys, plan)
        opened.known.absorb(opened.remote, after.root.indexes)
        return after

    def _made(self, plan: _Plan, root: Root) -> list[StoredPack]:
        """Sends packs with what is needed of others; after a lost race only where that has become something else."""
        key = tuple((info.name, plan.needed[info.name]) for info in plan.anew), frozenset(root.tombstones)
        if self._made_of is not None and self._made_of[0] == key:
            return self._made_of[1]
        assert self._marks is not None
        marks, backend = self._marks, self._opened.remote.backend
        source, space = MemoryBackend(), MemoryBackend()
        repacker = Repacker(space, self._repo.store.compression, source=source)
        made: list[StoredPack] = []

        def send(infos: Iterable[PackInfo]) -> None:
            for info in renamed(list(infos), space, self._repo.store.compression, root):
                data = space.read(info.name.key)
                backend.put(info.name.key, data)
                self._there[info.name.key] = len(data)
                self.result.bytes_sent += len(data)
                table = table_of(space, info.name, info.size)
                made.append(StoredPack(int(info.name.kind), bytes.fromhex(info.name.hex), info.size, table))
                space.delete(info.name.key)

        for done, info in enumerate(plan.anew):
            self._progress("packs", done, len(plan.anew))
            source.put(info.name.key, self._read(info))
            repacker.copy(info, marks.is_marked)
            source.delete(info.name.key)
            send(repacker.take_sealed())
        repacker.seal()
        send(repacker.take_sealed())
        self._made_of = key, made
        return made

    def _read(self, info: PackInfo) -> bytes:
        with contextlib.suppress(MissingKey):
            data = self._repo.backend.read(info.name.key)
            if is_named(info.name, data):
                return data
        return self._opened.remote.read_pack(info.name, info.size)

    def _indexes(
        self, root: Root, gone: set[PackName], made: Sequence[StoredPack]
    ) -> tuple[tuple[IndexName, ...], set[str]]:
        """Returns the index objects without some packs and with others, and the keys of those that are needed no more.

        An object that has none of the packs stays.
        """
        opened = self._opened
        kept: list[IndexName] = []
        rest: dict[PackName, StoredPack] = {}
        for index in root.indexes:
            packs = opened.known.stored(opened.remote, index)
            if any(stored.pack in gone for stored in packs):
                rest.update((stored.pack, stored) for stored in packs if stored.pack not in gone)
            else:
                kept.append(index)
        rest.update((stored.pack, stored) for stored in made)
        indexes = opened.write_indexes(kept, list(rest.values()))
        return indexes, {index.key for index in root.indexes} - {index.key for index in indexes}

    # Second swap: tombstones. Then nothing but deletions.

    def _bury(self, state: State) -> State:
        root, now = state.root, self._clock_ns()
        due = self._due(root.retiring)
        old = {key for key, at in root.tombstones.items() if at + TOMBSTONE_S * _NS < now and key not in self._there}
        if not due and not old:
            return state
        retiring = {key: at for key, at in root.retiring.items() if key not in due}
        tombstones = {key: at for key, at in root.tombstones.items() if key not in old}
        tombstones |= dict.fromkeys(sorted(due), now)
        return self._swap(state, retiring=retiring, tombstones=tombstones, swept=root.seq + 1)

    def _due(self, retiring: Mapping[str, int]) -> set[str]:
        now = self._clock_ns()
        return {key for key, at in retiring.items() if at + self._grace_ns <= now}

    def _delete(self, root: Root) -> None:
        """Deletes what has a tombstone, also one that another sweep has given and not come to."""
        backend = self._opened.remote.backend
        going = sorted(root.tombstones.keys() & self._there.keys())

        def delete(key: str) -> None:
            with contextlib.suppress(MissingKey):
                backend.delete(key)

        movement = Movement(lambda done, _total: self._progress("removing", done, len(going)))
        movement.run((1, lambda key=key: delete(key)) for key in going)  # type: ignore[misc]
        self.result.removed, self.result.bytes_removed = len(going), self._bytes(going)
        for key in going:
            del self._there[key]

    def _swap(self, state: State, **changes: object) -> State:
        root, nonce = state.root, new_nonce()
        line = PushLine(
            root.seq + 1, nonce, self._clock_ns(), self._author[:1000], (), self.result.bytes_sent, root.log
        )
        log = self._opened.remote.write_line(line)
        return self._opened.remote.swap(state, following(state, nonce, line, log, **changes))

    # Figures.

    def _count(self, root: Root, keys: set[str], plan: _Plan) -> None:
        self.result.retired = len(keys)
        self.result.repacked = len(plan.anew)
        waiting = {*root.retiring, *keys}
        self.result.waiting, self.result.bytes_waiting = len(waiting), self._bytes(waiting)

    def _bytes(self, keys: Iterable[str]) -> int:
        return sum(self._there.get(key, 0) for key in keys)
