"""What made a file, a version or a run, down to the first inputs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from vfs.errors import NotFound
from vfs.history.diff import diff_trees
from vfs.history.path_history import path_revisions
from vfs.history.walk import first_parents
from vfs.model.ids import SHORT_HEX, CommitId
from vfs.model.objects import Entry, Kind, Version
from vfs.repo.lineage.lineage_nodes import (
    SAMPLES_MAX,
    Edge,
    FileNode,
    Lineage,
    Relation,
    RunNode,
    VersionNode,
    file_id,
    run_id,
    version_id,
)
from vfs.repo.lineage.targets import FileTarget, RunTarget, Target
from vfs.repo.lineage.trees_read_by_runs import COPY_BYTES_MIN, ReadTree, Trees
from vfs.repo.repository import Repository
from vfs.repo.runs.records import MADE_BY, RunRef
from vfs.repo.runs.run_tables import KnownRun, RunTables, Writer

_WRITERS_MAX = 20
"""Runs that are named where all of them wrote a file that is asked for."""
_TRACED_MAX = 30
"""Versions of which the first inputs are looked for in the history; each may have to be compared with all before it."""
_HISTORY_MAX = 5000
_NAMING_MAX = 1000
"""Versions that are looked at for the name of a run."""
_ORIGINS_MAX = 100
"""Versions that are named as the first inputs of one version, those with most files."""


@dataclass(slots=True)
class _Group:
    """Files with one origin."""

    files: int = 0
    samples: list[bytes] = field(default_factory=list)
    is_copy: bool = True

    def add(self, path: bytes, *, is_copy: bool = False) -> None:
        self.files += 1
        self.is_copy = self.is_copy and is_copy
        if len(self.samples) < SAMPLES_MAX:
            self.samples.append(path)

    def edge(self, later: str, earlier: str, relation: Relation) -> Edge:
        return Edge(later, earlier, relation, self.files, samples=tuple(self.samples), is_copy=self.is_copy)


def made_by(repo: Repository, tables: RunTables, target: Target, *, depth: int | None = None) -> Lineage:
    """Returns what made a target; `depth`: how many runs in a row are followed, None for all. Raises NotFound."""
    origins = _Origins(repo, tables, depth)
    if isinstance(target, FileTarget):
        origins.begin_file(target)
    elif isinstance(target, RunTarget):
        origins.begin_run(target.run)
    else:
        origins.begin_version(target.version)
    origins.follow()
    return origins.graph


class _Origins:
    def __init__(self, repo: Repository, tables: RunTables, depth: int | None) -> None:
        self._repo = repo
        self._tables = tables
        self._trees = Trees(repo, tables)
        self._by_id = {run.record.id: run for run in tables.runs.values()}
        self._depth = depth
        self._queue: deque[tuple[KnownRun, int]] = deque()
        self._traced = 0
        self._linked: set[tuple[str, str]] = set()
        self.graph = Lineage("made-by", "")

    def begin_file(self, target: FileTarget) -> None:
        node = FileNode(
            file_id(target.path, target.content),
            target.path,
            target.content,
            target.sha256,
            target.size,
            target.is_outside,
        )
        self.graph.target = node.id
        self.graph.add(node)
        introduced = self._introduced(target)
        writers = self._tables.writers(target.content) if target.content and target.size else []
        if not writers and target.sha256 and target.size:
            writers = self._tables.writers(bytes.fromhex(target.sha256))
        at_path = [each for each in writers if each.file.path == target.path]
        before = introduced.commit.time_ns if introduced is not None else None
        chosen = self._without_surroundings(at_path or writers)
        if before is not None:
            chosen = [each for each in chosen if each.run.record.start_ns <= before] or chosen
        if len(chosen) > _WRITERS_MAX:
            self.graph.note(f"{len(chosen)} runs wrote the same bytes; the newest {_WRITERS_MAX} are here")
        # The first one first: those after it may have copied the file.
        for writer in reversed(chosen[:_WRITERS_MAX]):
            is_copy = writer.file.path != target.path
            samples = (writer.file.path,) if is_copy else ()
            self._add_run(writer.run, 1)
            self._link(Edge(node.id, run_id(writer.run), "written-by", 1, samples=samples, is_copy=is_copy))
        if not chosen and introduced is not None:
            self._add_version(introduced)
            self._link(Edge(node.id, version_id(introduced.id), "came-with", 1))
            self._committed_by(introduced)

    def _introduced(self, target: FileTarget) -> Version | None:
        """Returns the version that introduced a file's content, going back from the one where it stands."""
        if target.version is None:
            return None
        history = first_parents(self._repo.store, target.version.id, leave_out=self._repo.refs.is_forgotten)
        for revision in path_revisions(self._repo.store, history, target.path):
            old = revision.old
            if old is None or (old.content, old.size) != (target.content, target.size):
                return revision.version
        return target.version

    def begin_run(self, ref: RunRef) -> None:
        run = self._tables.runs.get(ref.commit_id)
        if run is None:
            raise NotFound(f"{ref.name} has not ended, or its record cannot be read: what it read is not known yet")
        self.graph.target = run_id(run)
        self._add_run(run, 0)

    def begin_version(self, version: Version) -> None:
        node = self._add_version(version)
        self.graph.target = node.id
        self._files_of(node.id, version.commit.root, version, None, 0)
        self._committed_by(version)

    def follow(self) -> None:
        """Follows runs to what they read, until nothing is left."""
        while self._queue:
            run, depth = self._queue.popleft()
            if self._depth is not None and depth > self._depth:
                self.graph.note(f"what is before {run.record.name} is left out by --depth")
                continue
            for read in self._trees.read_by(run):
                self._read(read, depth)

    def _read(self, read: ReadTree, depth: int) -> None:
        source = read.source
        commit_id = read.version.id if read.version is not None else CommitId(bytes.fromhex(source.commit))
        node = VersionNode(version_id(commit_id), _label(source.branch, source.number, source.commit), read.version)
        if read.is_snapshot:
            node = VersionNode(f"{version_id(commit_id)}:{run_id(read.run)}", node.label, read.version, True)
        elif read.version is not None and source.opened < source.files:
            # What came from where is that of the opened files, which differ from run to run.
            node = VersionNode(f"{version_id(commit_id)}:{run_id(read.run)}", node.label, read.version)
        self._link(Edge(run_id(read.run), node.id, "read", source.opened, source.files, read.known))
        if not self.graph.add(node):
            return
        if read.version is None:
            self.graph.note(f"{node.label} is gone: what it was made by is not known any more")
            return
        self._files_of(node.id, read.version.commit.root, read.version, read, depth)
        self._committed_by(read.version, node.id)

    def _files_of(self, node: str, root: Entry, version: Version, read: ReadTree | None, depth: int) -> None:
        """Adds where the files of a tree come from, of those that a run opened."""
        groups: dict[CommitId, _Group] = {}
        written: set[bytes] = set()
        for path, content, size in self._trees.written_files(root):
            if read is not None and not self._tables.has_opened(read.run, read.place, path):
                continue
            writer = self._writer(path, content, size, read.run if read is not None else None, version)
            if writer is not None:
                written.add(path)
                groups.setdefault(writer.run.commit_id, _Group()).add(path, is_copy=writer.file.path != path)
        for commit_id, group in groups.items():
            run = self._tables.runs[commit_id]
            self._add_run(run, depth + 1)
            self._link(group.edge(node, run_id(run), "written-by"))
        self._first_inputs(node, version, read, written)

    def _writer(
        self, path: bytes, content: bytes, size: int, reader: KnownRun | None, version: Version
    ) -> Writer | None:
        """Returns the last run that wrote a file before it was read; copies count where they are no chance."""
        writers = self._tables.writers(content)
        found = [each for each in writers if each.file.path == path]
        if not found and size >= COPY_BYTES_MIN:
            found = writers
        if reader is not None:
            around = set(self._around(reader))
            found = [each for each in found if each.run.record.id not in around and each.run is not reader]
            earlier = [each for each in found if each.run.record.end_ns <= reader.record.start_ns]
            # A step that is still going on may hand its files to the next one.
            found = earlier or [each for each in found if each.run.record.start_ns < reader.record.end_ns]
        else:
            found = [each for each in found if each.run.record.start_ns <= version.commit.time_ns]
        return next(iter(self._without_surroundings(found)), None)

    def _around(self, run: KnownRun) -> Iterator[str]:
        """Yields the ids of the runs around a run."""
        seen = {run.record.id}
        parent = run.record.parent
        while parent and parent not in seen:
            yield parent
            seen.add(parent)
            outer = self._by_id.get(parent)
            parent = outer.record.parent if outer is not None else ""

    def _without_surroundings(self, writers: list[Writer]) -> list[Writer]:
        """Leaves out pipelines where the step is there that wrote the file: what a step does counts for both."""
        outer = {outer for each in writers for outer in self._around(each.run)}
        inner = [each for each in writers if each.run.record.id not in outer]
        return list({each.run.commit_id: each for each in reversed(inner or writers)}.values())[::-1]

    def _first_inputs(self, node: str, version: Version, read: ReadTree | None, written: set[bytes]) -> None:
        """Adds the versions that introduced the files which no run wrote."""
        if self._traced >= _TRACED_MAX:
            self.graph.note(f"first inputs are followed for {_TRACED_MAX} versions; of others they are left out")
            return
        self._traced += 1
        groups: dict[CommitId, _Group] = {}
        versions: dict[CommitId, Version] = {}
        for origin, path in _brought(self._repo, version, read):
            if path in written:
                continue
            if read is not None and not self._tables.has_opened(read.run, read.place, path):
                continue
            versions[origin.id] = origin
            groups.setdefault(origin.id, _Group(is_copy=False)).add(path)
        most = sorted(groups, key=lambda commit_id: groups[commit_id].files, reverse=True)
        if len(most) > _ORIGINS_MAX:
            left = sum(groups[commit_id].files for commit_id in most[_ORIGINS_MAX:])
            self.graph.note(f"{left} files came with {len(most) - _ORIGINS_MAX} more versions, which are left out")
        for commit_id in most[:_ORIGINS_MAX]:
            origin = versions[commit_id]
            if commit_id == version.id and version_id(commit_id) == node:
                continue
            self._add_version(origin)
            self._link(groups[commit_id].edge(node, version_id(commit_id), "came-with"))

    def _committed_by(self, version: Version, node: str = "") -> None:
        """Adds the runs that a version's metadata names and that are not there yet: their outputs may be gone."""
        later = node or version_id(version.id)
        for run in makers_of(version, self._by_id):
            if (later, run_id(run)) not in self._linked:
                self._add_run(run, 1)
                self._link(Edge(later, run_id(run), "committed-by"))

    def _link(self, edge: Edge) -> None:
        self._linked.add((edge.later, edge.earlier))
        self.graph.edges.append(edge)

    def _add_run(self, run: KnownRun, depth: int) -> None:
        if self.graph.add(RunNode(run_id(run), run)):
            self._queue.append((run, depth))

    def _add_version(self, version: Version) -> VersionNode:
        node = VersionNode(version_id(version.id), label_of(self._repo, version), version)
        self.graph.add(node)
        return node


