"""Listing with attributes: what was listed is a hint, never believed against what has changed since."""

from __future__ import annotations

import pytest

from support.working import Bench
from vfs.errors import NotFound


def fill(bench: Bench) -> int:
    """Commits a directory with a few files and returns its number in a layer that has not touched it."""
    bench.mkdir(b"d")
    for name in (b"a", b"b", b"c"):
        bench.put(b"d/" + name, name)
    bench.link(b"d/a", b"linked")
    bench.commit()
    bench.reopen()
    return bench.ino(b"d")


def test_listed_entries_equal_lookups(bench: Bench) -> None:
    directory = fill(bench)
    listed = list(bench.overlay.listing(directory))
    assert [name for name, _ in listed] == [b"a", b"b", b"c"]
    assert all(hint is not None for _, hint in listed)
    for name, hint in listed:
        assert bench.overlay.lookup(directory, name, hint) == bench.overlay.lookup(directory, name)
    assert [name for name, _ in bench.overlay.listing(directory, b"a")] == [b"b", b"c"]


def test_what_has_changed_since_is_looked_up_as_it_is_now(bench: Bench) -> None:
    directory = fill(bench)
    hints = dict(bench.overlay.listing(directory))
    bench.unlink(b"d/a")
    bench.rename(b"d/b", b"d/c")
    bench.write(b"d/c", 0, b"longer")
    with pytest.raises(NotFound):
        bench.overlay.lookup(directory, b"a", hints[b"a"])
    assert bench.overlay.lookup(directory, b"c", hints[b"c"]).size == 6
    assert list(bench.overlay.listing(directory)) == [(b"c", None)]


def test_a_commit_in_between_changes_the_lookup(bench: Bench) -> None:
    directory = fill(bench)
    hints = dict(bench.overlay.listing(directory))
    bench.write(b"d/a", 0, b"another")
    bench.unlink(b"d/b")
    bench.commit()
    bench.reopen()
    directory = bench.ino(b"d")
    assert bench.overlay.lookup(directory, b"a", hints[b"a"]).size == 7
    with pytest.raises(NotFound):
        bench.overlay.lookup(directory, b"b", hints[b"b"])
