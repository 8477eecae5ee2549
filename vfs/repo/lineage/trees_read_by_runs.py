"""The trees that runs read, and the files in them that some run wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from vfs.errors import VfsError
from vfs.history.diff import differing_names
from vfs.history.path_history import PathFinder
from vfs.model.names import join_path
from vfs.model.objects import Entry, Kind, Version
from vfs.model.run_record import Source
from vfs.repo.repository import Repository
from vfs.repo.runs.records import find_version, is_named
from vfs.repo.runs.run_tables import KnownRun, RunTables
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import entries
from vfs.store.trees.map_diff import either

COPY_BYTES_MIN = 128
"""Smallest file that is taken for another one's copy by its content alone: short ones are equal by chance."""


class ReadTree(NamedTuple):
    """A source of a run: its place in the record, and the commit whose tree it is; None where that is gone."""

    run: KnownRun
    place: int
    source: Source
    version: Version | None

    @property
    def is_snapshot(self) -> bool:
        """True for a working layer with changes."""
        return self.source.known == "snapshot"

    @property
    def known(self) -> str:
        """How the version is known: `by-number` where its commit is not here, after a purge or in another clone."""
        is_other = self.version is not None and not self.is_snapshot and not is_named(self.source, self.version)
        return "by-number" if is_other else self.source.known


class _Directory(NamedTuple):
    files: tuple[tuple[bytes, bytes, int], ...]
    """Files that some run wrote: name, content, size."""
    below: tuple[Entry, ...]


class Trees:
    """The trees of sources; what is known of a directory is kept, and versions share directories."""

    def __init__(self, repo: Repository, tables: RunTables) -> None:
        self.repo = repo
        self.tables = tables
        self._versions: dict[tuple[str, str, int], Version | None] = {}
        self._directories: dict[bytes, _Directory] = {}
        self._is_written: dict[bytes, bool] = {}

    def read_by(self, run: KnownRun) -> Iterator[ReadTree]:
        """Yields what a run read."""
        for place, source in enumerate(run.record.sources):
            if source.opened or source.listed:
                yield ReadTree(run, place, source, self.version_of(run, source))

    def version_of(self, run: KnownRun, source: Source) -> Version | None:
        """Returns the commit that a source of a run is, None where it is gone."""
        if source.known == "snapshot":
            key = (run.snapshot.hex() if run.snapshot is not None else "", "", 0)
        else:
            key = (source.commit, source.branch, source.number)
        if key not in self._versions:
            try:
                self._versions[key] = find_version(self.repo, *key) if key[0] or key[1] else None
            except VfsError:
                # A record from elsewhere may name anything.
                self._versions[key] = None
        return self._versions[key]

    def written_files(self, root: Entry) -> Iterator[tuple[bytes, bytes, int]]:
        """Yields (path, content, size) of the files below a root that some run wrote, there or elsewhere."""
        stack = [(b"", root)]
        while stack:
            path, entry = stack.pop()
            directory = self._directory(entry)
            for name, content, size in directory.files:
                yield join_path(path, name), content, size
            stack += [(join_path(path, below.name), below) for below in reversed(directory.below)]

    def _directory(self, entry: Entry) -> _Directory:
        found = self._directories.get(entry.content)
        if found is None:
            files, below = [], []
            for child in entries(self.repo.store, entry) if entry.content else ():
                if child.kind == Kind.DIR:
                    below.append(child)
                elif child.kind == Kind.FILE and child.size and self._written(child.content):
                    files.append((child.name, child.content, child.size))
            found = self._directories[entry.content] = _Directory(tuple(files), tuple(below))
        return found

    def _written(self, content: bytes) -> bool:
        found = self._is_written.get(content)
        if found is None:
            found = self._is_written[content] = self.tables.is_written(content)
        return found


def reads_of(trees: Trees, version: Version) -> Iterator[ReadTree]:
    """Yields the sources of all runs that are a version, or a working layer with changes over it."""
    for run in trees.tables.runs.values():
        for read in trees.read_by(run):
            is_it = read.version is not None and read.version.id == version.id
            if is_it or (read.is_snapshot and read.source.commit == version.id.hex()):
                yield read


Match = tuple[ReadTree, list[tuple[bytes, bytes]]]
"""A source, and the (path, content) of files in it that are looked for."""


def matches(trees: Trees, sizes: Mapping[bytes, int], is_wanted: Callable[[bytes, Entry], bool]) -> Iterator[Match]:
    """Yields the sources of all runs that hold wanted files, with these; `sizes`: the contents that are asked about.

    One tree is walked, of the others what differs from the one before: neighbours on a branch share nearly all.
    """
    contents = _stored(trees.repo, sizes)
    if not contents:
        return
    found: dict[bytes, bytes] = {}
    before: Entry | None = None
    for root, reads in _by_root(trees):
        for path, old, new in _differing_files(trees.repo.store, before, root, contents):
            if old is not None:
                found.pop(path, None)
            if new is not None and is_wanted(path, new):
                found[path] = new.content
        before = root
        if found:
            listed = sorted(found.items())
            for read in reads:
                yield read, listed


def _stored(repo: Repository, sizes: Mapping[bytes, int]) -> set[bytes]:
    """Returns the contents that a version may have: models are mostly written outside, and no tree need be read."""
    tiny_max = repo.config.tiny_bytes_max
    # Tiny files stand in their directories, and the index does not know them.
    return {content for content, size in sizes.items() if size <= tiny_max or repo.index.has(content)}


def _differing_files(
    source: ObjectSource, old_root: Entry | None, root: Entry, contents: set[bytes]
) -> Iterator[tuple[bytes, Entry | None, Entry | None]]:
    """Yields (path, old, new) of files that differ and have some content, now or before; None for another content.

    A whole tree may differ, and nearly none of it counts, so `diff_trees` would make most paths and changes in vain.
    """

    def kept(entry: Entry | None) -> Entry | None:
        is_kept = entry is not None and entry.content in contents and entry.kind == Kind.FILE
        return entry if is_kept else None

    stack: list[tuple[bytes, Entry | None, Entry | None]] = [(b"", old_root, root)]
    while stack:
        above, old_above, new_above = stack.pop()
        for old, new in differing_names(source, old_above, new_above):
            name = either(old, new).name
            if (old is not None and old.kind == Kind.DIR) or (new is not None and new.kind == Kind.DIR):
                stack.append((join_path(above, name), old, new))
            old, new = kept(old), kept(new)
            if old is not None or new is not None:
                yield join_path(above, name), old, new


def matches_at(trees: Trees, path: bytes) -> Iterator[Match]:
    """Yields the sources of all runs that hold a file at a path, whatever its content; no tree is walked."""
    finder = PathFinder(trees.repo.store, path)
    for root, reads in _by_root(trees):
        entry = finder.find(root)
        if entry is not None and entry.kind == Kind.FILE:
            for read in reads:
                yield read, [(path, entry.content)]


def _by_root(trees: Trees) -> list[tuple[Entry, list[ReadTree]]]:
    """Returns the trees of sources, each with those that are it, in the order of branches and versions."""
    by_root: dict[bytes, tuple[Entry, list[ReadTree]]] = {}
    for run in trees.tables.runs.values():
        for read in trees.read_by(run):
            if read.version is not None:
                root = read.version.commit.root
                by_root.setdefault(root.content, (root, []))[1].append(read)
    return sorted(by_root.values(), key=lambda each: (each[1][0].source.branch, each[1][0].source.number))
