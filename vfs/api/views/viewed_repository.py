"""A repository that pages are made of: opened once, asked by several threads, never changed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Self, TypedDict

from vfs.api.documents import VersionDocument, version_document
from vfs.api.hints import hint_for_elsewhere
from vfs.api.views.view_cache import Kept
from vfs.errors import Busy, Corrupt, NotADirectory, NotFound, Notice
from vfs.formats.loaded_table import LoadedTable
from vfs.formats.sql_row_diff import ComparedTables
from vfs.history.diff import FileCounts
from vfs.model.ids import SHORT_HEX, CommitId
from vfs.model.layout import LATEST
from vfs.model.names import path_text, show_path, split_path
from vfs.model.objects import Entry, Kind, Version
from vfs.model.run_record import RunRecord
from vfs.repo.notes import described
from vfs.repo.repository import Repository
from vfs.repo.runs.made_by import run_names
from vfs.repo.runs.records import MADE_BY, RunRef, load_record, named
from vfs.repo.runs.run_tables import RunTables
from vfs.repo.tags import list_tags
from vfs.store.refs.operation import BRANCHES
from vfs.store.trees.directories import file_content, resolve_path
from vfs.store.trees.file_reader import FileReader

LINK_HEX = 16
"""Digits of a commit's id in links: they go on meaning the same version."""
_TABLES_KEPT = 4
_COMPARISONS_KEPT = 3
_THUMBNAILS_BYTES = 64 * 1024 * 1024
_COUNTS_KEPT = 256
_CURVES_KEPT = 64
_RECORDS_KEPT = 20_000
"""Of some 4 KB each, in a process for the page."""
_READ_SINGLY_MAX = 100
"""Records that are read one by one; more come from tables."""
_UNFINISHED_KEPT = 8


Curves = dict[str, tuple[int, list[tuple[float, float]]]]
"""Metrics of a run, by name: how many values there are, and the thinned points."""


class BranchDocument(TypedDict):
    """A branch and how many versions it has."""

    branch: str
    versions: int
    current: bool


class RepositoryDocument(TypedDict):
    """What every page says about its repository."""

    name: str
    path: str
    branch: str
    branches: list[BranchDocument]
    notices: list[str]


class LinkedVersion(VersionDocument):
    """A version with the name that links give it: digits of its id, which mean the same for ever."""

    link: str
    title: str


class OpenedFile(NamedTuple):
    """A regular file of a version: its entry and its bytes."""

    path: bytes
    entry: Entry
    reader: FileReader

    @property
    def key(self) -> str:
        """What is the same for the same content, whatever its name."""
        return f"{self.entry.form:d}-{self.entry.content.hex()}-{self.entry.size}"