def _brought(repo: Repository, version: Version, read: ReadTree | None) -> Iterator[tuple[Version, bytes]]:
    """Yields each file of a version with the version that added it its content, newest first."""
    history = first_parents(repo.store, version.id, leave_out=repo.refs.is_forgotten)
    if read is not None and read.is_snapshot:
        base = None
        if read.source.commit:
            base = CommitId(bytes.fromhex(read.source.commit))
        if base is not None and repo.index.has(base):
            history = _chained(version, first_parents(repo.store, base, leave_out=repo.refs.is_forgotten))
    newer: Version | None = None
    taken: set[bytes] = set()
    for count, older in enumerate(history):
        if newer is not None:
            yield from _changed(repo, older.commit.root, newer, taken)
        newer = older
        if count > _HISTORY_MAX:
            break
    if newer is not None:
        yield from _changed(repo, None, newer, taken)


def _chained(first: Version, rest: Iterator[Version]) -> Iterator[Version]:
    yield first
    yield from rest


def _changed(repo: Repository, old: Entry | None, new: Version, taken: set[bytes]) -> Iterator[tuple[Version, bytes]]:
    for change in diff_trees(repo.store, old, new.commit.root):
        if change.new is None or change.new.kind == Kind.DIR:
            # What an older version has there is not in the one that is asked for.
            taken.add(change.path)
        elif change.path not in taken and (
            change.old is None or "content" in change.aspects or "type" in change.aspects
        ):
            taken.add(change.path)
            yield new, change.path


