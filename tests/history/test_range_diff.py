"""Goal: what came, changed and went are trees of just that, and looking into one visits what differs alone."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from support.stores import CountingSink, MemorySink
from support.tiny_trees import Files, build
from vfs.history.range_diff import PARTS, Pair, Part, children_of, directories_of, has_below, pairs_below, part_at
from vfs.model.names import join_path
from vfs.store.object_store import ObjectSink


def shown(sink: ObjectSink, part: Part, pair: Pair, path: bytes = b"") -> list[bytes]:
    """Returns the files of a part, by walking its directories; every directory must lead to a file."""
    found: list[bytes] = []
    below = partial(pairs_below, sink)
    for child in children_of(part, pair, below, directories_of(part, pair, below)):
        where = join_path(path, child.name)
        if part_at(child) == part:
            found.append(where)
        else:
            inside = shown(sink, part, child, where)
            assert inside, where
            found += inside
    return found


_names = st.sampled_from([b"a", b"b", b"c"])
_paths = st.lists(_names, min_size=1, max_size=3).map(b"/".join)


@st.composite
def _trees(draw: st.DrawFn) -> dict[bytes, bytes]:
    """A tree in which a name may be a file on one side and a directory on the other, but not both at once."""
    files: dict[bytes, bytes] = {}
    for path, data in draw(st.dictionaries(_paths, st.sampled_from([b"1", b"2", b""]), max_size=9)).items():
        if not any(path.startswith(other + b"/") or other.startswith(path + b"/") for other in files):
            files[path] = data
    return files


@given(_trees(), _trees())
def test_the_parts_are_what_comparing_dictionaries_gives(old: Files, new: Files) -> None:
    sink = MemorySink()
    pair = Pair(b"", build(sink, old), build(sink, new))
    expected: dict[Part, set[bytes]] = {
        "added": new.keys() - old.keys(),
        "removed": old.keys() - new.keys(),
        "modified": {path for path in old.keys() & new.keys() if old[path] != new[path]},
    }
    for part in PARTS:
        found = shown(sink, part, pair)
        assert found == sorted(expected[part], key=lambda path: path.split(b"/"))
        assert has_below(part, pair, partial(pairs_below, sink)) == bool(expected[part])


def test_a_file_in_a_directorys_place_came_and_what_was_in_the_directory_went() -> None:
    sink = MemorySink()
    pair = Pair(b"", build(sink, {b"x/y": b"1"}), build(sink, {b"x": b"1"}))
    assert [shown(sink, part, pair) for part in PARTS] == [[b"x"], [], [b"x/y"]]


def test_looking_for_new_files_reads_nothing_of_large_directories_that_came_or_went_whole() -> None:
    sink = CountingSink(MemorySink())
    many = {b"%02d/%04d" % (number % 50, number): b"" for number in range(5000)}
    old = {b"gone/" + path: data for path, data in many.items()} | {b"k/f": b"1"}
    new = {b"new/" + path: data for path, data in many.items()} | {b"k/f": b"2"}
    pair = Pair(b"", build(sink, old), build(sink, new))
    for part, expected in zip(PARTS, ([b"new"], [b"k"], [b"gone"]), strict=True):
        sink.reset()
        below = partial(pairs_below, sink)
        directories = directories_of(part, pair, below)
        assert [child.name for child in children_of(part, pair, below, directories)] == expected
        assert sink.nodes_got <= 12
