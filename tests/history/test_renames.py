"""Goal: what moved is told from what came and went, by content alone, and nothing is told twice or lost."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from support.stores import CountingSink, MemorySink
from support.tiny_trees import EMPTY, Files, build
from vfs.history.diff import PathChange, diff_trees
from vfs.history.renames import Rename, find_renames, renamed_from, with_renames
from vfs.model.chunking import IngestParams
from vfs.model.objects import Entry, Kind
from vfs.store.object_store import ObjectSink
from vfs.store.trees.content_writer import ContentWriter
from vfs.store.trees.directories import edit_directory


def compare(sink: ObjectSink, old: Files, new: Files) -> list[PathChange | Rename]:
    changes = list(diff_trees(sink, build(sink, old), build(sink, new)))
    return with_renames(changes, find_renames(sink, changes))


def told(sink: ObjectSink, old: Files, new: Files) -> list[tuple[str, bytes, bytes]]:
    """Returns (what, old path or nothing, path) of each change."""
    return [
        ("renamed", each.old_path, each.path) if isinstance(each, Rename) else (each.kind, b"", each.path)
        for each in compare(sink, old, new)
    ]


def test_a_file_that_moved_is_one_rename() -> None:
    assert told(MemorySink(), {b"a": b"1", b"k": b"2"}, {b"d/b": b"1", b"k": b"2"}) == [
        ("added", b"", b"d"),
        ("renamed", b"a", b"d/b"),
    ]


def test_a_directory_that_moved_is_one_rename_with_all_that_is_in_it() -> None:
    old = {b"x/sub/%d" % number: b"%d" % number for number in range(300)}
    new = {b"y/deep/sub/%d" % number: b"%d" % number for number in range(300)}
    assert told(MemorySink(), old | {b"x/other": b"o"}, new | {b"x/other": b"o"}) == [
        ("added", b"", b"y"),
        ("added", b"", b"y/deep"),
        ("renamed", b"x/sub", b"y/deep/sub"),
    ]


def test_a_directory_that_moved_and_changed_is_matched_file_by_file() -> None:
    found = told(MemorySink(), {b"x/a": b"1", b"x/b": b"2"}, {b"y/a": b"1", b"y/b": b"3"})
    assert found == [
        ("removed", b"", b"x"),
        ("removed", b"", b"x/b"),
        ("added", b"", b"y"),
        ("renamed", b"x/a", b"y/a"),
        ("added", b"", b"y/b"),
    ]


def test_of_several_with_one_content_the_one_that_kept_its_name_is_taken() -> None:
    found = told(MemorySink(), {b"o/a": b"1", b"o/b": b"1"}, {b"n/b": b"1", b"n/c": b"1"})
    assert [each for each in found if each[0] == "renamed"] == [
        ("renamed", b"o/b", b"n/b"),
        ("renamed", b"o/a", b"n/c"),
    ]


def test_a_copy_and_empty_files_are_no_renames() -> None:
    assert told(MemorySink(), {b"a": b"1", b"e": b""}, {b"a": b"1", b"b": b"1", b"f": b""}) == [
        ("added", b"", b"b"),
        ("removed", b"", b"e"),
        ("added", b"", b"f"),
    ]


def large(sink: ObjectSink, name: bytes, data: bytes) -> tuple[Entry, bytes]:
    content = ContentWriter(sink, IngestParams()).from_bytes(data)
    return Entry(name, Kind.FILE, 0o644, 0, 0, 0, content.size, content.id, content.form), b""


def directory(sink: ObjectSink, entries: list[tuple[Entry, bytes]]) -> Entry:
    made = edit_directory(sink, None, {entry.name: (entry, tiny) for entry, tiny in entries})
    return msgspec.structs.replace(EMPTY, content=made.content, tiny=made.tiny, files=made.files, size=made.size)


def test_a_large_file_that_moved_and_changed_is_known_by_the_chunks_that_stayed() -> None:
    sink = MemorySink()
    random_bytes = random.Random(3).randbytes
    data, other = random_bytes(2 << 20), random_bytes(2 << 20)
    old = directory(sink, [large(sink, b"model", data), large(sink, b"gone", other)])
    new = directory(sink, [large(sink, b"model2", data[: 1 << 20] + b"inserted" + data[1 << 20 :])])
    changes = list(diff_trees(sink, old, new))
    (rename,) = find_renames(sink, changes)
    assert (rename.old_path, rename.path) == (b"model", b"model2")
    assert 0.7 < rename.similarity < 1
    assert find_renames(None, changes) == []


def test_the_origin_of_a_path_is_found_below_a_directory_that_moved() -> None:
    sink = MemorySink()
    changes = list(diff_trees(sink, build(sink, {b"x/d/f": b"1"}), build(sink, {b"z/d/f": b"1", b"new": b"n"})))
    assert renamed_from(sink, changes, b"z/d/f") == b"x/d/f"
    assert renamed_from(sink, changes, b"new") is None


def test_moving_a_large_directory_reads_as_much_as_its_diff_does() -> None:
    sink = CountingSink(MemorySink())
    old = {b"x/%04d" % number: b"%d" % number for number in range(3000)}
    a, b = build(sink, old), build(sink, {b"y" + path[1:]: data for path, data in old.items()})
    sink.reset()
    changes = list(diff_trees(sink, a, b))
    read = sink.nodes_got
    assert len(find_renames(sink, changes)) == 1
    assert sink.nodes_got == read


_names = st.sampled_from([b"a", b"b", b"c"])
_paths = st.builds(lambda parts: b"/".join(parts) + b".f", st.lists(_names, min_size=1, max_size=3))
_trees = st.dictionaries(_paths, st.sampled_from([b"1", b"22", b"333", b""]), max_size=10)


@given(_trees, _trees)
def test_renames_are_of_equal_content_and_with_the_rest_they_make_the_new_tree_of_the_old_one(
    old: dict[bytes, bytes], new: dict[bytes, bytes]
) -> None:
    found = compare(MemorySink(), old, new)
    made = dict(old)
    moved: dict[bytes, bytes] = {}
    for each in found:
        if isinstance(each, Rename):
            inside = [path for path in old if path == each.old_path or path.startswith(each.old_path + b"/")]
            assert inside
            for path in inside:
                moved[each.path + path[len(each.old_path) :]] = made.pop(path)
        elif each.kind == "removed":
            made.pop(each.path, None)
    made |= moved
    for each in found:
        if not isinstance(each, Rename) and each.kind != "removed" and each.path in new:
            assert each.kind == "modified" or each.path not in made
            made[each.path] = new[each.path]
    assert made == new
    paths = [each.path for each in found if isinstance(each, Rename) or each.kind != "removed"]
    assert len(paths) == len(set(paths))
