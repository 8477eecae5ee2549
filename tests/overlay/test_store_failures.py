"""A store that cannot be read: an operation has happened as a whole or not at all, in memory as in the journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from support.working import Bench, Picture, working_layer
from vfs.errors import VfsError
from vfs.model.objects import Version
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import resolve_path


class Unreadable(VfsError):
    """An object cannot be read now."""


class Failing:
    """A store whose reads fail from the one with this number on."""

    def __init__(self, source: ObjectSource) -> None:
        self._source = source
        self.left: int | None = None
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._source, name)
        if not name.startswith("get_"):
            return found

        def read(*args: Any) -> Any:
            self.reads += 1
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise Unreadable(f"{name} fails")
            return found(*args)

        return read


def prepare(bench: Bench) -> Version:
    """A version with what operations have to look up, opened again: nothing of it has a node."""
    bench.mkdir(b"d")
    bench.mkdir(b"d/sub")
    bench.mkdir(b"empty")
    bench.mkdir(b"full")
    for name in (b"d/a", b"d/b", b"d/sub/c", b"full/x", b"t"):
        bench.put(name, name * 40)
    bench.link(b"d/b", b"l")
    bench.link(b"d/b", b"full/l2")
    bench.put(b"tiny", b"t")
    bench.overlay.symlink(ROOT_INO, b"s", b"d/a", 1, 2)
    first = bench.commit()
    bench.write(b"d/a", 0, b"second")
    bench.rename(b"full/x", b"full/y")
    bench.put(b"full/z", b"new")
    bench.commit()
    return first


def graft_of(bench: Bench, version: Version, path: bytes, source: bytes | None = None) -> None:
    place = resolve_path(bench.store, version.commit.root, source if source is not None else path)
    bench.overlay.graft(path, place.entry, place.directory, version.commit.links, source)


Operation = Callable[[Bench, Version], object]

OPERATIONS: dict[str, Operation] = {
    "create": lambda bench, _: bench.put(b"d/sub/new", b"1"),
    "mkdir": lambda bench, _: bench.mkdir(b"d/new"),
    "unlink": lambda bench, _: bench.unlink(b"d/a"),
    "unlink a hard link": lambda bench, _: bench.unlink(b"l"),
    "rmdir": lambda bench, _: bench.rmdir(b"empty"),
    "rename": lambda bench, _: bench.rename(b"d/a", b"full/moved"),
    "rename over": lambda bench, _: bench.rename(b"d/a", b"full/y"),
    "rename a hard link over another file": lambda bench, _: bench.rename(b"l", b"d/a"),
    "rename a directory": lambda bench, _: bench.rename(b"d", b"full/d"),
    "rename a directory over an empty one": lambda bench, _: bench.rename(b"d", b"empty"),
    "exchange": lambda bench, _: bench.rename(b"d/a", b"full/l2", 2),
    "link": lambda bench, _: bench.link(b"t", b"d/t"),
    "link a hard link": lambda bench, _: bench.link(b"full/l2", b"empty/l3"),
    "write": lambda bench, _: bench.write(b"d/b", 3, b"xyz"),
    "truncate": lambda bench, _: bench.overlay.setattr(bench.ino(b"d/a"), size=3),
    "chmod": lambda bench, _: bench.overlay.setattr(bench.ino(b"full"), mode=0o700),
    "chmod a hard link": lambda bench, _: bench.overlay.setattr(bench.ino(b"l"), mode=0o600),
    "set an attribute": lambda bench, _: bench.overlay.setxattr(bench.ino(b"s"), b"user.x", b"1"),
    "restore a file": lambda bench, first: graft_of(bench, first, b"d/a"),
    "restore a directory": lambda bench, first: graft_of(bench, first, b"full"),
    "restore a directory elsewhere": lambda bench, first: graft_of(bench, first, b"empty", b"d"),
    "restore in place of a file": lambda bench, first: graft_of(bench, first, b"t", b"d"),
    "restore everything": lambda bench, first: graft_of(bench, first, b""),
    "remove a directory": lambda bench, _: bench.overlay.graft(b"d", None),
    "follow the branch": lambda bench, first: bench.overlay.set_base(bench.publish(first)),
}
COPIES_UP_FIRST = ("restore", "remove")
"""These may have made nodes, which change nothing that others see, before a read fails (docs/durability.md, W15)."""


def is_same(bench: Bench, picture: Picture, numbers: dict[bytes, int]) -> bool:
    return bench.picture() == picture and {path: bench.ino(path) for path in picture} == numbers


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_of_which_a_read_fails_has_not_happened(tmp_path: Path, name: str, is_known: bool) -> None:
    """`is_known`: the kernel refers to every inode that there is."""
    operation = OPERATIONS[name]
    failed = 0
    number = 0
    expected: Picture | None = None
    while True:
        (tmp_path / str(number)).mkdir()
        with working_layer(tmp_path / str(number)) as bench:
            first = prepare(bench)
            bench.reopen()
            head = bench.head
            failing = Failing(bench.store)
            bench.state.source = cast("ObjectSource", failing)
            assert head is not None
            looked_up = bench.picture() if is_known else bench.picture_of(head)
            position = bench.overlay.position
            failing.left = number
            try:
                operation(bench, first)
                is_done = True
            except Unreadable:
                is_done = False
                failed += 1
            failing.left = None
            if not is_done:
                bench.head = head
                if not name.startswith(COPIES_UP_FIRST):
                    assert bench.overlay.position == position
                # In memory as before, and as the journal says.
                assert bench.picture() == looked_up
                numbers = {path: bench.ino(path) for path in looked_up}
                bench.crash()
                assert not [word for word in bench.overlay.recovery.warnings() if "passed" in word]
                assert is_same(bench, looked_up, numbers)
                operation(bench, first)
            picture = bench.picture()
            assert expected is None or without_times(picture) == expected
            expected = without_times(picture)
            numbers = {path: bench.ino(path) for path in picture}
            bench.crash()
            assert not [word for word in bench.overlay.recovery.warnings() if "passed" in word]
            assert is_same(bench, picture, numbers)
            assert bench.picture_of(bench.commit()) == picture
        if is_done:
            break
        number += 1
    assert failed


def without_times(picture: Picture) -> Picture:
    return {path: thing._replace(mtime_ns=0) for path, thing in picture.items()}


def test_a_layer_that_could_not_follow_its_line_in_the_log_takes_nothing_more(tmp_path: Path) -> None:
    number = failed = 0
    is_done = False
    while not is_done:
        (tmp_path / str(number)).mkdir()
        with working_layer(tmp_path / str(number)) as bench:
            first = prepare(bench)
            bench.put(b"uncommitted", b"1")
            bench.reopen()
            bench.picture()
            failing = Failing(bench.store)
            bench.state.source = cast("ObjectSource", failing)
            bench.consumed = bench.overlay.begin_replacing()
            bench.shown, bench.taken_up = (first.commit.root, first.commit.links), bench.head
            failing.left = number
            try:
                bench.overlay.replace(bench.head, *bench.shown)
                is_done = True
            except Unreadable:
                failed += 1
                failing.left = None
                with pytest.raises(OSError, match="opened again"):
                    bench.put(b"more")
            failing.left = None
            if is_done:
                assert bench.picture() == bench.picture_of(first)
            bench.crash()
            assert bench.picture() == bench.picture_of(first)
        number += 1
    assert failed
