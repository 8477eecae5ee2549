"""Goal: a merge has what both sides did, says where they cannot both have their way, and reads what they changed."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.stores import CountingSink, MemorySink
from support.tiny_trees import EMPTY, Files, build, files_of
from vfs.history import merge_contents
from vfs.history.merge_contents import ContentMerge, Key, parse_keys
from vfs.history.merge_lines import Labels
from vfs.history.merge_trees import EMPTY_ROOT, Conflict, Merged, Tree, merge_trees
from vfs.model.chunking import IngestParams
from vfs.model.nodes import LINKS
from vfs.model.objects import Entry, Kind
from vfs.store.object_store import ObjectSink
from vfs.store.trees.content_writer import ContentWriter
from vfs.store.trees.directories import edit_directory, resolve_path
from vfs.store.trees.hard_links import set_linked, store_edits, store_links
from vfs.store.trees.maps import map_items

LABELS = Labels("ours", "base", "theirs")


def merge_roots(
    sink: ObjectSink, base: Entry, ours: Entry, theirs: Entry, *, keys: list[Key] | None = None, **options: object
) -> Merged:
    contents = ContentMerge(ContentWriter(sink, IngestParams()), LABELS, keys or [])
    old, mine, other = (Tree(root, b"") for root in (base, ours, theirs))
    return merge_trees(sink, old, mine, other, contents, **options)  # type: ignore[arg-type]


def merge(base: Files, ours: Files, theirs: Files, **options: object) -> tuple[dict[bytes, bytes], list[Conflict]]:
    """Returns the merged files and the conflicts."""
    sink = MemorySink()
    roots = [build(sink, files) for files in (base, ours, theirs)]
    merged = merge_roots(sink, *roots, **options)  # type: ignore[arg-type]
    return files_of(sink, merged.tree.root), merged.conflicts


# Against a model of dicts.

_names = st.sampled_from([b"a", b"b", b"c-d", b"c"])
# Every file has an ending, so that no path is both a file and a directory.
_paths = st.builds(lambda parts: b"/".join(parts) + b".f", st.lists(_names, min_size=1, max_size=3))
_trees = st.dictionaries(_paths, st.sampled_from([b"1\0", b"2\0", b"3\0", b""]), max_size=10)


def expected(base: Files, ours: Files, theirs: Files) -> tuple[dict[bytes, bytes], set[bytes]]:
    """Returns what a merge of dicts gives where contents do not merge, and the paths in conflict."""
    merged: dict[bytes, bytes] = {}
    conflicts = set()
    for path in base.keys() | ours.keys() | theirs.keys():
        old, mine, other = base.get(path), ours.get(path), theirs.get(path)
        taken = mine if mine == other or other == old else other
        if old not in (mine, other) and mine != other:
            conflicts.add(path)
            taken = mine if mine is not None else other
        if taken is not None:
            merged[path] = taken
    return merged, conflicts


@given(_trees, _trees, _trees)
def test_a_merge_is_what_merging_dicts_path_by_path_gives(base: Files, ours: Files, theirs: Files) -> None:
    files, conflicts = merge(base, ours, theirs, follow_moves=False)
    wanted, paths = expected(base, ours, theirs)
    assert files == wanted
    assert {conflict.path for conflict in conflicts} == paths


@given(_trees, _trees)
def test_merging_with_an_unchanged_side_gives_the_other_side(base: Files, changed: Files) -> None:
    sink = MemorySink()
    old, new = build(sink, base), build(sink, changed)
    for sides in ((new, old), (old, new)):
        merged = merge_roots(sink, old, *sides)
        assert merged.tree.root == new
        assert merged.conflicts == []


@given(_trees, _trees)
def test_the_same_change_on_both_sides_is_no_conflict(base: Files, changed: Files) -> None:
    sink = MemorySink()
    new = build(sink, changed)
    assert merge_roots(sink, build(sink, base), new, new) == Merged(Tree(new, b""), [], [])


@given(_trees, _trees, _trees)
def test_a_merge_is_the_same_from_either_side(base: Files, ours: Files, theirs: Files) -> None:
    files, conflicts = merge(base, ours, theirs, prefer=lambda _path: "base", follow_moves=False)
    turned, turned_conflicts = merge(base, theirs, ours, prefer=lambda _path: "base", follow_moves=False)
    assert files == turned
    assert conflicts == turned_conflicts == []


@given(_trees, _trees, _trees)
def test_preferring_one_side_is_preferring_the_other_one_from_there(base: Files, ours: Files, theirs: Files) -> None:
    mine, _ = merge(base, ours, theirs, prefer=lambda _path: "ours", follow_moves=False)
    turned, _ = merge(base, theirs, ours, prefer=lambda _path: "theirs", follow_moves=False)
    assert mine == turned


@given(_trees, _trees, _trees)
def test_nothing_is_lost_by_following_moves(base: Files, ours: Files, theirs: Files) -> None:
    files, conflicts = merge(base, ours, theirs)
    kept = set(files.values())
    in_conflict = {data for conflict in conflicts for data in _sides(conflict, ours, theirs)}
    for side, other in ((ours, theirs), (theirs, ours)):
        for data in set(side.values()) - set(base.values()) - set(other.values()):
            assert data in kept | in_conflict


def _sides(conflict: Conflict, ours: Files, theirs: Files) -> list[bytes]:
    found = []
    if conflict.ours is not None and conflict.ours in ours:
        found.append(ours[conflict.ours])
    if conflict.theirs is not None and conflict.theirs in theirs:
        found.append(theirs[conflict.theirs])
    return found


# Moves.


def test_a_renamed_file_gets_what_the_other_side_changed_in_it() -> None:
    base = {b"d/old": b"text", b"rest": b"r"}
    ours = {b"e/new": b"text", b"rest": b"r"}
    theirs = {b"d/old": b"text, and more", b"rest": b"r"}
    for sides in ((ours, theirs), (theirs, ours)):
        assert merge(base, *sides) == ({b"e/new": b"text, and more", b"rest": b"r"}, [])


def test_a_renamed_directory_gets_what_the_other_side_added_changed_and_removed_in_it() -> None:
    base = {b"img/a/%d" % number: b"%d" % number for number in range(4)}
    ours = {b"pictures/a/%d" % number: b"%d" % number for number in range(4)}
    theirs = {b"img/a/0": b"changed", b"img/a/1": b"1", b"img/a/2": b"2", b"img/b/new": b"new"}
    wanted = {
        b"pictures/a/0": b"changed",
        b"pictures/a/1": b"1",
        b"pictures/a/2": b"2",
        b"pictures/b/new": b"new",
    }
    for sides in ((ours, theirs), (theirs, ours)):
        assert merge(base, *sides) == (wanted, [])


def test_a_directory_that_was_renamed_and_changed_is_followed_where_half_of_its_files_say_so() -> None:
    base = {b"img/%d" % number: b"%d" % number for number in range(4)}
    ours = {b"sets/x/0": b"0", b"sets/x/1": b"1", b"sets/x/2": b"other", b"sets/x/9": b"9"}
    theirs = base | {b"img/new": b"new", b"img/1": b"one"}
    merged, conflicts = merge(base, ours, theirs)
    assert merged == {b"sets/x/0": b"0", b"sets/x/1": b"one", b"sets/x/2": b"other", b"sets/x/9": b"9",
                      b"sets/x/new": b"new"}  # fmt: skip
    assert conflicts == []


def test_a_conflict_below_a_renamed_directory_says_where_each_side_has_the_file() -> None:
    base = {b"img/%d" % number: b"%d" % number for number in range(4)}
    ours = {b"x/%d" % number: b"%d" % number for number in range(3)} | {b"x/3": b"mine\0"}
    _, conflicts = merge(base, ours, base | {b"img/3": b"other\0"})
    assert conflicts == [Conflict(b"x/3", "content", b"img/3", b"x/3", b"img/3")]


def test_a_rename_on_both_sides_is_one_rename() -> None:
    base, ours = {b"a": b"text\n", b"k": b"k"}, {b"b": b"text\n", b"k": b"k"}
    assert merge(base, ours, ours | {b"n": b"n"}) == ({b"b": b"text\n", b"k": b"k", b"n": b"n"}, [])


def test_renames_to_different_names_keep_both_and_are_reported() -> None:
    assert merge({b"a": b"text"}, {b"b": b"text"}, {b"c": b"text"}) == ({b"b": b"text", b"c": b"text"}, [])
    files = {b"a": b"1\0", b"d/x": b"2\0", b"d/y": b"3\0", b"k": b"4\0"}
    ours = {b"b": b"1\0", b"e/x": b"2\0", b"e/y": b"3\0", b"l": b"4\0"}
    theirs = {b"c": b"1\0", b"f/x": b"2\0", b"f/y": b"3\0", b"l": b"4\0"}
    sink = MemorySink()
    merged = merge_roots(sink, *(build(sink, each) for each in (files, ours, theirs)))
    assert merged.divergent_renames == [(b"a", b"b", b"c"), (b"d", b"e", b"f")]
    assert files_of(sink, merged.tree.root) == ours | theirs


def test_renames_of_one_side_are_nothing_to_tell() -> None:
    sink = MemorySink()
    files = {b"a": b"1\0", b"d/x": b"2\0", b"k": b"3\0"}
    sides = ({b"b": b"1\0", b"d/x": b"2\0"}, {b"a": b"1\0", b"e/x": b"2\0", b"l": b"3\0"})
    assert merge_roots(sink, *(build(sink, each) for each in (files, *sides))).divergent_renames == []


def test_progress_counts_changed_names_and_the_bytes_merged_inside_files() -> None:
    heard: list[tuple[int, int, int | None]] = []
    base, text = {b"d/t": b"1\n2\n3\n", b"k": b"k"}, b"2\n3\n"
    ours, theirs = base | {b"d/t": b"one\n" + text, b"new": b"n"}, base | {b"d/t": b"1\n" + text + b"4\n", b"k": b"K"}
    merge(base, ours, theirs, progress=lambda *counts: heard.append(counts))
    assert heard == sorted(heard)
    # What we alone changed is there already; of theirs `k` is taken and `d/t` is merged.
    assert heard[-1] == (2, 6 + 8 + 8, None)


def test_what_one_side_renamed_and_the_other_deleted_is_kept_under_its_new_name() -> None:
    assert merge({b"a": b"text", b"k": b""}, {b"b": b"text", b"k": b""}, {b"k": b""}) == (
        {b"b": b"text", b"k": b""},
        [],
    )


def test_a_rename_onto_a_name_that_the_other_side_gave_to_something_else_is_a_conflict() -> None:
    merged, conflicts = merge({b"a": b"1\0"}, {b"b": b"1\0"}, {b"a": b"1\0", b"b": b"2\0"})
    assert merged == {b"b": b"1\0"}
    assert conflicts == [Conflict(b"b", "added", None, b"b", b"b")]


# Conflicts.


def test_what_one_side_changed_and_the_other_deleted_is_a_conflict_and_stays() -> None:
    base, changed = {b"d/f": b"1", b"d/g": b"2"}, {b"d/f": b"changed", b"d/g": b"2"}
    for sides, where in (((changed, {}), (b"d/f", None)), (({}, changed), (None, b"d/f"))):
        merged, conflicts = merge(base, *sides)
        assert merged == {b"d/f": b"changed"}
        assert conflicts == [Conflict(b"d/f", "deleted", b"d/f", *where)]


def test_files_added_to_a_directory_that_the_other_side_deleted_recreate_it() -> None:
    assert merge({b"d/f": b"1"}, {}, {b"d/f": b"1", b"d/new": b"n"}) == ({b"d/new": b"n"}, [])


@pytest.mark.parametrize("base", [{}, {b"x": b"old"}, {b"x/y": b"old"}])
def test_a_file_here_and_a_directory_there_is_one_conflict(base: Files) -> None:
    ours, theirs = {b"x": b"file"}, {b"x/y": b"1", b"x/z": b"2"}
    for first, second, wanted in ((ours, theirs, ours), (theirs, ours, theirs)):
        merged, conflicts = merge(base, first, second)
        assert merged == wanted
        assert [(conflict.path, conflict.kind) for conflict in conflicts] == [(b"x", "type")]


def test_a_file_that_became_a_directory_on_one_side_is_taken() -> None:
    assert merge({b"x": b"1", b"y": b"1"}, {b"x/z": b"2", b"y": b"1"}, {b"x": b"1", b"y": b"2"}) == (
        {b"x/z": b"2", b"y": b"2"},
        [],
    )


def one(sink: ObjectSink, **fields: object) -> Entry:
    """Stores a root with one file `f`, some of whose fields are given."""
    root = build(sink, {b"f": b"text\n"})
    entry = msgspec.structs.replace(resolve_path(sink, root, b"f").entry, **fields)
    return store_edits(sink, root, {b"": {b"f": (entry, b"text\n")}})


def test_attributes_merge_one_by_one() -> None:
    sink = MemorySink()
    ours = one(sink, mode=0o600, xattrs=((b"user.a", b"1"), (b"user.b", b"2")), mtime_ns=5)
    theirs = one(sink, uid=7, xattrs=((b"user.b", b"3"), (b"user.c", b"4")), mtime_ns=9)
    base = one(sink, xattrs=((b"user.a", b"0"), (b"user.b", b"2"), (b"user.c", b"4"), (b"user.d", b"5")))
    merged = merge_roots(sink, base, ours, theirs)
    entry = resolve_path(sink, merged.tree.root, b"f").entry
    assert (entry.mode, entry.uid, entry.mtime_ns) == (0o600, 7, 9)
    assert entry.xattrs == ((b"user.a", b"1"), (b"user.b", b"3"))
    assert [(conflict.path, conflict.kind) for conflict in merged.conflicts] == [(b"f", "attributes")]


def test_modes_that_differ_are_a_conflict_and_content_still_merges() -> None:
    sink = MemorySink()
    merged = merge_roots(sink, one(sink), one(sink, mode=0o600), one(sink, mode=0o640))
    assert merged.conflicts == [Conflict(b"f", "attributes", b"f", b"f", b"f")]
    preferring = merge_roots(
        sink, one(sink), one(sink, mode=0o600), one(sink, mode=0o640), prefer=lambda _path: "theirs"
    )
    assert preferring.conflicts == []
    assert resolve_path(sink, preferring.tree.root, b"f").entry.mode == 0o640


def test_link_targets_that_differ_are_a_conflict() -> None:
    sink = MemorySink()

    def link(target: bytes) -> Entry:
        entry = Entry(b"l", Kind.SYMLINK, 0o777, 0, 0, 0, len(target), target)
        made = edit_directory(sink, None, {b"l": (entry, b"")})
        return msgspec.structs.replace(EMPTY, content=made.content, files=1)

    merged = merge_roots(sink, link(b"a"), link(b"b"), link(b"c"))
    assert merged.conflicts == [Conflict(b"l", "symlink", b"l", b"l", b"l")]
    assert merge_roots(sink, link(b"a"), link(b"a"), link(b"c")).tree.root == link(b"c")


def test_a_touched_file_that_the_other_side_deleted_goes() -> None:
    sink = MemorySink()
    merged = merge_roots(sink, one(sink), one(sink, mtime_ns=9), EMPTY)
    assert (files_of(sink, merged.tree.root), merged.conflicts) == ({}, [])


def test_histories_that_share_no_commit_merge_into_what_both_have() -> None:
    sink = MemorySink()
    merged = merge_roots(sink, EMPTY_ROOT, build(sink, {b"a": b"1"}), build(sink, {b"b": b"2"}))
    assert (files_of(sink, merged.tree.root), merged.conflicts) == ({b"a": b"1", b"b": b"2"}, [])


# Texts and tables.

TEXT = b"".join(b"line %d\n" % number for number in range(9))


def test_changes_of_different_lines_merge() -> None:
    ours, theirs = TEXT.replace(b"line 1", b"LINE 1"), TEXT.replace(b"line 7\n", b"") + b"more"
    merged, conflicts = merge({b"t": TEXT}, {b"t": ours}, {b"t": theirs})
    assert merged == {b"t": theirs.replace(b"line 1", b"LINE 1")}
    assert conflicts == []


def test_changes_of_the_same_lines_are_marked_with_all_three_sides() -> None:
    merged, conflicts = merge({b"t": b"a\nb\nc\n"}, {b"t": b"a\nB\nc\n"}, {b"t": b"a\nbb\nc\n"})
    assert merged == {b"t": b"a\n<<<<<<< ours\nB\n||||||| base\nb\n=======\nbb\n>>>>>>> theirs\nc\n"}
    assert conflicts == [Conflict(b"t", "content", b"t", b"t", b"t", is_marked=True)]


def test_bytes_that_are_no_text_are_not_merged_inside() -> None:
    merged, conflicts = merge({b"t": b"a\n\0"}, {b"t": b"b\n\0"}, {b"t": b"a\n\0c"})
    assert merged == {b"t": b"b\n\0"}
    assert conflicts == [Conflict(b"t", "content", b"t", b"t", b"t")]


CSV = b"id,label\n1,cat\n2,dog\n3,cow\n"


def keyed(base: bytes, ours: bytes, theirs: bytes, name: bytes = b"x.csv") -> tuple[bytes, list[Conflict]]:
    merged, conflicts = merge({name: base}, {name: ours}, {name: theirs}, keys=parse_keys("id"))
    return merged[name], conflicts


def test_rows_of_a_table_merge_by_key_wherever_they_stand() -> None:
    ours = b"id,label\n2,dog\n1,lion\n3,cow\n4,ant\n"
    theirs = b"id,label\n1,cat\n3,cow\n5,bee\n"
    assert keyed(CSV, ours, theirs) == (b"id,label\n1,lion\n3,cow\n4,ant\n5,bee\n", [])
    # By line this is a conflict.
    assert merge({b"x.csv": CSV}, {b"x.csv": ours}, {b"x.csv": theirs})[1] != []


def test_fields_of_a_row_merge_and_a_new_column_is_taken() -> None:
    base = b'id,label,by\n1,cat,"a, b"\n2,dog,c\n'
    ours = b'id,label,by,ok\n1,cat,"a, b",y\n2,wolf,c,n\n'
    theirs = b'id,label,by\n1,cat,d\n2,dog,c\n3,"x\ny",e\n'
    assert keyed(base, ours, theirs) == (b'id,label,by,ok\n1,cat,d,y\n2,wolf,c,n\n3,"x\ny",e,\n', [])


def test_a_row_that_both_changed_is_marked_alone() -> None:
    merged, conflicts = keyed(CSV, CSV.replace(b"dog", b"wolf"), CSV.replace(b"dog", b"fox").replace(b"cat", b"lion"))
    assert merged == (
        b"id,label\n1,lion\n<<<<<<< ours\n2,wolf\n||||||| base\n2,dog\n=======\n2,fox\n>>>>>>> theirs\n3,cow\n"
    )
    assert [conflict.is_marked for conflict in conflicts] == [True]


def test_json_lines_merge_by_key_and_field() -> None:
    base = b'{"id": 1, "a": 1, "b": 1}\n{"id": 2}\n'
    ours = b'{"id": 1, "a": 2, "b": 1}\n{"id": 2}\n'
    theirs = b'{"id": 1, "a": 1, "b": 2}\n{"id": 3}\n'
    assert keyed(base, ours, theirs, b"x.jsonl") == (b'{"id": 1, "a": 2, "b": 2}\n{"id": 3}\n', [])


@pytest.mark.parametrize(
    ("ours", "reason"),
    [
        (b"key,label\n1,a\n", "single column"),
        (CSV + b"1,again\n", "two rows"),
        (CSV + b"7\n", "1 fields where the header has 2"),
        (CSV + b'7,"x\n', "never closed"),
        (CSV + b"7,\0\n", "line 5 has a zero byte"),
        (b"", "ours was emptied"),
    ],
)
def test_a_table_without_the_key_is_a_conflict_with_its_reason(ours: bytes, reason: str) -> None:
    for name in (b"x.csv", b"d/X.CSV"):
        merged, conflicts = keyed(CSV, ours, CSV + b"4,ant\n", name)
        assert merged == ours
        assert reason in conflicts[0].note


def test_a_table_that_is_too_large_to_be_merged_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge_contents, "TEXT_BYTES_MAX", len(CSV))
    larger = CSV + b"4,ant\n"
    merged, conflicts = keyed(CSV, larger, CSV.replace(b"cat", b"cow"))
    assert merged == larger
    assert conflicts[0].note.startswith("not merged by `id`: a side is larger than ")


# Hard links.


def linked(sink: ObjectSink, files: Files, *groups: tuple[bytes, ...]) -> Tree:
    root = build(sink, files)
    return Tree(set_linked(sink, root, {path: True for group in groups for path in group}), store_links(sink, groups))


def merge_linked(base: Tree, ours: Tree, theirs: Tree, sink: ObjectSink) -> tuple[dict[bytes, bytes], set[bytes]]:
    """Returns the link map of the merged tree, its flags compared with it, and the paths in conflict."""
    merged = merge_trees(sink, base, ours, theirs, ContentMerge(ContentWriter(sink, IngestParams()), LABELS))
    items = map_items(sink, LINKS, merged.tree.links)
    links = {item.name: item.leader for item in items}
    for path in files_of(sink, merged.tree.root):
        assert resolve_path(sink, merged.tree.root, path).entry.linked == (path in links)
    return links, {conflict.path for conflict in merged.conflicts}


def test_hard_links_are_those_that_one_side_changed_and_the_other_left() -> None:
    sink = MemorySink()
    files = {b"a": b"1", b"b": b"1", b"c": b"1", b"d": b"2", b"e": b"2"}
    base = linked(sink, files, (b"a", b"b"))
    ours = linked(sink, files | {b"x": b"3"}, (b"a", b"b", b"c"))
    theirs = linked(sink, files | {b"y": b"4"}, (b"a", b"b"), (b"d", b"e"))
    wanted = {b"a": b"a", b"b": b"a", b"c": b"a", b"d": b"d", b"e": b"d"}
    assert merge_linked(base, ours, theirs, sink) == (wanted, set())
    assert merge_linked(base, theirs, ours, sink) == (wanted, set())


def test_a_link_that_one_side_removed_and_a_directory_that_the_other_moved_leave_a_link_map_that_is_right() -> None:
    sink = MemorySink()
    files = {b"d/a": b"1", b"d/b": b"1", b"d/c": b"1", b"k": b"1"}
    group = (b"d/a", b"d/b", b"d/c", b"k")
    base = linked(sink, files, group)
    without = {path: data for path, data in files.items() if path != b"d/a"}
    ours = linked(sink, without, group[1:])
    theirs = linked(sink, {path.replace(b"d/", b"e/"): data for path, data in files.items()},
                    (b"e/a", b"e/b", b"e/c", b"k"))  # fmt: skip
    wanted = {b"e/b": b"e/b", b"e/c": b"e/b", b"k": b"e/b"}
    assert merge_linked(base, ours, theirs, sink) == (wanted, set())


def test_names_that_were_one_file_and_became_two_on_one_side_are_two() -> None:
    sink = MemorySink()
    base = linked(sink, {b"a": b"1", b"b": b"1"}, (b"a", b"b"))
    ours = linked(sink, {b"a": b"new", b"b": b"1"})
    theirs = linked(sink, {b"a": b"1", b"b": b"1", b"c": b"2"}, (b"a", b"b"))
    assert merge_linked(base, ours, theirs, sink) == ({}, set())


# Cost.


@pytest.mark.parametrize("sizes", [(2000, 20000)])
def test_the_cost_follows_the_changes_and_not_the_trees(sizes: tuple[int, int]) -> None:
    def nodes_read(count: int) -> int:
        sink = CountingSink(MemorySink())
        files = {b"d%03d/f%03d" % (number % 100, number): b"%d" % number for number in range(count)}
        ours, theirs = files | {b"d007/f107": b"mine"}, files | {b"d008/f108": b"other", b"d007/new": b"new"}
        roots = [build(sink, each) for each in (files, ours, theirs)]
        sink.reset()
        assert merge_roots(sink, *roots).conflicts == []
        return sink.nodes_got

    few, many = (nodes_read(size) for size in sizes)
    assert many <= 2 * few


def test_moving_a_directory_costs_the_same_whatever_is_in_it() -> None:
    def nodes_read(count: int) -> int:
        sink = CountingSink(MemorySink())
        files = {b"d/%03d/f%d" % (number % 100, number): b"%d" % number for number in range(count)}
        renamed = {path.replace(b"d/", b"e/", 1): data for path, data in files.items()}
        roots = [build(sink, each) for each in (files, renamed, files | {b"d/001/new": b"new"})]
        sink.reset()
        merged = merge_roots(sink, *roots)
        assert merged.conflicts == []
        assert resolve_path(sink, merged.tree.root, b"e/001/new").entry.size == 3
        return sink.nodes_got

    assert nodes_read(10_000) <= 2 * nodes_read(1_000)
