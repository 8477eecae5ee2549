"""What differs between two trees. Equal nodes are skipped, so that the cost follows the change and not the trees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from vfs.model.ids import CommitId
from vfs.model.names import join_path
from vfs.model.nodes import ENTRIES
from vfs.model.objects import Entry, Kind, Version
from vfs.store.object_store import ObjectSource
from vfs.store.trees.map_diff import either, map_diff
from vfs.store.trees.maps import map_items

ChangeKind = Literal["added", "modified", "removed"]
Aspect = Literal["type", "content", "mode", "owner", "mtime", "xattrs", "links", "device"]


class PathChange(NamedTuple):
    """One path that differs; `old` is None where it was added, `new` where it was removed. The root's path is empty."""

    path: bytes
    kind: ChangeKind
    old: Entry | None
    new: Entry | None

    @property
    def aspects(self) -> tuple[Aspect, ...]:
        """What differs about a modified path; empty for an added or a removed one."""
        if self.old is None or self.new is None:
            return ()
        return aspects_between(self.old, self.new)

    @property
    def is_directory(self) -> bool:
        """Returns True if the path is a directory on the side where it exists (the new side where on both)."""
        entry = self.new if self.new is not None else self.old
        return entry is not None and entry.kind == Kind.DIR


def diff_trees(
    source: ObjectSource, old: Entry | None, new: Entry | None, path: bytes = b"", *, directory_times: bool = False
) -> Iterator[PathChange]:
    """Yields the paths that differ between two entries at `path` and below; None stands for nothing there.

    A directory comes before what is in it, names within a directory are in byte order. A directory that only one side
    has is listed with everything below it. A directory whose modification time alone differs is left out unless
    `directory_times`: adding a file does that to every directory.
    """
    # A stack instead of recursion: paths may be deeper than Python's.
    stack = [iter(((path, old, new),))]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        change = _change(*found, directory_times)
        if change is not None:
            yield change
        stack.append(_below(source, *found))


def _change(path: bytes, old: Entry | None, new: Entry | None, directory_times: bool) -> PathChange | None:
    if old is None or new is None:
        if old is None and new is None:
            return None
        return PathChange(path, "added" if old is None else "removed", old, new)
    aspects = aspects_between(old, new)
    if aspects == ("mtime",) and old.kind == Kind.DIR and not directory_times:
        return None
    return PathChange(path, "modified", old, new) if aspects else None


def _below(
    source: ObjectSource, path: bytes, old: Entry | None, new: Entry | None
) -> Iterator[tuple[bytes, Entry | None, Entry | None]]:
    for old_item, new_item in differing_names(source, old, new):
        name = either(old_item, new_item).name
        yield join_path(path, name), old_item, new_item


def aspects_between(old: Entry, new: Entry) -> tuple[Aspect, ...]:
    """Returns in what two entries of one path differ; the contents of directories do not count."""
    if old.kind != new.kind:
        return ("type",)
    found: list[Aspect] = []
    if old.kind != Kind.DIR and (old.content, old.form, old.size) != (new.content, new.form, new.size):
        found.append("content")
    if old.mode != new.mode:
        found.append("mode")
    if (old.uid, old.gid) != (new.uid, new.gid):
        found.append("owner")
    if old.mtime_ns != new.mtime_ns:
        found.append("mtime")
    if old.xattrs != new.xattrs:
        found.append("xattrs")
    if old.linked != new.linked:
        found.append("links")
    if old.rdev != new.rdev:
        found.append("device")
    return tuple(found)


class FileCounts(NamedTuple):
    """How many files differ between two trees; anything but a directory counts as a file."""

    added: int = 0
    modified: int = 0
    removed: int = 0


def count_files(source: ObjectSource, old: Entry | None, new: Entry | None) -> FileCounts:
    """Returns how many files were added, modified and removed from one entry to another; None stands for nothing there.

    A directory that one side alone has is counted from its entry, without reading what is below it.
    """
    added = modified = removed = 0
    stack = [(old, new)]
    while stack:
        before, after = stack.pop()
        if before is None or after is None or before.kind != after.kind:
            added += _files_in(after)
            removed += _files_in(before)
        elif before.kind == Kind.DIR:
            stack.extend(differing_names(source, before, after))
        elif aspects_between(before, after):
            modified += 1
    return FileCounts(added, modified, removed)


def count_changed_files(source: ObjectSource, version: Version) -> FileCounts:
    """Returns how many files a version added, modified and removed, against its first parent."""
    parents = version.commit.parents
    before = source.get_commit(CommitId(parents[0])).root if parents else None
    return count_files(source, before, version.commit.root)


def _files_in(entry: Entry | None) -> int:
    if entry is None:
        return 0
    return entry.files if entry.kind == Kind.DIR else 1


def differing_names(
    source: ObjectSource, old_entry: Entry | None, new_entry: Entry | None, after: bytes | None = None
) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Yields (old, new) for the names that differ in two directories; what is no directory counts as an empty one.

    With `after` only names above it, at the cost of those alone.
    """
    old, new = _directory_root(old_entry), _directory_root(new_entry)
    if old == new:
        return
    if not old:
        for item in map_items(source, ENTRIES, new, after):
            yield None, item
    elif not new:
        for item in map_items(source, ENTRIES, old, after):
            yield item, None
    else:
        yield from map_diff(source, ENTRIES, old, new, after)


def _directory_root(entry: Entry | None) -> bytes:
    return entry.content if entry is not None and entry.kind == Kind.DIR else b""


def file_bytes(entry: Entry | None) -> int:
    """Returns the size of a regular file, 0 for anything else."""
    return entry.size if entry is not None and entry.kind == Kind.FILE else 0