def makers_of(version: Version, by_id: Mapping[str, KnownRun]) -> Iterator[KnownRun]:
    """Yields the runs that a version's metadata names, of those that are here."""
    for word in dict(version.commit.meta).get(MADE_BY, "").split()[:_WRITERS_MAX]:
        run = by_id.get(word.partition("-")[2])
        if run is not None:
            yield run


def versions_made_by(repo: Repository, run: RunRef) -> Iterator[Version]:
    """Yields the versions of the current branch whose metadata names a run, of the newest ones."""
    for version in islice(repo.versions(), _NAMING_MAX):
        if run.ref in dict(version.commit.meta).get(MADE_BY, "").split():
            yield version


def label_of(repo: Repository, version: Version) -> str:
    """Returns `main@v12` for a version of a branch, the current one first, else the digits of a commit."""
    branches = [repo.branch, *(name.removeprefix("branches/") for name, _ in repo.refs.list("branches/"))]
    for branch in branches:
        number = repo.refs.number_on(branch, version.id)
        if number is not None:
            return _label(branch, number, version.id.hex())
    return _label("", 0, version.id.hex())


def _label(branch: str, number: int, commit: str) -> str:
    if branch and number:
        return f"{branch}@v{number}"
    return commit[:SHORT_HEX] if commit else f"{branch} before its first version"
