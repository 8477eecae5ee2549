"""`fsck --remote`: whether a remote has all that its refs lead to, whole; damage is named by version and path.

Nothing of this repository is asked but what it has seen of the remote. All tree packs are read and checked; of data
packs that they are there with their size, unless every byte is to be read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from vfs.backend.local import LocalBackend
from vfs.backend.memory import MemoryBackend
from vfs.backend.protocol import MissingKey, ObjectBackend
from vfs.errors import Corrupt, NotFound, Unsupported
from vfs.model.ids import CommitId
from vfs.model.objects import Commit, Version
from vfs.remote.format import IndexName, Root, StoredPack, decode_index
from vfs.remote.remote import State
from vfs.repo.check.damage_locator import Locator
from vfs.repo.fsck import Damage, Report
from vfs.repo.repository import Repository
from vfs.repo.runs.records import is_run
from vfs.repo.transfer.remotes import OpenRemote, Wrap, open_remote, require_same
from vfs.store.lmdb_tables import Tables
from vfs.store.object_store import ObjectStore
from vfs.store.packs.index import INDEX_TABLES, Index
from vfs.store.packs.pack_file import PREFIX, PackInfo, PackKind, PackScan, verify_pack
from vfs.store.progress_callbacks import StageProgress, ignore_stages

_HINT = "A repository that has these versions whole can be pushed to an empty remote."
_CACHE_BYTES = 16 << 20


def check_remote(
    repo: Repository,
    name: str,
    *,
    read_data: bool = False,
    wrap: Wrap | None = None,
    progress: StageProgress | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Report:
    """Checks a remote; changes nothing, there and here. `read_data`: also every byte of the contents.

    Raises NotFound, Conflict for another repository's remote, and what the backend raises; damage is what it returns.
    """
    with (
        open_remote(repo, name, wrap=wrap, waiting=waiting) as opened,
        tempfile.TemporaryDirectory(prefix="vfs-fsck-") as directory,
        _Check(opened, Path(directory), progress or ignore_stages, read_data) as check,
    ):
        return check.run()


class _Lost(Mapping[bytes, object]):
    """The objects that the remote has not, or not whole."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def __contains__(self, object_id: object) -> bool:
        return isinstance(object_id, bytes) and not self._index.has(object_id)

    def __getitem__(self, object_id: bytes) -> object:
        raise KeyError(object_id)

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _Check:
    def __init__(self, opened: OpenRemote, directory: Path, progress: StageProgress, read_data: bool) -> None:
        self._opened = opened
        self._progress = progress
        self._read_data = read_data
        self._report = Report()
        self._space = LocalBackend(directory)
        self._tables = Tables.in_memory(INDEX_TABLES)
        self._index = Index(self._tables)
        self._store = ObjectStore(self._space, self._index, cache_bytes_max=_CACHE_BYTES)
        self._reasons: dict[bytes, str] = {}

    def __enter__(self) -> _Check:
        return self

    def __exit__(self, *_: object) -> None:
        self._space.close()
        self._tables.close()

    def run(self) -> Report:
        """Checks the small objects, packs, versions."""
        opened = self._opened
        try:
            require_same(opened.repo, opened.remote.read_config())
            state = opened.read_state()
        except (Corrupt, Unsupported, NotFound) as error:
            self._report.add(Damage(error.message, hint=error.hint))
            return self._report
        packs = list(self._indexed(state.root))
        there = dict(opened.remote.backend.list(PREFIX))
        for done, stored in enumerate(packs):
            self._progress("packs", done, len(packs))
            self._check_pack(stored, there)
        self._check_versions(state.root)
        self._check_waiting(state, packs, there)
        return self._report

    def _indexed(self, root: Root) -> Iterator[StoredPack]:
        """Yields the packs that the index objects name, each once, as they are at the remote."""
        seen = set()
        for index in root.indexes:
            for stored in self._packs_of(index):
                if stored.pack not in seen:
                    seen.add(stored.pack)
                    yield stored

    def _packs_of(self, index: IndexName) -> list[StoredPack]:
        try:
            return decode_index(index, self._opened.remote.read_index(index))
        except Corrupt as error:
            self._report.add(Damage(error.message))
            return []

    def _check_pack(self, stored: StoredPack, there: dict[str, int]) -> None:
        key = stored.pack.key
        self._report.packs += 1
        try:
            claimed = stored.info()
        except Corrupt as error:
            self._report.add(Damage(error.message))
            return
        if there.get(key) != stored.size:
            size = there.get(key)
            reason = f"{key} is missing" if size is None else f"{key} has {size:,} bytes, not {stored.size:,}"
            self._lose(claimed, reason)
            self._report.add(Damage(reason))
            return
        if stored.pack.kind == PackKind.DATA and not self._read_data:
            self._index.add_packs([claimed])
            self._count(claimed)
            return
        scan = self._verified(stored)
        for damage in scan.damage:
            self._report.add(Damage(f"{key}: {damage.reason} (at {damage.offset})"))
        self._lose(claimed, f"{key} is damaged")
        self._index.add_packs([scan.info])
        self._count(scan.info)

    def _verified(self, stored: StoredPack) -> PackScan:
        """Reads a pack and returns what of it is whole; one of trees is kept, to be read again."""
        key, backend = stored.pack.key, self._opened.remote.backend
        space: ObjectBackend = self._space if stored.pack.kind == PackKind.TREE else MemoryBackend()
        try:
            data = backend.read_range(key, 0, stored.size) if backend.is_local else backend.read(key)
        except MissingKey:
            data = b""
        self._report.bytes_read += len(data)
        space.put(key, data[: stored.size])
        return verify_pack(space, stored.pack, len(data[: stored.size]), self._opened.repo.store.compression)

    def _lose(self, info: PackInfo, reason: str) -> None:
        """Notes why objects of a pack may be lost. Those of whole packs are not asked for."""
        for block in info.blocks:
            for stored in block.objects:
                self._reasons.setdefault(stored.id, reason)

    def _count(self, info: PackInfo) -> None:
        self._report.objects += sum(len(block.objects) for block in info.blocks)
        if info.name.kind == PackKind.TREE:
            self._report.nodes += sum(len(block.objects) for block in info.blocks)
            for block in info.blocks:
                for stored in block.objects:
                    self._reasons.pop(stored.id, None)

    def _check_versions(self, root: Root) -> None:
        """Walks all that the refs lead to, and names each path that lacks something."""
        locator = Locator(self._store, _Lost(self._index))
        found: dict[tuple[bytes, str], list[str]] = {}
        stack = [(CommitId(bytes.fromhex(text)), ref) for ref, text in sorted(root.refs.items())]
        self._report.files = 0
        seen: set[CommitId] = set()
        while stack:
            commit_id, wanted_by = stack.pop()
            if commit_id in seen:
                continue
            seen.add(commit_id)
            commit = self._commit(commit_id, wanted_by)
            if commit is None:
                continue
            version = Version(commit_id, commit)
            name = f"run {commit.message}" if is_run(commit) else version.name
            stack.extend((CommitId(parent), name) for parent in commit.parents)
            self._report.versions += 1
            self._progress("versions", self._report.versions, None)
            if commit_id.hex() in root.forgotten or self._opened.repo.refs.is_forgotten(commit_id):
                continue
            self._report.files += commit.root.files
            self._check_number(version)
            for use in locator.uses(commit):
                reason = self._reasons.get(use.object_id, f"object {use.object_id.hex()} is in no pack")
                found.setdefault((use.path, reason), []).append(name)
        for (path, reason), names in sorted(found.items()):
            self._report.add(Damage(reason, path, tuple(reversed(names)), _HINT))

    def _commit(self, commit_id: CommitId, wanted_by: str) -> Commit | None:
        try:
            return self._store.get_commit(commit_id)
        except Corrupt:
            reason = self._reasons.get(commit_id, "it is in no pack")
            self._report.add(Damage(f"{wanted_by} needs the version {commit_id.hex()[:8]}: {reason}", hint=_HINT))
            return None

    def _check_number(self, version: Version) -> None:
        parents = version.commit.parents
        if not parents or not self._index.has(parents[0]):
            return
        below = self._store.get_commit(CommitId(parents[0])).number
        if version.commit.number != below + 1:
            self._report.add(Damage(f"{version.name} ({version.id.hex()[:8]}) has a wrong number"))

    def _check_waiting(self, state: State, packs: list[StoredPack], there: dict[str, int]) -> None:
        named = {stored.pack.key for stored in packs}
        for key in sorted(named & {*state.root.retiring, *state.root.tombstones}):
            self._report.add(Damage(f"{key} is in use, and a sweep may remove it"))
        waiting = len(there.keys() - named)
        if waiting:
            self._report.notes.append(f"{waiting:,} packs are of no use any more, or of a push that has not ended")
