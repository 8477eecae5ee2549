"""Committed content put in from outside: restoring paths, moving to another base."""

from __future__ import annotations

import pytest

from support.working import Bench
from vfs.errors import InvalidInput, NotADirectory, NotFound
from vfs.model.objects import Version
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.overlay.state import Invalidation
from vfs.store.trees.directories import resolve_path


def restore(bench: Bench, version: Version, path: bytes, source_path: bytes | None = None) -> list[Invalidation]:
    source = path if source_path is None else source_path
    place = resolve_path(bench.store, version.commit.root, source)
    return bench.overlay.graft(path, place.entry, place.directory, version.commit.links, source)


@pytest.fixture
def version(bench: Bench) -> Version:
    bench.mkdir(b"d")
    bench.mkdir(b"d/e")
    bench.put(b"d/a", b"tiny")
    bench.put(b"d/e/b", b"b" * 5000)
    bench.put(b"f", b"f")
    bench.link(b"f", b"d/e/l")
    return bench.commit()


def test_a_changed_file_is_restored(bench: Bench, version: Version) -> None:
    picture = bench.picture()
    old = bench.ino(b"d/a")
    bench.write(b"d/a", 0, b"spoiled for good")
    stale = restore(bench, version, b"d/a")
    assert (bench.ino(b"d"), b"a", old) in stale
    assert bench.read(b"d/a") == b"tiny"
    bench.crash()
    found = bench.picture()
    assert found.keys() == picture.keys()
    assert found[b"d/a"] == picture[b"d/a"]
    assert bench.picture_of(bench.commit()) == found


def test_an_open_file_keeps_its_bytes_when_its_path_is_restored(bench: Bench, version: Version) -> None:
    ino = bench.ino(b"d/a")
    bench.overlay.open_file(ino)
    bench.write(b"d/a", 0, b"mine")
    restore(bench, version, b"d/a")
    assert bytes(bench.overlay.read(ino, 0, 9)) == b"mine"
    assert bench.ino(b"d/a") != ino
    assert bench.read(b"d/a") == b"tiny"


def test_a_removed_directory_is_restored_with_the_links_in_it(bench: Bench, version: Version) -> None:
    bench.overlay.graft(b"d", None)
    assert bench.names() == [b"f"]
    assert bench.attr(b"f").nlink == 1
    restore(bench, version, b"d")
    # The link to the file outside is cut: that one may have changed since.
    assert bench.attr(b"d/e/l").nlink == 1
    assert bench.ino(b"d/e/l") != bench.ino(b"f")
    picture = bench.picture()
    assert bench.picture_of(bench.commit()) == picture
    bench.reopen()
    assert bench.picture() == picture


def test_links_within_restored_content_are_kept(bench: Bench, version: Version) -> None:
    bench.link(b"d/e/b", b"d/e/b2")
    linked = bench.commit()
    bench.overlay.graft(b"d/e", None)
    restore(bench, linked, b"copy", b"d/e")
    assert bench.ino(b"copy/b") == bench.ino(b"copy/b2")
    bench.write(b"copy/b2", 0, b"Z")
    assert bench.read(b"copy/b")[:2] == b"Zb"
    picture = bench.picture()
    bench.crash()
    assert bench.picture() == picture
    assert bench.picture_of(bench.commit()) == picture


def test_the_whole_tree_is_restored(bench: Bench, version: Version) -> None:
    picture = bench.picture_of(version)
    bench.overlay.graft(b"d/e", None)
    bench.put(b"new")
    bench.write(b"f", 0, b"F")
    bench.commit()
    bench.rename(b"d", b"g")
    root = bench.overlay.getattr(ROOT_INO).ino
    stale = restore(bench, version, b"")
    assert {(entry.parent, entry.name) for entry in stale} >= {(root, b"d"), (root, b"g"), (root, b"new"), (root, b"f")}
    assert bench.picture() == picture
    assert bench.picture_of(bench.commit()) == picture


