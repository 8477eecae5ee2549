"""Two versions compared: the summary first, from the sums that directories carry; then names, a page at a time.

Sums say at once how many files and bytes a directory had and has. How many files differ is counted beside it:
exactly, in turns that a page asks for, and once for two trees, which never change.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import NotRequired, TypedDict

from vfs.api.documents import kind_name
from vfs.api.views.viewed_repository import LinkedVersion, ViewedRepository, checked
from vfs.errors import NotFound
from vfs.history.diff import FileCounts, aspects_between, differing_names
from vfs.model.names import join_path, path_text, show_path
from vfs.model.objects import Entry, Kind, Version
from vfs.store.object_store import ObjectSource

NAMES_A_PAGE = 100
COUNT_S = 0.12
"""How long a page counts before it is sent; what is left is counted while it is looked at."""
COUNT_MORE_S = 0.8
_AT_A_TIME = 256
_WAIT_MIN_S = 0.05


class SumsDocument(TypedDict):
    """Files and bytes on both sides."""

    old_files: int
    new_files: int
    old_bytes: int
    new_bytes: int


class CountDocument(TypedDict):
    """How many files differ, of `among` files on the larger side. Where not `exact`, at least so many."""

    added: int
    modified: int
    removed: int
    exact: bool
    among: int


class DifferingName(SumsDocument):
    """A name that differs in a directory. `change` is added, removed or modified; `what` says in what."""

    name: str
    path: str
    type: str
    change: str
    what: list[str]
    count: NotRequired[CountDocument]


class MetadataDifference(TypedDict):
    """A key of the metadata, metrics say, whose value differs; None where a side lacks it."""

    key: str
    old: str | None
    new: str | None


class ComparisonDocument(TypedDict):
    """A directory of two versions compared. `next` is the name to go on after, or None."""

    old: LinkedVersion
    new: LinkedVersion
    path: str
    type: str
    sums: SumsDocument
    count: CountDocument
    metadata: list[MetadataDifference]
    names: list[DifferingName]
    next: str | None


class _Counting:
    """Counts files that differ between two entries; goes on where it stopped."""

    def __init__(self, source: ObjectSource, old: Entry | None, new: Entry | None) -> None:
        self._source = source
        self._stack: list[Iterator[tuple[Entry | None, Entry | None]]] = [iter(((old, new),))]
        self.added = self.modified = self.removed = 0
        self.is_exact = False

    def go_on(self, deadline: float) -> None:
        """Counts until it is done or the time is over."""
        while self._stack:
            some = list(islice(self._stack[-1], _AT_A_TIME))
            if not some:
                self._stack.pop()
            for before, after in some:
                if before is None or after is None or before.kind != after.kind:
                    self.added += _files_in(after)
                    self.removed += _files_in(before)
                elif before.kind == Kind.DIR:
                    if before.content != after.content:
                        self._stack.append(differing_names(self._source, before, after))
                elif aspects_between(before, after):
                    self.modified += 1
            if time.monotonic() > deadline:
                return
        self.is_exact = True


def _files_in(entry: Entry | None) -> int:
    if entry is None:
        return 0
    return entry.files if entry.kind == Kind.DIR else 1


def _size(entry: Entry | None) -> int:
    return entry.size if entry is not None else 0


def _sums(old: Entry | None, new: Entry | None) -> SumsDocument:
    return {
        "old_files": _files_in(old),
        "new_files": _files_in(new),
        "old_bytes": _size(old),
        "new_bytes": _size(new),
    }


def count_changes(viewed: ViewedRepository, old: Entry | None, new: Entry | None, seconds: float) -> CountDocument:
    """Returns how many files differ, as far as can be counted in the time; the next call goes on from there."""
    key = (_identity(old), _identity(new))
    among = max(_files_in(old), _files_in(new))
    counts = viewed.counts.get(key)
    if counts is not None:
        return _count(counts, is_exact=True, among=among)
    # Another page may be counting: this one does not wait longer than it would count.
    if not viewed.counting.acquire(timeout=max(seconds, _WAIT_MIN_S)):
        return _count(FileCounts(), is_exact=False, among=among)
    try:
        counting = viewed.unfinished.get(key)
        if not isinstance(counting, _Counting):
            counting = _Counting(viewed.repository.store, old, new)
        counting.go_on(time.monotonic() + seconds)
        counts = FileCounts(counting.added, counting.modified, counting.removed)
        if counting.is_exact:
            viewed.unfinished.pop(key, None)
            viewed.keep_count(key, counts)
        else:
            viewed.keep_unfinished(key, counting)
    finally:
        viewed.counting.release()
    return _count(counts, is_exact=counting.is_exact, among=among)


def _identity(entry: Entry | None) -> bytes:
    return b"" if entry is None else bytes([entry.kind]) + entry.content + entry.size.to_bytes(8, "big")


def _count(counts: FileCounts, *, is_exact: bool, among: int) -> CountDocument:
    return {
        "added": counts.added,
        "modified": counts.modified,
        "removed": counts.removed,
        "exact": is_exact,
        "among": among,
    }


def sides(viewed: ViewedRepository, old: Version, new: Version, path: bytes) -> tuple[Entry | None, Entry | None]:
    """Returns the entries at a path of both versions. Raises NotFound where neither has it."""
    found = viewed.entry(old, path), viewed.entry(new, path)
    if found == (None, None):
        raise NotFound(f"neither version has {show_path(path)}")
    return found


def compare(
    viewed: ViewedRepository, old: Version, new: Version, path: bytes = b"", after: bytes | None = None
) -> ComparisonDocument:
    """Returns what differs at a path: sums, counts and the names that differ, from the first above `after` on."""
    path = checked(path)
    before, now = sides(viewed, old, new, path)
    entry = now if now is not None else before
    assert entry is not None
    started = time.monotonic()
    names: list[DifferingName] = []
    following = None
    for was, comes in differing_names(viewed.repository.store, before, now, after):
        if was is not None and comes is not None and was.kind == comes.kind == Kind.DIR and _same_but_time(was, comes):
            continue
        if len(names) == NAMES_A_PAGE:
            following = names[-1]["name"]
            break
        names.append(_differing(path, was, comes))
    count = count_changes(viewed, before, now, max(COUNT_S - (time.monotonic() - started), 0.01))
    tags = viewed.tags()
    return {
        "old": viewed.linked(old, tags),
        "new": viewed.linked(new, tags),
        "path": path_text(path),
        "type": kind_name(entry),
        "sums": _sums(before, now),
        "count": count,
        "metadata": _metadata(viewed, old, new),
        "names": names,
        "next": following,
    }


def _same_but_time(old: Entry, new: Entry) -> bool:
    return (old.content, old.tiny) == (new.content, new.tiny) and aspects_between(old, new) in ((), ("mtime",))


def _differing(path: bytes, old: Entry | None, new: Entry | None) -> DifferingName:
    entry = new if new is not None else old
    assert entry is not None
    change = "added" if old is None else "removed" if new is None else "modified"
    what = list(aspects_between(old, new)) if old is not None and new is not None else []
    if entry.kind == Kind.DIR:
        what = [each for each in what if each != "mtime"]
    found: DifferingName = {
        "name": path_text(entry.name),
        "path": path_text(join_path(path, entry.name)),
        "type": kind_name(entry),
        "change": change,
        "what": list(what),
        **_sums(old, new),  # type: ignore[typeddict-item]
    }
    return found


def _metadata(viewed: ViewedRepository, old: Version, new: Version) -> list[MetadataDifference]:
    before, now = viewed.metadata(old), viewed.metadata(new)
    return [
        {"key": key, "old": before.get(key), "new": now.get(key)}
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
