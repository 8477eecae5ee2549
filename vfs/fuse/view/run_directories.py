"""`@/runs/r17/`: the files of a run's record, `outputs/` with what it wrote, and `inputs/` with exactly what it opened.

`inputs/` has the opened files at their paths; where a run read several sources, one directory for each of them first.
Nothing is copied: the files are those of the version.
"""

from __future__ import annotations

import bisect
import os
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import msgspec
from pyfuse3 import EntryAttributes

from vfs.errors import Conflict, NotFound, VfsError
from vfs.fuse import attributes
from vfs.fuse.inodes import Inode, InodeTable
from vfs.fuse.view.version_inodes import Held, VersionDirectory, VersionInodes
from vfs.fuse.view.virtual import VirtualDirectory
from vfs.model.names import join_path
from vfs.model.objects import Entry, Kind, Version
from vfs.model.run_record import Read, Source
from vfs.repo.repository import Repository
from vfs.repo.runs.observed import source_root
from vfs.repo.runs.records import RunRef, find_run, list_runs, load_manifest, load_record, run_version
from vfs.repo.runs.run_comparison import before_of
from vfs.store.trees.directories import entries, find_entry

INPUTS = b"inputs"
_NAME = re.compile(rb"r[1-9][0-9]{0,11}(-[0-9a-f]{1,16})?")


class RunDirectories:
    """The runs of a repository in a mount. Used by one thread."""

    def __init__(self, repo: Repository, versions: VersionInodes, table: InodeTable) -> None:
        self.repo = repo
        self.versions = versions
        self.owner = (os.getuid(), os.getgid())
        self._table = table

    def names(self) -> Iterator[bytes]:
        """Yields the names of all runs: `r17`, or `r17-3f9a` where several have the number."""
        return (run.name.encode() for run in list_runs(self.repo))

    def find(self, name: bytes) -> tuple[Inode, EntryAttributes] | None:
        """Returns the directory of a run, admitted, or None."""
        if _NAME.fullmatch(name) is None:
            return None
        try:
            return self.admitted(RunDirectory(self, find_run(self.repo, name.decode())))
        except (NotFound, Conflict):
            return None

    def admitted(self, made: RunDirectory | InputsDirectory) -> tuple[Inode, EntryAttributes]:
        """Returns a directory as the table has it, with its attributes."""
        inode = self._table.admit(made, made.key, made.bits)
        return inode, inode.attributes()

    def file(self, version: Version, path: bytes, directory: Entry, entry: Entry) -> tuple[Held, EntryAttributes]:
        """Returns an entry of a commit's tree, admitted, with its attributes."""
        place = VersionDirectory(version, path, directory, at_head=False)
        inode = self.versions.child(place, entry)
        return inode, attributes.of_entry(entry, inode.ino, inode.nlink)


class RunDirectory(VirtualDirectory):
    """One run: its record's files and `inputs`."""

    def __init__(self, runs: RunDirectories, run: RunRef) -> None:
        super().__init__(b"u" + run.commit_id + run.ref.encode())
        self._runs = runs
        self.run = run

    @cached_property
    def version(self) -> Version:
        """The commit of the record."""
        return run_version(self._runs.repo, self.run)

    @cached_property
    def sources(self) -> list[tuple[bytes, Source, Read, Version]]:
        """The sources whose data is there: the name of a directory, what was read, and the commit with the tree."""
        repo = self._runs.repo
        try:
            record = load_record(repo, self.run)
            before = before_of(repo, self.run, record)
            reads = load_manifest(repo, self.run).reads
        except VfsError:
            return []
        found = []
        for source, read in zip(record.sources, reads, strict=False):
            root = source_root(repo, source, before)
            if root is not None and (read.opened or read.is_all):
                commit = msgspec.structs.replace(self.version.commit, root=root)
                name = f"{source.branch}@v{source.number}" if source.branch else source.commit[:8]
                found.append((name.encode(), source, read, Version(self.version.id, commit)))
        return found

    @property
    def lasting(self) -> bool:
        """True: another record of the run is another directory."""
        return True

    def attributes(self) -> EntryAttributes:
        """Returns those of a list; the name may lead to another record in a second."""
        attr = attributes.of_listing(self.ino, self.version.commit.time_ns, self._runs.owner)
        attr.entry_timeout = attributes.HEAD_S
        return attr

    def prepare(self) -> None:
        """Reads the record and the manifest."""
        _ = self.sources

    def entries(self, after: bytes | None) -> Iterator[tuple[bytes, Any]]:
        """Yields the names in order."""
        names = {entry.name: entry for entry in entries(self._runs.repo.store, self.version.commit.root)}
        for name in sorted({*names, INPUTS}):
            if after is None or name > after:
                yield name, names.get(name)

    def child(self, name: bytes) -> tuple[Held, EntryAttributes] | None:
        """Returns a file of the record, `outputs` or `inputs`."""
        if name == INPUTS:
            return self.listed(name, None)
        entry = find_entry(self._runs.repo.store, self.version.commit.root, name)
        return self.listed(name, entry) if entry is not None else None

    def listed(self, name: bytes, item: Any) -> tuple[Held, EntryAttributes] | None:
        """Returns what `child` would for an entry that was listed just now."""
        if item is None:
            return self._runs.admitted(InputsDirectory(self._runs, self, None, b""))
        return self._runs.file(self.version, b"", self.version.commit.root, item)


