"""What happened to one path: the versions that changed it, found without opening the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from vfs.history.diff import ChangeKind, diff_trees
from vfs.history.renames import renamed_from
from vfs.model.names import split_path
from vfs.model.objects import Entry, Kind, Version
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import find_entry

RENAMES_AMONG_MAX = 100_000
"""Changes of one version among which an earlier name is looked for; where there are more, a file starts there."""


class PathRevision(NamedTuple):
    """A version that changed a path. `old` is what the version before has, `new` what this one has.

    `old_path` is another path than `path` where the file was moved, and is then where `old` was found.
    """

    version: Version
    path: bytes
    old_path: bytes
    old: Entry | None
    new: Entry | None

    @property
    def kind(self) -> ChangeKind:
        """What the version did to the path; a file that moved is modified."""
        if self.old is None:
            return "added"
        return "removed" if self.new is None else "modified"


class PathFinder:
    """Finds the entry of one path in one version after another.

    Remembers the directories on the way: where a version has the same directory as the one asked before, what is below
    is the same. So a version that changed nothing near the path costs no node at all.
    """

    def __init__(self, source: ObjectSource, path: bytes) -> None:
        self._source = source
        self._names = split_path(path)
        self._chain: list[Entry | None] = []

    def find(self, root: Entry) -> Entry | None:
        """Returns the entry in the version with this root, or None; links are not followed."""
        chain: list[Entry | None] = [root]
        before = self._chain
        for depth, name in enumerate(self._names):
            entry = chain[-1]
            if entry is None or entry.kind != Kind.DIR:
                chain.append(None)
                continue
            known = before[depth] if depth < len(before) else None
            if known is not None and known.kind == Kind.DIR and known.content == entry.content:
                chain += before[depth + 1 :]
                break
            chain.append(find_entry(self._source, entry, name))
        self._chain = chain
        return chain[-1]


def path_revisions(
    source: ObjectSource, versions: Iterable[Version], path: bytes, *, follow: bool = False
) -> Iterator[PathRevision]:
    """Yields the versions, newest first as given, whose entry at a path differs from that of the version behind them.

    Versions are those of a first-parent history; the last one counts as preceded by nothing. The time of a directory
    alone is no change. With `follow`, where the path appears, the file that has its content and is gone is taken for
    what it was before (vfs/history/renames.py), and its path is followed from there on.
    """
    finder = PathFinder(source, path)
    newer: Version | None = None
    newer_entry: Entry | None = None
    for version in versions:
        entry = finder.find(version.commit.root)
        if newer is not None and _differ(entry, newer_entry):
            old_path = path
            if follow and entry is None:
                changes = diff_trees(source, version.commit.root, newer.commit.root)
                listed = list(islice(changes, RENAMES_AMONG_MAX + 1))
                found = renamed_from(source, listed, path) if len(listed) <= RENAMES_AMONG_MAX else None
                if found is not None:
                    old_path, finder = found, PathFinder(source, found)
                    entry = finder.find(version.commit.root)
            yield PathRevision(newer, path, old_path, entry, newer_entry)
            path = old_path
        newer, newer_entry = version, entry
    if newer is not None and newer_entry is not None:
        yield PathRevision(newer, path, path, None, newer_entry)


def _differ(old: Entry | None, new: Entry | None) -> bool:
    if old is None or new is None:
        return old is not new
    if old.kind == new.kind == Kind.DIR:
        return (old.content, old.tiny, old.mode, old.uid, old.gid, old.xattrs) != (
            new.content,
            new.tiny,
            new.mode,
            new.uid,
            new.gid,
            new.xattrs,
        )
    return old != new


def path_contents(source: ObjectSource, versions: Iterable[Version], path: bytes) -> list[PathRevision]:
    """Returns the revisions that gave a regular file content that it never had before, oldest first.

    Versions are those of a first-parent history, newest first.
    """
    found: dict[tuple[object, ...], PathRevision] = {}
    for revision in reversed(list(path_revisions(source, versions, path))):
        if revision.new is not None and revision.new.kind == Kind.FILE:
            found.setdefault((revision.new.content, revision.new.form, revision.new.size), revision)
    return list(found.values())