class ViewedRepository:
    """An open repository with what pages keep between questions; a context manager."""

    def __init__(self, repository: Repository) -> None:
        """For `open`. The caller's temporary directory takes copies of tables that are looked at."""
        self.repository = repository
        self._directory = tempfile.TemporaryDirectory(prefix="vfs-page-")
        place = Path(self._directory.name)
        self.tables: Kept[LoadedTable] = Kept(place, _TABLES_KEPT, LoadedTable.close)
        self.comparisons: Kept[ComparedTables] = Kept(place, _COMPARISONS_KEPT, ComparedTables.close)
        self.counts: dict[tuple[bytes, bytes], FileCounts] = {}
        self.unfinished: dict[tuple[bytes, bytes], object] = {}
        self.counting = Lock()
        self.pictures: dict[str, bytes] = {}
        self._records: dict[CommitId, RunRecord] = {}
        self._curves: dict[CommitId, Curves] = {}
        self._keeping = Lock()
        self._reading = Lock()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens the repository at a path. Raises NotFound, Corrupt, Unsupported, Busy."""
        return cls(Repository.open(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.tables.close()
        self.comparisons.close()
        self._directory.cleanup()
        self.repository.close()

    def records(self, runs: Iterable[RunRef]) -> Iterator[tuple[RunRef, RunRecord]]:
        """Yields those of some runs that can be read, maybe without outputs, environment and notes.

        A record is read once, and again when its run went on.
        """
        wanted = list(runs)
        if sum(run.commit_id not in self._records for run in wanted) > _READ_SINGLY_MAX:
            self._read_together()
        for run in wanted:
            record = self._records.get(run.commit_id)
            if record is None:
                try:
                    record = load_record(self.repository, run)
                except Corrupt:
                    # `fsck` names it; one damaged record must not hide the others.
                    continue
                if len(self._records) >= _RECORDS_KEPT:
                    self._records.clear()
                self._records[run.commit_id] = record
            # Another run with its number may have come since.
            yield run, record if record.name == run.name else named(run, record)

    @contextmanager
    def run_tables(self) -> Iterator[RunTables]:
        """Yields the tables over runs, for one thread at a time."""
        with self._reading, RunTables.open(self.repository) as tables:
            yield tables

    def _read_together(self) -> None:
        """Keeps the records of all sealed runs, from tables."""
        with self._reading, suppress(Busy, OSError), RunTables.open(self.repository, in_memory=False) as tables:
            if len(self._records) + len(tables.runs) > _RECORDS_KEPT:
                self._records.clear()
            for commit_id in islice(tables.runs, _RECORDS_KEPT):
                self._records.setdefault(commit_id, tables.runs[commit_id].record)

    def kept_curves(self, record: CommitId) -> Curves | None:
        """Returns the thinned metrics of a run, by its record, where they are kept."""
        return self._curves.get(record)

    def keep_curves(self, record: CommitId, curves: Curves) -> None:
        """Caches the thinned metrics of a run, and evicts the oldest."""
        with self._keeping:
            self._curves[record] = curves
            while len(self._curves) > _CURVES_KEPT:
                self._curves.pop(next(iter(self._curves)))

    def keep_picture(self, key: str, data: bytes) -> None:
        """Caches a drawn image by its content, and evicts the oldest where they are too large together."""
        with self._keeping:
            self.pictures[key] = data
            while sum(map(len, self.pictures.values())) > _THUMBNAILS_BYTES and len(self.pictures) > 1:
                self.pictures.pop(next(iter(self.pictures)), None)

    def keep_count(self, key: tuple[bytes, bytes], counts: FileCounts) -> None:
        """Keeps counts of changed files between two trees, which never change."""
        self.counts[key] = counts
        while len(self.counts) > _COUNTS_KEPT:
            self.counts.pop(next(iter(self.counts)), None)

    def keep_unfinished(self, key: tuple[bytes, bytes], counting: object) -> None:
        """Caches a count that is not finished, and evicts the oldest."""
        self.unfinished[key] = counting
        while len(self.unfinished) > _UNFINISHED_KEPT:
            self.unfinished.pop(next(iter(self.unfinished)), None)

    def about(self, branch: str | None) -> RepositoryDocument:
        """Returns what every page says about the repository. Raises NotFound for a branch that is not there."""
        repo = self.repository
        if branch is not None:
            repo.require_branch(branch)
        current = repo.current_branch
        names = [name.removeprefix(BRANCHES) for name, _ in repo.refs.list(BRANCHES)]
        return {
            "name": repo.path.absolute().name,
            "path": path_text(os.fsencode(repo.path.absolute())),
            "branch": branch if branch is not None else current,
            "branches": [
                {"branch": name, "versions": repo.refs.version_count(name), "current": name == current}
                for name in names or [current]
            ],
            "notices": [_notice(notice, str(repo.path)) for notice in repo.notices],
        }

    def version(self, name: str, branch: str | None = None) -> Version:
        """Returns the version that a name stands for, the newest for none. Raises UnknownVersion and others."""
        found = self.repository.resolve(
            name or LATEST, branch if branch is not None else self.repository.current_branch
        )
        return described(self.repository, found)

    def before(self, version: Version) -> Version | None:
        """Returns the version that one was made on, or None for a first one or where that is forgotten."""
        parents = version.commit.parents
        if not parents or self.repository.refs.is_forgotten(CommitId(parents[0])):
            return None
        return described(
            self.repository, Version(CommitId(parents[0]), self.repository.store.get_commit(CommitId(parents[0])))
        )

    def linked(self, version: Version, tags: dict[CommitId, list[str]] | None = None) -> LinkedVersion:
        """Returns the document of a version with its link."""
        tags = self.tags() if tags is None else tags
        return {
            **version_document(version, tags),
            "meta": self.metadata(version),
            "link": version.id.hex()[:LINK_HEX],
            "title": f"{version.name} · {version.id.hex()[:SHORT_HEX]}",
        }

    def metadata(self, version: Version) -> dict[str, str]:
        """Returns the metadata of a version for display: the runs that made it are `by` and their names."""
        return {
            "by" if key == MADE_BY else key: ", ".join(run_names(self.repository, value)) if key == MADE_BY else value
            for key, value in version.commit.meta
        }

    def tags(self) -> dict[CommitId, list[str]]:
        """Returns the names of tags by commit."""
        found: dict[CommitId, list[str]] = {}
        for tag in list_tags(self.repository):
            found.setdefault(tag.commit_id, []).append(tag.name)
        return found

    def entry(self, version: Version, path: bytes) -> Entry | None:
        """Returns the entry at a path of a version, or None."""
        try:
            return self.require_entry(version, path)
        except (NotFound, NotADirectory):
            return None

    def require_entry(self, version: Version, path: bytes) -> Entry:
        """Returns the entry at a path of a version; raises NotFound."""
        return resolve_path(self.repository.store, version.commit.root, checked(path)).entry

    @contextmanager
    def file(self, version: Version, path: bytes) -> Iterator[OpenedFile]:
        """Opens a regular file. Raises NotFound."""
        checked(path)
        directory, entry = resolve_path(self.repository.store, version.commit.root, path)
        if directory is None or entry.kind != Kind.FILE:
            raise NotFound(f"{show_path(path) or '/'} is no regular file")
        yield OpenedFile(
            path, entry, FileReader(self.repository.store, file_content(self.repository.store, directory, entry))
        )


def _notice(notice: Notice, repository: str) -> str:
    words = hint_for_elsewhere(notice.hint, repository)
    return f"{notice.text}. {words}" if words else notice.text


def checked(path: bytes) -> bytes:
    """Returns a path that can be one, without doubled slashes; raises InvalidInput."""
    return b"/".join(split_path(path))
