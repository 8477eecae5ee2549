"""`gc`: removes objects that nothing references from the packs, while mounts read and write.

Mark and sweep. The walk over what is kept takes no lock; before anything is removed, every process that adds objects is
excluded for a moment, and what they have named since is walked too. Order and reasons: docs/durability.md, G1 to G7,
and decision 60.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from vfs.errors import Busy
from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.repo.commit import COMMIT_TIMEOUT_S
from vfs.repo.lock import file_lock
from vfs.repo.merge_state import stashed_state
from vfs.repo.paths import GC_LOCK
from vfs.repo.repository import Repository
from vfs.repo.retention.forget import forget_commits, tags_to_remove
from vfs.repo.retention.policy import NO_RULES, Rules, outside, roots
from vfs.store.packs.index import PackRow, backend_packs
from vfs.store.packs.pack_file import PackInfo, PackKind, PackName, read_info
from vfs.store.packs.repacking import Repacker, retire
from vfs.store.progress_callbacks import StageProgress, ignore_stages
from vfs.store.refs.operation import TAGS, Operation
from vfs.store.refs.operation_args import GcLogArgs
from vfs.store.trees.reachability import Marker, Marks, PackUse

GRACE_S = 3600.0
"""How long everything in a new pack is kept, whether anything needs it or not."""
UNDO_S = 14 * 24 * 3600.0
"""How long operations can be undone."""

_DEAD_SHARE = 0.25
"""A data pack is repacked when this much of it is unreferenced: less costs more writing than it frees."""
_SMALL_BYTES = 1024 * 1024
_SMALL_PACKS = 64
"""So many small packs of a kind become larger ones: each costs a file, and a read when the index is made again."""
_ROUND_BYTES = 1024 * 1024 * 1024
_NS = 1_000_000_000
_UNUSED = PackUse(0, 0, 0, 0)


class Collected(msgspec.Struct):
    """What went, or (in a dry run) would go.

    `objects` and `object_bytes` (before compression) are unreferenced, `packs` were removed or repacked.
    `bytes_before` and `bytes_after` are all packs; `bytes_after` is an estimate in a dry run. `bytes_left` are those of
    packs, before compression, that are not worth repacking. `objects_checked` were found on disk at the end and are
    needed by something; `objects_unneeded` are not. Only `forget` counts them.
    """

    forgotten: list[Version] = []
    tags: list[str] = []
    objects: int = 0
    object_bytes: int = 0
    packs: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    bytes_left: int = 0
    objects_checked: int = 0
    objects_unneeded: int = 0


def gc(
    repo: Repository,
    rules: Rules = NO_RULES,
    *,
    dry_run: bool = False,
    grace_s: float = GRACE_S,
    undo_s: float = UNDO_S,
    thorough: bool = False,
    author: str = "",
    progress: StageProgress | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Collected:
    """Removes objects that no version, working layer or operation that can be undone needs; durable on return.

    `rules` forget versions first. `thorough` repacks every pack that has an unreferenced object. Interrupted at any
    moment it has lost nothing, and the next one goes on. Raises Busy beside another sweep or a long import, Corrupt
    for damage that hides which objects are needed: then nothing more is removed.
    """
    with one_sweep(repo):
        sweep = _Sweep(repo, grace_s, undo_s, progress or ignore_stages)
        going = outside(repo, rules)
        if not rules.is_empty and not dry_run:
            # A tag or version may be new: which versions to remove is decided under the write lock.
            with repo.write_lock(timeout_s=COMMIT_TIMEOUT_S, waiting=waiting):
                going = outside(repo, rules)
                forget_commits(repo, going, author=author, reason="gc")
        sweep.result.forgotten = going
        sweep.plan({version.id for version in going}, thorough=thorough)
        if not dry_run:
            sweep.run(waiting)
            _log(repo, sweep.result, author)
        return sweep.result


def forget(
    repo: Repository,
    versions: Sequence[Version],
    *,
    author: str,
    with_tags: bool = False,
    dry_run: bool = False,
    undo_s: float = UNDO_S,
    progress: StageProgress | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Collected:
    """Removes versions for good, with the objects that only they need, and checks the rest; durable on return.

    The line in the operation log is the commit point; what an interrupted sweep leaves, the next
    thorough one frees. Raises NotPermitted for what must not go (see `tags_to_remove`), and what `gc` raises.
    """
    with one_sweep(repo):
        tags = tags_to_remove(repo, versions, with_tags=with_tags)
        if not dry_run:
            with repo.write_lock(timeout_s=COMMIT_TIMEOUT_S, waiting=waiting):
                tags = tags_to_remove(repo, versions, with_tags=with_tags)
                forget_commits(repo, versions, author=author, reason="forget", refs=tags)
        if dry_run:
            sweep = _Sweep(repo, 0, undo_s, progress or ignore_stages)
            sweep.plan({version.id for version in versions}, thorough=True)
            found = sweep.result
        else:
            found = sweep_all(repo, undo_s=undo_s, author=author, progress=progress, waiting=waiting)
        found.forgotten = list(versions)
        found.tags = [change.name.removeprefix(TAGS) for change in tags]
        return found


def sweep_all(
    repo: Repository,
    *,
    undo_s: float,
    author: str,
    progress: StageProgress | None,
    waiting: Callable[[str], None] | None,
) -> Collected:
    """Removes all unreferenced objects, young ones too, and checks what is on disk then; the caller has `one_sweep`."""
    sweep = _Sweep(repo, 0, undo_s, progress or ignore_stages)
    sweep.plan(set(), thorough=True)
    sweep.run(waiting)
    sweep.check()
    _log(repo, sweep.result, author)
    return sweep.result


@contextlib.contextmanager
def one_sweep(repo: Repository) -> Iterator[None]:
    """Excludes every other gc, forget and purge of a repository; raises Busy at once, or ReadOnly."""
    repo.require_guard()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(repo.path / GC_LOCK, timeout_s=0))
        except Busy as busy:
            raise Busy("another gc, forget or purge is running", hint="Wait for it, then try again.") from busy
        yield


class _Sweep:
    """One run: marks, a plan, rounds."""

    def __init__(self, repo: Repository, grace_s: float, undo_s: float, progress: StageProgress) -> None:
        self._repo = repo
        self._progress = progress
        now = time.time_ns()
        self._young_ns = now - int(grace_s * _NS)
        self._undo_since_ns = now - int(undo_s * _NS)
        self._planned: set[CommitId] = set()
        # What only a remote has is the remote's to keep.
        self._packs = [row for row in repo.index.packs() if row.is_here]
        self._last = self._packs[-1].number if self._packs else 0
        self._marks = Marks(repo.index)
        self._marker = Marker(repo.store, self._marks, self._is_forgotten)
        self._seen: set[CommitId] = set()
        self._chosen: list[PackRow] = []
        self._uses: dict[int, PackUse] = {}
        self.result = Collected()

    def plan(self, forgotten: set[CommitId], *, thorough: bool) -> None:
        """Walks what is kept, without the trees of `forgotten`, and chooses the packs to remove or repack."""
        self._planned = forgotten
        self._mark_roots()
        young = {row.number for row in self._packs if self._repo.index.added_ns(row.number) > self._young_ns}
        for row in self._packs:
            if row.number in young:
                self._marker.pack(self._info(row))
        self._uses = self._marks.uses()
        old = [row for row in self._packs if row.number not in young]
        self._chosen = [row for row in old if self._is_worth_it(row, thorough=thorough)]
        chosen = {row.number for row in self._chosen}
        for kind in PackKind:
            small = [row for row in old if row.name.kind == kind and row.size < _SMALL_BYTES]
            if len(small) >= _SMALL_PACKS:
                self._chosen += [row for row in small if row.number not in chosen]
        self._count()

    def run(self, waiting: Callable[[str], None] | None) -> None:
        """Carries out the plan."""
        trees = [row for row in self._chosen if row.name.kind == PackKind.TREE]
        data = [row for row in self._chosen if row.name.kind == PackKind.DATA]
        # Nodes go before the chunks that they name (G4), and what frees space without needing any goes first.
        data.sort(key=lambda row: (self._use(row).marked > 0, self._use(row).objects == row.objects, row.number))
        rounds = [trees, *_rounds(data)]
        if trees or data or self._unindexed():
            self.result.bytes_after = self.result.bytes_before
            for done, rows in enumerate(rounds):
                self._progress("packs", done, len(rounds))
                self._round(rows, waiting)

    def check(self) -> None:
        """Counts the referenced and the unreferenced objects on disk."""
        for name, size in backend_packs(self._repo.backend):
            for block in read_info(self._repo.backend, name, size).blocks:
                for stored in block.objects:
                    is_needed = self._marks.is_marked(stored.id)
                    self.result.objects_checked += is_needed
                    self.result.objects_unneeded += not is_needed

    def _is_worth_it(self, row: PackRow, *, thorough: bool) -> bool:
        use = self._use(row)
        if use.marked == row.objects:
            return False
        if row.name.kind == PackKind.TREE or thorough or use.objects < row.objects:
            return True
        return use.bytes - use.bytes_marked >= _DEAD_SHARE * use.bytes

    def _count(self) -> None:
        result, chosen = self.result, {row.number for row in self._chosen}
        result.packs = len(chosen)
        for row in self._packs:
            use = self._use(row)
            result.bytes_before += row.size
            if row.number in chosen:
                result.objects += row.objects - use.marked
                result.object_bytes += use.bytes - use.bytes_marked
                result.bytes_after += row.size * use.bytes_marked // max(1, use.bytes)
            else:
                result.bytes_left += use.bytes - use.bytes_marked
                result.bytes_after += row.size

    def _round(self, rows: Sequence[PackRow], waiting: Callable[[str], None] | None) -> None:
        """Replaces packs by new ones, in the order of docs/durability.md, G3 to G5."""
        repo = self._repo
        infos = [self._info(row) for row in rows]
        repacker = Repacker(repo.backend, repo.store.compression)
        is_indexed = False
        try:
            self._copy(repacker, infos)
            repacker.seal()
            with repo.excluding_writers(timeout_s=COMMIT_TIMEOUT_S, waiting=waiting):
                self._mark_since()
                self._copy(repacker, infos)
                added = repacker.seal()
                leftovers = self._unindexed() - {info.name for info in added}
                repo.index.replace(infos, added)
                is_indexed = True
                names = {info.name for info in infos} - {info.name for info in added}
                retire(repo.backend, sorted(names | leftovers, key=lambda name: (-name.kind, name)))
        except BaseException:
            if not is_indexed:
                repacker.drop()
            raise
        self.result.bytes_after += sum(info.size for info in added) - sum(row.size for row in rows)

    def _copy(self, repacker: Repacker, infos: Sequence[PackInfo]) -> None:
        index = self._repo.index
        for info in infos:

            def is_wanted(object_id: bytes, name: PackName = info.name) -> bool:
                if not self._marks.is_marked(object_id):
                    return False
                place = index.lookup(object_id)
                return place is not None and index.pack_name(place.pack) == name

            repacker.copy(info, is_wanted)

    def _mark_roots(self) -> None:
        """Marks what the roots lead to now, as far as it is not marked yet."""
        found = roots(self._repo, self._undo_since_ns)
        stack = list(found.commits)
        while stack:
            commit_id = stack.pop()
            if commit_id in self._seen:
                continue
            self._seen.add(commit_id)
            self._progress("versions", len(self._seen), None)
            commit = self._repo.store.get_commit(commit_id)
            self._marker.commit(commit_id, commit)
            stack.extend(map(CommitId, commit.parents))
            state = stashed_state(commit)
            if state is not None:
                stack.extend(filter(self._repo.index.has, state.commits()))
        for entry, directory in found.grafted:
            self._marker.entry(entry)
            if directory is not None:
                self._marker.tree(directory.tiny)

    def _mark_since(self) -> None:
        """Marks what is new since the plan: objects of new packs must not lose what they refer to."""
        self._mark_roots()
        for row in self._repo.index.packs():
            if row.number > self._last and row.is_here:
                self._marker.pack(self._info(row))

    def _unindexed(self) -> set[PackName]:
        """Returns packs whose writer died before the index had them: nothing refers to their objects."""
        return {name for name, _ in backend_packs(self._repo.backend)} - {row.name for row in self._repo.index.packs()}

    def _info(self, row: PackRow) -> PackInfo:
        return read_info(self._repo.backend, row.name, row.size)

    def _use(self, row: PackRow) -> PackUse:
        return self._uses.get(row.number, _UNUSED)

    def _is_forgotten(self, commit_id: CommitId) -> bool:
        return commit_id in self._planned or self._repo.refs.is_forgotten(commit_id)


def _rounds(rows: Sequence[PackRow]) -> Iterator[Sequence[PackRow]]:
    """Splits packs into rounds, so that the space that repacking needs is bounded."""
    part: list[PackRow] = []
    for row in rows:
        if part and sum(other.size for other in part) + row.size > _ROUND_BYTES:
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def _log(repo: Repository, result: Collected, author: str) -> None:
    if not result.packs:
        return
    args = GcLogArgs(packs=result.packs, bytes_before=result.bytes_before, bytes_after=result.bytes_after)
    with repo.write_lock(timeout_s=COMMIT_TIMEOUT_S):
        repo.refs.move(Operation(time_ns=time.time_ns(), kind="gc", author=author, args=args))
