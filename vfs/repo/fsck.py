"""`fsck`: checks that every object that a version needs exists and is intact.

Packs are compared with the index both ways, the log with its checksums and every table that is made of it, then every
version is checked down to its chunks, and every working layer with what it stands on; `read_data` also reads and
hashes every stored byte, once. What no version uses is not damage, nor is what writers do meanwhile.
Memory follows the number of distinct tree nodes (node_check.py), of operations (log_check.py) and of damaged objects.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import msgspec

from vfs.errors import Corrupt, Hint
from vfs.model.ids import CommitId
from vfs.model.names import show_path
from vfs.model.objects import Commit, Version
from vfs.repo.check.damage_locator import Locator
from vfs.repo.check.layer_check import check_layers
from vfs.repo.check.node_check import NodeChecker
from vfs.repo.check.operation_log_check import check_log
from vfs.repo.check.pack_check import check_packs
from vfs.repo.check.version_check import VersionChecker
from vfs.repo.config import decode_config
from vfs.repo.operation_log_truncation import truncation_signs
from vfs.repo.paths import CONFIG
from vfs.repo.repository import Repository
from vfs.repo.retention.replaced_commits import replaced_commits
from vfs.store.lmdb_environment import DamagedTables
from vfs.store.progress_callbacks import StageProgress, ignore_stages

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
DAMAGE_MAX = 1000
"""Damage beyond this many paths is counted and not listed."""


class Damage(msgspec.Struct, frozen=True):
    """Something wrong. `path` is None where it concerns no single path; `versions` have it, oldest first."""

    reason: str
    path: bytes | None = None
    versions: tuple[str, ...] = ()
    hint: Hint | str = ""


class Report(msgspec.Struct):
    """What was checked and what was found. `omitted` counts damage beyond DAMAGE_MAX; `notes` are no damage."""

    versions: int = 0
    nodes: int = 0
    files: int = 0
    packs: int = 0
    objects: int = 0
    bytes_read: int = 0
    damage: list[Damage] = []
    omitted: int = 0
    notes: list[str] = []

    @property
    def is_clean(self) -> bool:
        """Returns True if nothing is damaged."""
        return not self.damage

    def add(self, damage: Damage) -> None:
        """Adds damage, up to the limit."""
        if len(self.damage) < DAMAGE_MAX:
            self.damage.append(damage)
        else:
            self.omitted += 1


def fsck(
    repo: Repository,
    *,
    read_data: bool = False,
    rebuild_index: bool = False,
    progress: StageProgress | None = None,
) -> Report:
    """Checks a repository; changes nothing, except that `rebuild_index` makes the index again first.

    Together, the new index leaves out what is damaged, so that a whole copy elsewhere is found instead. Raises Busy and
    OSError; damage is what it returns.
    """
    report = Report()
    note = progress or ignore_stages
    if rebuild_index:
        repo.rebuild_index(note, deep=read_data)
    return _Check(repo, report, note).run(read_data)


class _Check:
    """One run."""

    def __init__(self, repo: Repository, report: Report, progress: StageProgress) -> None:
        self._repo = repo
        self._report = report
        self._progress = progress
        self._bad: dict[bytes, str] = {}
        self._names: dict[bytes, str] = {}
        self._stored: set[CommitId] = set()

    def run(self, read_data: bool) -> Report:
        checks = (
            self._check_access,
            self._check_config,
            lambda: self._check_packs(read_data),
            self._check_log,
            self._check_versions,
            self._check_working_layers,
        )
        for check in checks:
            try:
                check()
            except DamagedTables as error:
                # LMDB ends a process that reads such pages: nothing more is looked up in them.
                self._report.add(Damage(error.message, hint=error.hint))
                self._report.notes.append("the index is damaged: versions and working layers were not checked with it")
                break
            except Corrupt as error:
                # The other checks still run.
                self._report.add(Damage(error.message, hint=error.hint))
        return self._report

    def _check_access(self) -> None:
        """Notes who else may read the packs: repositories of older programs were as open as the umask said."""
        mode = stat.S_IMODE(self._repo.path.stat().st_mode)
        if mode & _OTHERS:
            self._report.notes.append(
                f"the repository's directory has the mode {mode:o}: others may read the bytes of all files, "
                f"whatever the files' own modes; `chmod 700 {show_path(os.fsencode(self._repo.path))}` ends that"
            )

    def _check_config(self) -> None:
        if decode_config(self._repo.backend.read(CONFIG)) != self._repo.config:
            self._report.add(Damage(f"{CONFIG} has changed since the repository was opened"))

    def _check_packs(self, read_data: bool) -> None:
        found = check_packs(
            self._repo.backend,
            self._repo.index,
            self._repo.store.compression,
            read_data=read_data,
            progress=self._progress,
        )
        self._bad.update(found.bad)
        self._stored = found.commits
        self._report.packs, self._report.objects = found.packs, found.objects
        self._report.bytes_read = found.bytes_read
        self._report.notes.extend(found.notes)
        for reason, hint in found.damage:
            self._report.add(Damage(reason, hint=hint))

    def _check_log(self) -> None:
        """Checks every line, and that the tables agree with the log."""
        for reason, hint in check_log(self._repo):
            self._report.add(Damage(reason, hint=hint))

    def _check_working_layers(self) -> None:
        """Checks what is not yet committed, also of layers that a live mount writes to."""
        found = check_layers(self._repo)
        self._report.notes.extend(found.notes)
        for reason in found.damage:
            self._report.add(Damage(f"{reason}; uncommitted changes are concerned, no version is"))

    def _check_versions(self) -> None:
        store = self._repo.store
        nodes = NodeChecker(store, self._bad)
        checker = VersionChecker(store, nodes, self._repo.config.tiny_bytes_max)
        order = self._commits()
        commits = {version.id: version.commit for version in order}
        right: set[bytes] = set()
        for done, version in enumerate(order):
            self._progress("versions", done, len(order))
            if self._repo.refs.is_forgotten(version.id):
                # Its record is all that is to be there.
                continue
            faults: list[tuple[bytes | None, str]] = []
            parent_id = CommitId(version.commit.parents[0]) if version.commit.parents else None
            parent = commits.get(parent_id) if parent_id is not None else None
            faults.extend((None, fault) for fault in _order_faults(version.commit, parent, parent_id))
            faults.extend(checker.check(version.commit, parent if parent_id in right else None))
            if faults and self._repo.refs.is_forgotten(version.id):
                # Meanwhile.
                continue
            for path, what in faults:
                self._report.add(Damage(what, path, (self._name(version.id),)))
            if not faults:
                right.add(version.id)
        self._report.versions, self._report.nodes, self._report.files = len(order), nodes.nodes, checker.files
        if self._bad:
            self._locate(order)
        repo = self._repo
        self._report.notes.extend(truncation_signs(repo.log, repo.refs, repo.store, self._stored - commits.keys()))

    def _commits(self) -> list[Version]:
        """Returns all commits that refs lead to and that can be read, parents before children."""
        order: list[Version] = []
        seen: set[bytes] = set()
        stack: list[tuple[CommitId, Version | None]] = [(commit_id, None) for _, commit_id in self._repo.refs.list()]
        while stack:
            commit_id, finished = stack.pop()
            if finished is not None:
                order.append(finished)
                continue
            if commit_id in seen:
                continue
            seen.add(commit_id)
            try:
                version = Version(commit_id, self._repo.store.get_commit(commit_id))
            except Corrupt as error:
                self._bad.pop(commit_id, None)
                self._report.add(Damage(error.message, None, (self._name(commit_id),)))
                continue
            stack.append((commit_id, version))
            stack.extend((CommitId(parent), None) for parent in version.commit.parents if parent not in seen)
        return order

    def _locate(self, order: list[Version]) -> None:
        """Reports the paths of versions that need damaged objects."""
        locator = Locator(self._repo.store, self._bad)
        purged, without = replaced_commits(self._repo.refs), []
        uses: dict[tuple[bytes, bytes], list[str]] = {}
        used: set[bytes] = set()
        for done, version in enumerate(order):
            self._progress("damage", done, len(order))
            if self._repo.refs.is_forgotten(version.id):
                continue
            for use in locator.uses(version.commit):
                used.add(use.object_id)
                if version.id.hex() in purged and not self._repo.index.has(use.object_id):
                    # Purged elsewhere, and a branch stands on it until it is pulled.
                    without.append(self._name(version.id))
                    continue
                key = (use.path, use.object_id)
                if key in uses or len(uses) < DAMAGE_MAX:
                    names = uses.setdefault(key, [])
                    # A file may use a chunk more than once.
                    if not names or names[-1] != self._name(version.id):
                        names.append(self._name(version.id))
                else:
                    self._report.omitted += 1
        for (path, object_id), names in uses.items():
            self._report.add(Damage(_reason(object_id, self._bad[object_id]), path, tuple(names)))
        if without:
            names_of = ", ".join(dict.fromkeys(without))
            self._report.notes.append(f"{names_of} lack what was purged at a remote: a pull replaces them")
        unused = len(self._bad.keys() - used)
        if unused:
            self._report.notes.append(f"{unused} damaged objects are used by no version")

    def _name(self, commit_id: CommitId) -> str:
        if commit_id not in self._names:
            self._names[commit_id] = self._repo.describe(commit_id).partition(" ")[0]
        return self._names[commit_id]


def _order_faults(commit: Commit, parent: Commit | None, parent_id: CommitId | None) -> Iterator[str]:
    """Yields what is wrong between a commit and its first parent (None: it cannot be read, which is damage itself)."""
    if parent_id is None and commit.number != 1:
        yield f"the commit says that it is number {commit.number} and has no parent"
    if parent is None:
        return
    if commit.number != parent.number + 1:
        yield f"the commit says that it is number {commit.number} and its parent is number {parent.number}"
    if commit.time_ns < parent.time_ns:
        yield "the commit is older than its parent"


def _reason(object_id: bytes, reason: str) -> str:
    digits = object_id.hex()
    return reason if digits[:16] in reason else f"object {digits}: {reason}"
