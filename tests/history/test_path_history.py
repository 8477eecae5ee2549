"""Goal: the versions that changed a path are found, and the others cost next to nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from support.stores import CountingSink, MemorySink
from support.tiny_trees import Files, build
from vfs.history.path_history import PathFinder, path_revisions
from vfs.model.ids import CommitId
from vfs.model.objects import Commit, Version
from vfs.store.object_store import ObjectSink


def grow(sink: ObjectSink, trees: list[Files]) -> list[Version]:
    """Stores one version a tree and returns them newest first."""
    made: list[Version] = []
    for number, files in enumerate(trees, 1):
        parents = (bytes(made[-1].id),) if made else ()
        commit = Commit(number, parents, build(sink, files), b"", number, "ann", "why")
        made.append(Version(CommitId(sink.put_commit(commit)), commit))
    return made[::-1]


def told(trees: list[Files], path: bytes, *, follow: bool = False) -> list[tuple[str, str, bytes]]:
    sink = MemorySink()
    found = path_revisions(sink, grow(sink, trees), path, follow=follow)
    return [(revision.version.name, revision.kind, revision.old_path) for revision in found]


def test_a_path_is_added_changed_removed_and_added_again() -> None:
    trees: list[Files] = [
        {b"k": b""},
        {b"a/f": b"1"},
        {b"a/f": b"1", b"k": b"2"},
        {b"a/f": b"2"},
        {b"a": b"x"},
        {b"a/f": b"2"},
    ]
    assert told(trees, b"a/f") == [
        ("v6", "added", b"a/f"),
        ("v5", "removed", b"a/f"),
        ("v4", "modified", b"a/f"),
        ("v2", "added", b"a/f"),
    ]
    assert told(trees, b"absent") == []
    assert [each[0] for each in told(trees, b"")] == ["v6", "v5", "v4", "v3", "v2", "v1"]


def test_a_file_is_followed_through_its_own_and_its_directorys_renames() -> None:
    trees: list[Files] = [
        {b"old/f": b"1"},
        {b"old/f": b"2", b"old/g": b"g"},
        {b"new/f": b"2", b"new/g": b"g"},
        {b"new/name": b"2", b"new/g": b"g"},
        {b"new/name": b"3", b"new/g": b"g"},
    ]
    assert told(trees, b"new/name") == [("v5", "modified", b"new/name"), ("v4", "added", b"new/name")]
    assert told(trees, b"new/name", follow=True) == [
        ("v5", "modified", b"new/name"),
        ("v4", "modified", b"new/f"),
        ("v3", "modified", b"old/f"),
        ("v2", "modified", b"old/f"),
        ("v1", "added", b"old/f"),
    ]


_paths = st.sampled_from([b"a", b"d/a", b"d/e/a", b"d/e/b", b"f/a"])
_trees = st.lists(st.dictionaries(_paths, st.sampled_from([b"1", b"2"])), min_size=1, max_size=8)


@given(_trees, _paths)
def test_steps_are_where_the_content_of_the_path_changes(trees: list[Files], path: bytes) -> None:
    contents = [None, *(files.get(path) for files in trees)]
    expected = [f"v{number}" for number in range(len(trees), 0, -1) if contents[number] != contents[number - 1]]
    assert [name for name, _, _ in told(trees, path)] == expected


def test_versions_that_changed_other_directories_read_the_way_there_once() -> None:
    sink = CountingSink(MemorySink())
    files = {b"d%02d/e/f%d" % (number % 40, number): b"%d" % number for number in range(400)}
    versions = grow(sink, [files | {b"d07/x": b"%d" % number} for number in range(50)])
    same = grow(sink, [files] * 50)
    sink.reset()
    assert len(list(path_revisions(sink, same, b"d03/e/f3"))) == 1
    assert sink.nodes_got <= 3
    sink.reset()
    assert len(list(path_revisions(sink, versions, b"d03/e/f3"))) == 1
    assert sink.nodes_got <= 50 + 2


def test_a_finder_is_right_in_any_order_of_versions() -> None:
    sink = MemorySink()
    one, two = build(sink, {b"d/f": b"1"}), build(sink, {b"d/f": b"1", b"d/g": b"2"})
    other = build(sink, {b"d": b"a file"})
    finder = PathFinder(sink, b"d/f")
    found = [finder.find(root) for root in (one, two, other, one, two)]
    assert [entry.content if entry is not None else None for entry in found].count(None) == 1
    assert found[0] == found[1] == found[3] == found[4]