def test_directories_keep_their_numbers_when_restored(bench: Bench, version: Version) -> None:
    """A shell whose current directory it is stays where it is."""
    before = [bench.ino(path) for path in (b"d", b"d/e")]
    bench.put(b"d/e/x")
    restore(bench, version, b"d")
    assert [bench.ino(path) for path in (b"d", b"d/e")] == before
    assert bench.names(b"d/e") == [b"b", b"l"]


def test_a_file_in_the_place_of_a_directory_and_back(bench: Bench, version: Version) -> None:
    restore(bench, version, b"d", b"f")
    assert bench.read(b"d") == b"f"
    restore(bench, version, b"f", b"d/e")
    assert bench.names(b"f") == [b"b", b"l"]
    picture = bench.picture()
    assert bench.picture_of(bench.commit()) == picture


def test_what_cannot_be_put_is_refused(bench: Bench, version: Version) -> None:
    root = version.commit.root
    place = resolve_path(bench.store, root, b"f")
    with pytest.raises(InvalidInput):
        bench.overlay.graft(b"", place.entry, place.directory)
    with pytest.raises(InvalidInput):
        bench.overlay.graft(b"", None)
    with pytest.raises(InvalidInput):
        bench.overlay.graft(b"x", place.entry)
    with pytest.raises(NotFound):
        bench.overlay.graft(b"none/x", place.entry, place.directory)
    with pytest.raises(NotADirectory):
        bench.overlay.graft(b"f/x", place.entry, place.directory)
    assert bench.overlay.graft(b"none", None) == []
    assert bench.overlay.is_clean()


def test_another_base_shows_at_once_and_gives_invalidations(bench: Bench, version: Version) -> None:
    inos = {path: bench.ino(path) for path in (b"d", b"d/a", b"d/e", b"d/e/b", b"f")}
    bench.write(b"d/a", 0, b"2")
    bench.unlink(b"f")
    bench.put(b"g", b"g")
    bench.commit()
    bench.picture()
    published = bench.publish(version)
    stale = bench.overlay.set_base(published)
    assert bench.picture() == bench.picture_of(version)
    names = {(entry.parent, entry.name) for entry in stale}
    assert names >= {(inos[b"d"], b"a"), (ROOT_INO, b"f"), (ROOT_INO, b"g")}
    assert (inos[b"d/e"], b"b") not in names
    assert bench.ino(b"d/a") == inos[b"d/a"]


def test_an_open_file_that_the_new_base_lacks_keeps_its_bytes(bench: Bench, version: Version) -> None:
    ino = bench.put(b"only here", b"12345" * 100).ino
    bench.commit()
    bench.overlay.open_file(ino)
    bench.overlay.set_base(bench.publish(version))
    assert bytes(bench.overlay.read(ino, 0, 5)) == b"12345"
    bench.overlay.write(ino, 0, b"X")
    assert bytes(bench.overlay.read(ino, 0, 5)) == b"X2345"
    assert bench.overlay.getattr(ino).nlink == 0
    bench.overlay.forget(ino)
    bench.overlay.close_file(ino)
    with pytest.raises(NotFound):
        bench.overlay.getattr(ino)
    assert bench.overlay.is_clean()


def test_an_open_linked_file_keeps_its_bytes_when_all_content_is_replaced(bench: Bench, version: Version) -> None:
    """Both of its names are forgotten: they may belong to two files now."""
    bench.put(b"d/new", b"before")
    bench.link(b"d/new", b"other")
    ino = bench.ino(b"other")
    bench.overlay.open_file(ino)
    directory = bench.ino(b"d")
    bench.head, bench.shown = version, (version.commit.root, version.commit.links)
    bench.consumed = bench.overlay.begin_replacing()
    stale = bench.overlay.replace(bench.head, *bench.shown)
    assert {(directory, b"new", ino), (ROOT_INO, b"other", ino)} <= set(stale)
    assert bench.names() == [b"d", b"f"]
    assert bytes(bench.overlay.read(ino, 0, 9)) == b"before"
