"""What used a file, a version or what a run wrote: which runs opened it, what they wrote, and what used that."""

from __future__ import annotations

from vfs.errors import NotFound
from vfs.history.path_history import PathFinder
from vfs.history.walk import first_parents
from vfs.model.ids import CommitId
from vfs.model.objects import Entry
from vfs.repo.lineage.lineage_nodes import (
    SAMPLES_MAX,
    Edge,
    FileNode,
    Lineage,
    RunNode,
    VersionNode,
    file_id,
    run_id,
    version_id,
)
from vfs.repo.lineage.origins import label_of
from vfs.repo.lineage.targets import FileTarget, RunTarget, Target, VersionTarget
from vfs.repo.lineage.trees_read_by_runs import COPY_BYTES_MIN, ReadTree, Trees, matches, matches_at, reads_of
from vfs.repo.repository import Repository
from vfs.repo.runs.run_tables import KnownRun, RunTables, Written

WRITTEN_MAX = 1000
"""Files of a run that its node names."""
_COUNTED_MAX = 2000
"""Files of one source that are compared with what a run opened; of more the count is the least."""


def used_by(repo: Repository, tables: RunTables, target: Target, *, depth: int | None = None) -> Lineage:
    """Returns what used a target; `depth`: how many runs in a row are followed, None for all."""
    uses = _Uses(repo, tables)
    if isinstance(target, FileTarget):
        found = uses.begin_file(target)
    elif isinstance(target, VersionTarget):
        found = uses.begin_version(target)
    else:
        found = uses.begin_run(target)
    level = 1
    while found:
        if depth is not None and level >= depth:
            if uses.users_of(found, only_ask=True):
                uses.graph.note("what used the files of these runs is left out by --depth")
            break
        found = uses.users_of(found)
        level += 1
    return uses.graph


