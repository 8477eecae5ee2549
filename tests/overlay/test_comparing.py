"""Goal: the working layer beside any version is, looked into by directory, what comparing everything gives."""

from __future__ import annotations

from support.working import Bench, Picture
from vfs.history.range_diff import PARTS, Part, children_of, directories_of, part_at
from vfs.model.names import join_path
from vfs.model.objects import Kind, Version
from vfs.overlay.layer_changes import Compared


def shown(bench: Bench, part: Part, compared: Compared, path: bytes = b"") -> list[bytes]:
    found: list[bytes] = []
    below = bench.overlay.compare_below
    for child in children_of(part, compared, below, directories_of(part, compared, below)):
        where = join_path(path, child.name)
        found += [where] if part_at(child) == part else shown(bench, part, child, where)
    return found


def parts(bench: Bench, version: Version, path: bytes = b"") -> list[list[bytes]]:
    compared = bench.overlay.compare(version.commit.root, path)
    return [shown(bench, part, compared) for part in PARTS]


def expected(old: Picture, new: Picture) -> list[list[bytes]]:
    """Returns what comparing two pictures gives, by kind and content."""
    olds = {path: (each.kind, each.content) for path, each in old.items() if each.kind != Kind.DIR}
    news = {path: (each.kind, each.content) for path, each in new.items() if each.kind != Kind.DIR}
    both = {path for path in olds.keys() & news.keys() if olds[path] != news[path]}
    sets = (news.keys() - olds.keys(), both, olds.keys() - news.keys())
    return [sorted(found, key=lambda path: path.split(b"/")) for found in sets]


def test_the_layer_beside_its_base_and_beside_an_older_version(bench: Bench) -> None:
    bench.mkdir(b"d")
    bench.mkdir(b"d/e")
    for path in (b"d/a", b"d/e/b", b"d/e/c", b"k", b"x"):
        bench.put(path, path * 900)
    first = bench.commit()
    bench.put(b"d/second", b"2")
    bench.unlink(b"d/e/c")
    second = bench.commit()
    bench.reopen()
    bench.write(b"d/a", 7, b"changed")
    bench.overlay.setattr(bench.ino(b"k"), mode=0o600)
    bench.mkdir(b"new")
    bench.mkdir(b"new/empty")
    bench.put(b"new/f", b"n")
    bench.unlink(b"x")
    bench.mkdir(b"x")
    bench.put(b"x/y", b"y")
    bench.rename(b"d/e", b"moved")
    for version in (first, second):
        assert parts(bench, version) == expected(bench.picture_of(version), bench.picture())
    assert parts(bench, first, b"x") == [[b"y"], [], []]
    assert parts(bench, first, b"d/e") == [[], [], [b"b", b"c"]]
    assert parts(bench, first, b"absent/below") == [[], [], []]


def test_a_file_with_its_old_content_is_recognised_as_far_as_that_is_known(bench: Bench) -> None:
    bench.put(b"f", b"1" * 5000)
    version = bench.commit()
    bench.overlay.setattr(bench.ino(b"f"), mtime_ns=5)
    assert parts(bench, version) == [[], [], []]
    bench.rename(b"f", b"g")
    bench.rename(b"g", b"f")
    assert parts(bench, version) == [[], [], []]
    bench.write(b"f", 0, b"1")
    assert parts(bench, version) == [[], [b"f"], []]
