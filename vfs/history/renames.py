"""Renames among changes, found by content: a file removed at one path and added at another has moved.

Trees are named by their content, so a directory that moved whole is one comparison of ids, whatever is in it. A file
that moved and was changed is known by the chunks that both have, where it is large enough to have several.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Literal, NamedTuple

from vfs.history.diff import Aspect, PathChange, aspects_between
from vfs.model.objects import Entry, Form, Kind
from vfs.store.object_store import ObjectSource
from vfs.store.trees.chunk_lists import list_runs

SIMILARITY_MIN = 0.5
"""The share of the larger file's bytes that both must have in common."""
LISTS_MAX = 2000
"""Chunk lists that are read at most in search of similar files; files beyond are matched by whole content alone."""


RENAMES_AMONG_MAX = 100_000
"""Changes among which renames are looked for; more are listed as they are."""


class Rename(NamedTuple):
    """A file or directory that was removed at `old_path` and added at `path`.

    `similarity` is the share of the larger side's bytes that both have: 1.0 for the same content, whatever attributes.
    A directory has the same content with everything below it.
    """

    path: bytes
    old_path: bytes
    old: Entry
    new: Entry
    similarity: float = 1.0

    @property
    def kind(self) -> Literal["renamed"]:
        """The word for it, beside those of PathChange."""
        return "renamed"

    @property
    def is_directory(self) -> bool:
        """Returns True if a whole directory moved."""
        return self.new.kind == Kind.DIR

    @property
    def aspects(self) -> tuple[Aspect, ...]:
        """What differs beside the path."""
        return aspects_between(self.old, self.new)


AnyChange = PathChange | Rename
"""What a diff with renames is made of."""


class _Side:
    """The added or the removed paths: which of them a rename has already, with everything below them."""

    def __init__(self, changes: Iterable[PathChange], entry_of: Callable[[PathChange], Entry | None]) -> None:
        self.entries = {change.path: entry for change in changes if (entry := entry_of(change)) is not None}
        self._taken: set[bytes] = set()
        self._broken: set[bytes] = set()

    def is_free(self, path: bytes) -> bool:
        """Returns True if no rename has the path, a parent of it or, of a directory, a path below it."""
        return path not in self._broken and self._taken.isdisjoint([path, *_above(path)])

    def take(self, path: bytes) -> None:
        self._taken.add(path)
        self._broken.update(_above(path))

    def free(self, is_wanted: Callable[[Entry], bool]) -> list[tuple[bytes, Entry]]:
        return [(path, entry) for path, entry in self.entries.items() if is_wanted(entry) and self.is_free(path)]


def find_renames(source: ObjectSource | None, changes: Iterable[PathChange]) -> list[Rename]:
    """Returns the renames among changes, those of directories first, no path twice.

    Directories with the same content are matched first, then files with the same content, then files that share at
    least half of their bytes as chunks; among several of the same content the one that kept its name. Empty files
    and directories are matched with nothing. `source` reads chunk lists; None leaves similar files out.
    """
    listed = list(changes)
    gone = _Side(listed, lambda change: change.old if change.kind == "removed" else None)
    came = _Side(listed, lambda change: change.new if change.kind == "added" else None)
    if not gone.entries or not came.entries:
        return []
    found = list(_same_content(gone, came, _directory_key))
    found += _same_content(gone, came, _file_key)
    if source is not None:
        found += _similar(source, gone, came)
    return found


def with_renames(changes: Sequence[PathChange], renames: Iterable[Rename]) -> list[AnyChange]:
    """Returns changes with each rename at its new path, and without the additions and removals that it replaces."""
    by_path = {rename.path: rename for rename in renames}
    old_paths = {rename.old_path for rename in by_path.values()}
    result: list[AnyChange] = []
    for change in changes:
        told = by_path if change.kind == "added" else old_paths if change.kind == "removed" else ()
        if change.kind == "added" and change.path in by_path:
            result.append(by_path[change.path])
        elif change.path not in told and not any(above in told for above in _above(change.path)):
            result.append(change)
    return result


