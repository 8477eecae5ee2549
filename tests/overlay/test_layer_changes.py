"""What differs from the base version, at a cost that follows the change."""

from __future__ import annotations

from support.stores import CountingSink
from support.working import Bench
from vfs.backend.rooted_path import RootedPath
from vfs.model.objects import Form
from vfs.overlay.open_journals import Consumed
from vfs.overlay.overlay import Overlay
from vfs.store.object_writer import ObjectWriter


def changed(bench: Bench) -> list[tuple[bytes, str]]:
    return [(change.path, change.kind) for change in bench.overlay.changes()]


def fill(bench: Bench) -> None:
    bench.mkdir(b"d")
    bench.mkdir(b"d/e")
    bench.put(b"d/a", b"a" * 3000)
    bench.put(b"d/e/b", b"b")
    bench.put(b"c", b"c")
    bench.commit()
    bench.reopen()


def test_a_layer_over_nothing_is_clean_until_something_is_made(bench: Bench) -> None:
    assert bench.overlay.is_clean()
    bench.put(b"f", b"12")
    (change,) = bench.overlay.changes()
    assert (change.path, change.kind, change.old) == (b"f", "added", None)
    assert change.new is not None
    assert (change.new.size, change.new.form, change.new.content) == (2, Form.EMPTY, b"")
    bench.unlink(b"f")
    assert bench.overlay.is_clean()


def test_looking_and_opening_change_nothing(bench: Bench) -> None:
    fill(bench)
    bench.picture()
    ino = bench.ino(b"d/a")
    bench.overlay.open_file(ino)
    bench.overlay.setattr(ino)
    bench.overlay.write(ino, 0, b"")
    bench.overlay.close_file(ino)
    assert bench.overlay.is_clean()


def test_each_kind_of_change_is_listed(bench: Bench) -> None:
    fill(bench)
    bench.write(b"d/a", 5, b"x")
    bench.put(b"d/new", b"n")
    bench.unlink(b"c")
    bench.overlay.setattr(bench.ino(b"d/e"), mode=0o700)
    assert changed(bench) == [(b"c", "removed"), (b"d/a", "modified"), (b"d/e", "modified"), (b"d/new", "added")]


def test_a_moved_directory_is_listed_with_everything_below_it(bench: Bench) -> None:
    fill(bench)
    bench.rename(b"d", b"x")
    assert changed(bench) == [
        *((path, "removed") for path in (b"d", b"d/a", b"d/e", b"d/e/b")),
        *((path, "added") for path in (b"x", b"x/a", b"x/e", b"x/e/b")),
    ]
    bench.rename(b"x", b"d")
    assert bench.overlay.is_clean()


def test_something_of_another_kind_at_a_place(bench: Bench) -> None:
    fill(bench)
    bench.unlink(b"c")
    bench.mkdir(b"c")
    bench.put(b"c/x")
    bench.unlink(b"d/e/b")
    bench.rmdir(b"d/e")
    bench.put(b"d/e", b"file")
    assert changed(bench) == [
        (b"c", "modified"),
        (b"c/x", "added"),
        (b"d/e", "modified"),
        (b"d/e/b", "removed"),
    ]


def test_changes_during_a_commit_are_those_to_the_old_base(bench: Bench) -> None:
    fill(bench)
    bench.write(b"c", 0, b"1")
    frozen = bench.overlay.freeze()
    bench.overlay.setattr(bench.ino(b"d/e/b"), mode=0o600)
    assert changed(bench) == [(b"c", "modified"), (b"d/e/b", "modified")]
    bench.overlay.complete(frozen, bench.store_frozen(frozen))
    assert changed(bench) == [(b"d/e/b", "modified")]


def test_writing_back_the_same_attributes_leaves_nothing(bench: Bench) -> None:
    fill(bench)
    attr = bench.attr(b"c")
    bench.overlay.setattr(attr.ino, mode=0o600, mtime_ns=5)
    bench.overlay.setattr(attr.ino, mode=attr.mode, mtime_ns=attr.mtime_ns)
    bench.link(b"c", b"l")
    assert changed(bench) == [(b"c", "modified"), (b"l", "added")]
    bench.unlink(b"l")
    assert bench.overlay.is_clean()


def test_the_cost_follows_the_change(bench: Bench) -> None:
    for number in range(40):
        bench.mkdir(b"d%d" % number)
        for file in range(5):
            bench.put(b"d%d/f%d" % (number, file), b"x")
    version = bench.commit()
    bench.overlay.close()
    counting = CountingSink(ObjectWriter(bench.store))
    with Overlay.open(
        RootedPath.of(bench.directory),
        counting,
        version,
        branch="main",
        consumed_generation=bench.consumed,
        consumed=lambda: Consumed(version),
    ) as overlay:
        directory = overlay.lookup(1, b"d7").ino
        overlay.write(overlay.lookup(directory, b"f3").ino, 0, b"y")
        counting.reset()
        assert [change.path for change in overlay.changes()] == [b"d7/f3"]
        assert counting.nodes_got < 10
    bench.crash()
