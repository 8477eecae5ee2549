"""Which versions are the same for a program that read certain things."""

from __future__ import annotations

import msgspec
import pytest

from support.stores import MemorySink
from support.tiny_trees import build
from vfs.history.read_set import ReadFilter, ReadSet
from vfs.model.objects import Entry, Kind
from vfs.store.trees.hard_links import store_edits

FILES = {b"train/a": b"1", b"train/b": b"2", b"test/c": b"3", b"deep/er/d": b"4", b"notes": b"5"}
READ = ReadSet(frozenset({b"train/a", b"deep/er/d"}), frozenset({b"test"}))


@pytest.mark.parametrize(
    ("changes", "affected"),
    [
        ({}, False),
        ({b"train/a": b"other"}, True),
        ({b"train/b": b"other"}, False),
        ({b"train/new": b"beside an opened file"}, True),
        ({b"train/b": None}, True),
        ({b"test/c": b"other"}, True),
        ({b"test/new": b""}, True),
        ({b"test/below/x": b""}, True),
        ({b"notes": b"other"}, False),
        ({b"more": b"in the root"}, False),
        ({b"deep/beside": b""}, False),
        ({b"deep/er/d": None}, True),
        ({b"deep/er/d": None, b"deep/er": b"a file now"}, True),
        ({b"test/c": None}, True),
    ],
)
def test_a_version_is_the_same_if_nothing_differs_that_was_read(
    changes: dict[bytes, bytes | None], affected: bool
) -> None:
    sink = MemorySink()
    new = {path: data for path, data in {**FILES, **changes}.items() if data is not None}
    old_root, new_root = build(sink, FILES), build(sink, new)
    assert ReadFilter(READ).is_affected(sink, old_root, new_root) is affected
    assert ReadFilter(READ).is_affected(sink, new_root, old_root) is affected


def test_a_symbolic_link_anywhere_counts() -> None:
    sink = MemorySink()
    old = build(sink, FILES | {b"links/notes": b""})
    link = (Entry(b"current", Kind.SYMLINK, 0o777, 0, 0, 0, 5, b"notes"), b"")
    new = store_edits(sink, old, {b"links": {b"current": link}})
    assert ReadFilter(READ).is_affected(sink, old, new)
    assert ReadFilter(READ).is_affected(sink, new, old)


def test_attributes_on_the_way_count() -> None:
    sink = MemorySink()
    old = build(sink, FILES)
    new = msgspec.structs.replace(old, mode=0o700)
    assert ReadFilter(READ).is_affected(sink, old, new)
    assert not ReadFilter(READ).is_affected(sink, old, msgspec.structs.replace(old, mtime_ns=9))
    assert not ReadFilter(ReadSet()).is_affected(sink, old, new)


def test_what_several_runs_read_counts_together() -> None:
    both = ReadSet(frozenset({b"train/b"})) | READ
    assert both.opened == {b"train/a", b"train/b", b"deep/er/d"}
    assert both.listed == {b"test"}
    assert ReadSet().is_empty
    assert not both.is_empty
