"""Goal: a diff says what comparing everything would say, and reads only what differs."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from support.stores import CountingSink, MemorySink
from support.tiny_trees import EMPTY, Files, build
from vfs.history.change_totals import Totals, counted
from vfs.history.diff import PathChange, count_files, diff_trees
from vfs.model.ids import NodeId
from vfs.model.objects import Entry, Kind
from vfs.store.object_store import ObjectSink
from vfs.store.trees.directories import edit_directory, walk


def totals_of(changes: Iterable[PathChange]) -> Totals:
    totals = Totals()
    for _ in counted(changes, totals):
        pass
    return totals


def compared(sink: ObjectSink, old: Entry, new: Entry) -> list[tuple[bytes, str]]:
    """Returns what comparing every path says."""
    olds = {path: entry for path, _, entry in walk(sink, old)}
    news = {path: entry for path, _, entry in walk(sink, new)}
    found = []
    for path in olds.keys() | news.keys():
        before, after = olds.get(path), news.get(path)
        if before is None or after is None:
            found.append((path, "added" if before is None else "removed"))
        elif before.kind != after.kind or (before.kind != Kind.DIR and before != after):
            found.append((path, "modified"))
    return sorted(found, key=lambda change: change[0].split(b"/"))


def listed(changes: list[PathChange]) -> list[tuple[bytes, str]]:
    return [(change.path, change.kind) for change in changes]


_names = st.sampled_from([b"a", b"b", b"c-d", b"c"])
# Every file has an ending, so that no path is both a file and a directory.
_paths = st.builds(lambda parts: b"/".join(parts) + b".f", st.lists(_names, min_size=1, max_size=3))
_trees = st.dictionaries(_paths, st.sampled_from([b"1", b"22", b""]), max_size=12)


@given(_trees, _trees)
def test_a_diff_is_what_comparing_every_path_gives(old: Files, new: Files) -> None:
    sink = MemorySink()
    a, b = build(sink, old), build(sink, new)
    assert listed(list(diff_trees(sink, a, b))) == compared(sink, a, b)


@given(_trees, _trees)
def test_counted_files_are_those_that_a_diff_lists(old: Files, new: Files) -> None:
    sink = MemorySink()
    a, b = build(sink, old), build(sink, new)
    added, modified, removed = new.keys() - old.keys(), old.keys() & new.keys(), old.keys() - new.keys()
    changed = {path for path in modified if old[path] != new[path]}
    assert count_files(sink, a, b) == (len(added), len(changed), len(removed))
    assert count_files(sink, None, b) == (len(new), 0, 0)


def test_counting_does_not_read_directories_that_one_side_alone_has() -> None:
    sink = CountingSink(MemorySink())
    tree = build(sink, {b"d%d/f%d" % (number % 50, number): b"1" for number in range(500)})
    sink.reset()
    assert count_files(sink, None, tree) == (500, 0, 0)
    assert sink.nodes_got == 0
    assert count_files(sink, build(sink, {b"d1": b"1"}), build(sink, {b"d1/x": b"1", b"d1/y": b"1"})) == (2, 0, 1)


def test_a_file_in_place_of_a_directory_is_a_modified_path_and_removed_ones() -> None:
    sink = MemorySink()
    a, b = build(sink, {b"x/y": b"1"}), build(sink, {b"x": b"1"})
    assert listed(list(diff_trees(sink, a, b))) == [(b"x", "modified"), (b"x/y", "removed")]
    assert next(diff_trees(sink, a, b)).aspects == ("type",)
    assert listed(list(diff_trees(sink, b, a))) == [(b"x", "modified"), (b"x/y", "added")]


def test_the_time_of_a_directory_alone_is_no_change_unless_asked_for() -> None:
    sink = MemorySink()
    a = build(sink, {b"x/y": b"1"})
    b = msgspec.structs.replace(a, mtime_ns=5)
    assert list(diff_trees(sink, a, b)) == []
    assert listed(list(diff_trees(sink, a, b, directory_times=True))) == [(b"", "modified")]
    changed = msgspec.structs.replace(b, mode=0o700)
    assert next(diff_trees(sink, a, changed)).aspects == ("mode", "mtime")


def test_each_aspect_of_a_file_is_named() -> None:
    sink = MemorySink()
    old = next(iter(walk(sink, build(sink, {b"f": b"1"}))))[2]
    new = msgspec.structs.replace(
        old, content=b"x" * 32, mode=0, uid=1, mtime_ns=1, xattrs=((b"user.a", b""),), linked=True, rdev=1
    )
    (change,) = diff_trees(sink, old, new)
    assert change.aspects == ("content", "mode", "owner", "mtime", "xattrs", "links", "device")


def test_added_and_removed_trees_are_listed_with_everything_below_and_summed_up() -> None:
    sink = MemorySink()
    tree = build(sink, {b"d/e/f": b"123", b"d/g": b"4"})
    added = list(diff_trees(sink, None, tree, b"top"))
    assert listed(added) == [(path, "added") for path in (b"top", b"top/d", b"top/d/e", b"top/d/e/f", b"top/d/g")]
    assert totals_of(added) == Totals(added=5, new_bytes=4)
    assert totals_of(diff_trees(sink, tree, None)) == Totals(removed=5, old_bytes=4)


def test_the_cost_follows_the_change_and_not_the_trees() -> None:
    sink = CountingSink(MemorySink())
    files = {b"d%02d/f%03d" % (number % 50, number): b"%d" % number for number in range(5000)}
    old = build(sink, files)
    new = build(sink, files | {b"d07/f007": b"changed"})
    sink.reset()
    assert listed(list(diff_trees(sink, old, new))) == [(b"d07/f007", "modified")]
    assert sink.nodes_got < 20


def test_paths_deeper_than_the_interpreters_stack_are_compared() -> None:
    sink = MemorySink()
    entry = build(sink, {b"f": b"1"}, b"d")
    for _ in range(1500):
        made = edit_directory(sink, None, {b"d": (entry, b"")})
        entry = msgspec.structs.replace(entry, content=made.content, tiny=NodeId(b""), files=made.files, size=made.size)
    assert sum(1 for _ in diff_trees(sink, EMPTY, msgspec.structs.replace(entry, name=b""))) == 1501