class _Uses:
    def __init__(self, repo: Repository, tables: RunTables) -> None:
        self._repo = repo
        self._tables = tables
        self._trees = Trees(repo, tables)
        self.graph = Lineage("used-by", "")

    def begin_file(self, target: FileTarget) -> list[KnownRun]:
        """Adds the file, and the runs that opened it: this content with a version or from outside, else any."""
        node = FileNode(
            file_id(target.path, target.content),
            target.path,
            target.content,
            target.sha256,
            target.size,
            target.is_outside,
            self._held_by(target),
        )
        self.graph.target = node.id
        self.graph.add(node)

        def is_wanted(path: bytes, entry: Entry) -> bool:
            is_it = path == target.path and not target.is_outside
            return is_it or target.size >= COPY_BYTES_MIN

        found: dict[CommitId, KnownRun] = {}
        is_path_alone = not target.content and not target.is_outside
        sizes = {target.content: target.size} if target.content else {}
        holders = matches_at(self._trees, target.path) if is_path_alone else matches(self._trees, sizes, is_wanted)
        for read, files in holders:
            opened = [path for path, _ in files if self._tables.has_opened(read.run, read.place, path)]
            if opened:
                found[read.run.commit_id] = read.run
                self._used(read, node.id, opened, is_copy=target.path not in opened)
        if is_path_alone:
            self._opened_before_it_was_gone(target.path, node.id, found)
        return list(found.values())

    def _opened_before_it_was_gone(self, path: bytes, node: str, found: dict[CommitId, KnownRun]) -> None:
        """Adds runs that opened a path in versions that do not have it now: purge removes bytes, and keeps names."""
        finder = PathFinder(self._repo.store, path)
        for run in self._tables.runs.values():
            for read in self._trees.read_by(run):
                if run.commit_id in found or not self._tables.has_opened(run, read.place, path, by_name=True):
                    continue
                if read.version is None or finder.find(read.version.commit.root) is None:
                    found[run.commit_id] = run
                    self._used(read, node, [path])
                    self.graph.note("some runs opened a file at this path in a version that is gone or was purged")

    def _held_by(self, target: FileTarget) -> tuple[str, ...]:
        """Returns the versions of the current branch that have the file, as `v1` or `v1 to v11`."""
        head = self._repo.head(self._repo.branch)
        if head is None or target.is_outside:
            return ()
        finder = PathFinder(self._repo.store, target.path)
        numbers = []
        for version in first_parents(self._repo.store, head.id, leave_out=self._repo.refs.is_forgotten):
            entry = finder.find(version.commit.root)
            if entry is not None and (not target.content or entry.content == target.content):
                numbers.append(version.commit.number)
        return tuple(_ranges(sorted(numbers)))

    def begin_version(self, target: VersionTarget) -> list[KnownRun]:
        """Adds the version, and the runs that read it."""
        version = target.version
        node = VersionNode(version_id(version.id), label_of(self._repo, version), version)
        self.graph.target = node.id
        self.graph.add(node)
        found: dict[CommitId, KnownRun] = {}
        for read in reads_of(self._trees, version):
            run, source = read.run, read.source
            found[run.commit_id] = run
            self._add_run(run)
            self.graph.edges.append(Edge(run_id(run), node.id, "read", source.opened, source.files, read.known))
        return list(found.values())

    def begin_run(self, target: RunTarget) -> list[KnownRun]:
        """Adds the run. Raises NotFound."""
        run = self._tables.runs.get(target.run.commit_id)
        if run is None:
            raise NotFound(f"{target.run.name} has not ended, or its record cannot be read")
        self.graph.target = run_id(run)
        self._add_run(run)
        return [run]

    def users_of(self, runs: list[KnownRun], *, only_ask: bool = False) -> list[KnownRun]:
        """Adds the runs that opened what some runs wrote; returns those that are new."""
        writers: dict[bytes, list[tuple[KnownRun, Written]]] = {}
        for run in runs:
            for file in self._tables.written_by(run):
                if file.content:
                    writers.setdefault(file.content, []).append((run, file))
        sizes = {content: min(file.size for _, file in written) for content, written in writers.items()}

        def is_wanted(path: bytes, entry: Entry) -> bool:
            written = writers.get(entry.content)
            if written is None or not entry.size:
                return False
            return entry.size >= COPY_BYTES_MIN or any(file.path == path for _, file in written)

        new: dict[CommitId, KnownRun] = {}
        for read, files in matches(self._trees, sizes, is_wanted):
            used: dict[CommitId, list[bytes]] = {}
            for path, content in files[:_COUNTED_MAX]:
                if not self._tables.has_opened(read.run, read.place, path):
                    continue
                for writer in {run.commit_id: run for run, _ in writers[content]}.values():
                    if _can_have_read(read.run, writer):
                        used.setdefault(writer.commit_id, []).append(path)
            if used and run_id(read.run) not in self.graph.nodes:
                new[read.run.commit_id] = read.run
            if only_ask:
                continue
            for commit_id, opened in used.items():
                earlier = run_id(self._tables.runs[commit_id])
                self._used(read, earlier, opened, is_least=len(files) > _COUNTED_MAX)
        return list(new.values())

    def _used(
        self, read: ReadTree, earlier: str, opened: list[bytes], *, is_copy: bool = False, is_least: bool = False
    ) -> None:
        self._add_run(read.run)
        self.graph.edges.append(
            Edge(
                run_id(read.run),
                earlier,
                "used",
                len(opened),
                known=read.known,
                samples=tuple(opened[:SAMPLES_MAX]),
                is_copy=is_copy,
                is_least=is_least,
            )
        )

    def _add_run(self, run: KnownRun) -> None:
        if run_id(run) not in self.graph.nodes:
            written = self._tables.written_by(run)
            self.graph.add(RunNode(run_id(run), run, tuple(written[:WRITTEN_MAX])))


def _can_have_read(reader: KnownRun, writer: KnownRun) -> bool:
    """Returns True if a run may have read what another wrote, and is neither a part of it nor around it."""
    ours, theirs = reader.record, writer.record
    if ours.id == theirs.id or theirs.parent == ours.id or ours.parent == theirs.id:
        return False
    return theirs.start_ns < ours.end_ns


def _ranges(numbers: list[int]) -> list[str]:
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return [f"v{first}" if first == last else f"v{first} to v{last}" for first, last in found]
