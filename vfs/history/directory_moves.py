"""Renames between two trees, found by content, and the same renames made in another tree.

What has the same content at a new place has moved, a large file also where half of it is the same, as a diff says
it (vfs/history/renames.py). A directory has moved too where at least half of its files are in one new directory, under
the names that they had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from vfs.errors import NotADirectory, NotFound
from vfs.history.diff import PathChange, differing_names
from vfs.history.renames import find_renames
from vfs.model.names import join_path, split_path
from vfs.model.objects import Entry, Form, Kind
from vfs.store.object_store import ObjectSink, ObjectSource
from vfs.store.trees.directories import file_content, resolve_path, walk
from vfs.store.trees.hard_links import store_edits
from vfs.store.trees.map_diff import either

_ROUNDS_MAX = 16
"""Directories moved out of moved directories are looked for this often."""


class Move(NamedTuple):
    """A move of the entry at `old` to `new`."""

    old: bytes
    new: bytes


def find_moves(sink: ObjectSink, old: Entry, new: Entry) -> list[Move]:
    """Returns the moves that lead from one root to another, each after those before it; the sink gets their nodes."""
    found: list[Move] = []
    for _ in range(_ROUNDS_MAX):
        gone, come = _one_sided(sink, old, new)
        moves = _directory_moves(sink, gone, come)
        if not moves:
            break
        found += moves
        old = move(sink, old, moves, new)
    else:
        gone, come = _one_sided(sink, old, new)
    return found + _renames(sink, dict(_below(sink, gone)), dict(_below(sink, come)), directories=False)


def move(sink: ObjectSink, root: Entry, moves: list[Move], like: Entry) -> Entry:
    """Stores a tree after moves; directories that lead to a new place and are missing are made as `like` has them.

    The caller knows that each move has something at its old place and nothing at its new one.
    """
    for step in moves:
        for end in range(1, len(split_path(step.new))):
            above = b"/".join(split_path(step.new)[:end])
            if entry_at(sink, root, above) is None:
                directory, _, name = above.rpartition(b"/")
                made = resolve_path(sink, like, above).entry
                empty = msgspec.structs.replace(made, content=b"", tiny=b"", files=0, size=0)
                root = store_edits(sink, root, {directory: {name: (empty, b"")}})
        place = resolve_path(sink, root, step.old)
        assert place.directory is not None
        tiny = file_content(sink, place.directory, place.entry).tiny if place.entry.form == Form.TINY else b""
        old_directory, _, old_name = step.old.rpartition(b"/")
        new_directory, _, new_name = step.new.rpartition(b"/")
        moved = msgspec.structs.replace(place.entry, name=new_name), tiny
        # One after the other: both may be one directory, or the new one below a sibling of the old.
        root = store_edits(sink, root, {old_directory: {old_name: None}})
        root = store_edits(sink, root, {new_directory: {new_name: moved}})
    return root


def entry_at(source: ObjectSource, root: Entry, path: bytes) -> Entry | None:
    """Returns the entry at a path, or None."""
    try:
        return resolve_path(source, root, path).entry
    except (NotFound, NotADirectory):
        return None


def has_same_content(a: Entry | None, b: Entry | None) -> bool:
    """Returns True if two entries have the same content; their names do not count."""
    return a is not None and b is not None and _content(a) == _content(b)


def moved(path: bytes, moves: Sequence[Move]) -> bytes:
    """Returns where a path is after moves."""
    for step in moves:
        if path == step.old or path.startswith(step.old + b"/"):
            path = step.new + path[len(step.old) :]
    return path


def unmoved(path: bytes, moves: Sequence[Move]) -> bytes:
    """Returns where a path was before moves."""
    return moved(path, [Move(step.new, step.old) for step in reversed(moves)])


def _content(entry: Entry) -> tuple[Kind, bytes, int]:
    return entry.kind, entry.content, entry.size


def _one_sided(source: ObjectSource, old: Entry, new: Entry) -> tuple[dict[bytes, Entry], dict[bytes, Entry]]:
    """Returns the topmost paths that only one root has: those that went and those that came."""
    gone: dict[bytes, Entry] = {}
    come: dict[bytes, Entry] = {}
    stack = [(b"", old, new)]
    while stack:
        path, was, now = stack.pop()
        for before, after in differing_names(source, was, now):
            name = either(before, after).name
            child = join_path(path, name)
            if before is not None and after is not None and before.kind == after.kind == Kind.DIR:
                stack.append((child, before, after))
                continue
            if before is not None and (after is None or after.kind != before.kind):
                gone[child] = before
            if after is not None and (before is None or after.kind != before.kind):
                come[child] = after
    return gone, come


def _directory_moves(source: ObjectSource, gone: Mapping[bytes, Entry], come: Mapping[bytes, Entry]) -> list[Move]:
    """Returns moves of directories none of which is in another."""
    tops = _renames(None, gone, come, directories=True)
    if tops:
        # Found without looking into them.
        return tops
    olds, news = dict(_below(source, gone)), dict(_below(source, come))
    homes: dict[tuple[Kind, bytes, int], list[bytes]] = {}
    for path, entry in news.items():
        if entry.kind == Kind.FILE and entry.content:
            homes.setdefault(_content(entry), []).append(path)
    exact = {step.old: step.new for step in _renames(None, olds, news, directories=True)}
    found: list[Move] = []
    for path in sorted(
        (path for path, entry in olds.items() if entry.kind == Kind.DIR), key=lambda path: path.split(b"/")
    ):
        if any(path.startswith(step.old + b"/") for step in found):
            continue
        target = exact.get(path) or _majority(path, olds, homes, news)
        if target is not None and not any(_overlap(target, step.new) for step in found):
            found.append(Move(path, target))
    return found


def _renames(
    source: ObjectSource | None, gone: Mapping[bytes, Entry], come: Mapping[bytes, Entry], *, directories: bool
) -> list[Move]:
    """Returns the moves of directories and files, found by content (vfs/history/renames.py)."""
    changes = [PathChange(path, "removed", entry, None) for path, entry in gone.items()]
    changes += [PathChange(path, "added", None, entry) for path, entry in come.items()]
    return [
        Move(rename.old_path, rename.path)
        for rename in find_renames(source, changes)
        if rename.is_directory == directories
    ]


def _majority(
    path: bytes,
    olds: Mapping[bytes, Entry],
    homes: Mapping[tuple[Kind, bytes, int], list[bytes]],
    news: Mapping[bytes, Entry],
) -> bytes | None:
    """Returns the new directory that has at least half of a directory's files under the names that they had in it."""
    votes: Counter[bytes] = Counter()
    files = 0
    for below, entry in olds.items():
        if entry.kind == Kind.DIR or not below.startswith(path + b"/"):
            continue
        files += 1
        rest = below[len(path) :]
        votes.update({home[: -len(rest)] for home in homes.get(_content(entry), ()) if home.endswith(rest)})
    for target, count in votes.most_common(1):
        if 2 * count >= files and target in news:
            return target
    return None


def _below(source: ObjectSource, tops: Mapping[bytes, Entry]) -> Iterator[tuple[bytes, Entry]]:
    for path, entry in tops.items():
        yield path, entry
        if entry.kind == Kind.DIR:
            for child, _, below in walk(source, entry, path):
                yield child, below


def _overlap(a: bytes, b: bytes) -> bool:
    return a == b or a.startswith(b + b"/") or b.startswith(a + b"/")