def renamed_from(source: ObjectSource, changes: Iterable[PathChange], path: bytes) -> bytes | None:
    """Returns the path that an added file or directory had before, or None where it is new; see `find_renames`."""
    for rename in find_renames(source, changes):
        if path == rename.path or (rename.is_directory and path.startswith(rename.path + b"/")):
            return rename.old_path + path[len(rename.path) :]
    return None


def _above(path: bytes) -> Iterator[bytes]:
    """Yields the directories that a path is in, the nearest first."""
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        yield path


def _directory_key(entry: Entry) -> tuple[object, ...] | None:
    return (entry.content, entry.tiny) if entry.kind == Kind.DIR and entry.content else None


def _file_key(entry: Entry) -> tuple[object, ...] | None:
    return (entry.content, entry.size) if entry.kind == Kind.FILE and entry.content else None


def _same_content(gone: _Side, came: _Side, key_of: Callable[[Entry], tuple[object, ...] | None]) -> Iterator[Rename]:
    for with_name in (True, False):
        waiting: dict[tuple[object, ...], list[bytes]] = defaultdict(list)
        for path, entry in reversed(gone.entries.items()):
            if (key := key_of(entry)) is not None:
                waiting[(*key, _name(path)) if with_name else key].append(path)
        for path, new in came.entries.items():
            key = key_of(new)
            if key is None or not came.is_free(path):
                continue
            candidates = waiting.get((*key, _name(path)) if with_name else key, [])
            while candidates:
                old_path = candidates.pop()
                if gone.is_free(old_path):
                    yield _take(gone, came, old_path, path, new)
                    break


def _take(gone: _Side, came: _Side, old_path: bytes, path: bytes, new: Entry, similarity: float = 1.0) -> Rename:
    gone.take(old_path)
    came.take(path)
    return Rename(path, old_path, gone.entries[old_path], new, similarity)


def _name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]


def _similar(source: ObjectSource, gone: _Side, came: _Side) -> Iterator[Rename]:
    """Yields pairs of large files by the bytes of the chunks that both have, the most alike first."""

    def is_listed(entry: Entry) -> bool:
        return entry.kind == Kind.FILE and entry.form == Form.LIST

    olds, news = gone.free(is_listed), came.free(is_listed)
    if not olds or not news or len(olds) + len(news) > LISTS_MAX:
        return
    holders: dict[bytes, set[bytes]] = defaultdict(set)
    for path, entry in olds:
        for chunk in _chunks(source, entry):
            holders[chunk].add(path)
    candidates: list[tuple[float, bytes, bytes]] = []
    for path, entry in news:
        shared: dict[bytes, int] = defaultdict(int)
        for chunk, size in _chunks(source, entry).items():
            for old_path in holders.get(chunk, ()):
                shared[old_path] += size
        for old_path, size in shared.items():
            similarity = size / max(entry.size, gone.entries[old_path].size)
            if similarity >= SIMILARITY_MIN:
                candidates.append((-similarity, path, old_path))
    for negative, path, old_path in sorted(candidates):
        if gone.is_free(old_path) and came.is_free(path):
            yield _take(gone, came, old_path, path, came.entries[path], min(-negative, 1.0))


def _chunks(source: ObjectSource, entry: Entry) -> dict[bytes, int]:
    """Returns the bytes of each chunk of a file, counted once."""
    return {ref.id: ref.size for _, ref in list_runs(source, entry.content) if ref.id}


def renamed(source: ObjectSource | None, changes: Iterable[PathChange]) -> Iterable[AnyChange]:
    """Returns changes with the renames among them, unless they are too many; see `find_renames`."""
    rest = iter(changes)
    listed = list(islice(rest, RENAMES_AMONG_MAX + 1))
    if len(listed) > RENAMES_AMONG_MAX:
        return chain(listed, rest)
    return with_renames(listed, find_renames(source, listed))