class InputsDirectory(VirtualDirectory):
    """`inputs`, or a directory in it. `place`: which source, None for the list of several."""

    def __init__(self, runs: RunDirectories, above: RunDirectory, place: int | None, path: bytes) -> None:
        number = b"" if place is None else b"%d" % place
        super().__init__(b"i" + above.run.commit_id + number + b"\0" + path)
        self._runs = runs
        self._above = above
        self._place = place
        self._path = path

    @property
    def lasting(self) -> bool:
        """True: a record never changes."""
        return True

    def attributes(self) -> EntryAttributes:
        """Returns those of a list."""
        return attributes.of_listing(self.ino, self._above.version.commit.time_ns, self._runs.owner)

    def prepare(self) -> None:
        """Reads the record and the manifest."""
        self._above.prepare()

    @property
    def _source(self) -> int | None:
        """The source that it shows: the only one, too."""
        return 0 if self._place is None and len(self._above.sources) == 1 else self._place

    def entries(self, after: bytes | None) -> Iterator[tuple[bytes, Any]]:
        """Yields the names in order."""
        for name in self._names():
            if after is None or name > after:
                yield name, None

    def _names(self) -> Iterator[bytes]:
        source = self._source
        if source is None:
            yield from sorted(name for name, _, _, _ in self._above.sources)
            return
        _, _, read, version = self._above.sources[source]
        if read.is_all:
            directory = self._directory(version)
            if directory is not None:
                yield from (entry.name for entry in entries(self._runs.repo.store, directory))
            return
        prefix = self._path + b"/" if self._path else b""
        # Paths are sorted as bytes, and names of directories by themselves.
        names = {path[len(prefix) :].partition(b"/")[0] for path in self._below(read, prefix)}
        yield from sorted(names)

    @staticmethod
    def _below(read: Read, prefix: bytes) -> Iterator[bytes]:
        at = bisect.bisect_left(read.opened, prefix)
        while at < len(read.opened) and read.opened[at].startswith(prefix):
            yield read.opened[at]
            at += 1

    def _directory(self, version: Version) -> Entry | None:
        directory: Entry | None = version.commit.root
        for name in filter(None, self._path.split(b"/")):
            if directory is None or directory.kind != Kind.DIR:
                return None
            directory = find_entry(self._runs.repo.store, directory, name)
        return directory

    def child(self, name: bytes) -> tuple[Held, EntryAttributes] | None:
        """Returns an opened file, or a directory that has some below it."""
        source = self._source
        if source is None:
            for place, (shown, _, _, _) in enumerate(self._above.sources):
                if shown == name:
                    return self._runs.admitted(InputsDirectory(self._runs, self._above, place, b""))
            return None
        _, _, read, version = self._above.sources[source]
        directory = self._directory(version)
        entry = find_entry(self._runs.repo.store, directory, name) if directory is not None else None
        if entry is None or directory is None:
            return None
        path = join_path(self._path, name)
        if entry.kind == Kind.DIR:
            if not read.is_all and next(self._below(read, path + b"/"), None) is None:
                return None
            return self._runs.admitted(InputsDirectory(self._runs, self._above, source, path))
        if not read.is_all and next(self._below(read, path), None) != path:
            return None
        if entry.linked:
            # The link map is that of the version; here the name stands for itself.
            entry = msgspec.structs.replace(entry, linked=False)
        return self._runs.file(version, self._path, directory, entry)

    def listed(self, name: bytes, item: Any) -> tuple[Held, EntryAttributes] | None:
        """Returns what `child` would for an entry that was listed just now."""
        return self.child(name)
