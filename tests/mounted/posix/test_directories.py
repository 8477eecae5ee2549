"""Listing directories while they change, at any position; huge ones, deep ones; removing them."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.calls import outcome, touch
from support.mounts import Mount

pytestmark = pytest.mark.mount

_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = ctypes.c_void_p
_libc.readdir.restype = ctypes.c_void_p
_libc.telldir.restype = ctypes.c_long
_NAME_OFFSET = 19


class Stream:
    """A directory stream of the C library."""

    def __init__(self, directory: Path) -> None:
        opened = _libc.opendir(os.fsencode(directory))
        assert opened is not None
        self._stream = ctypes.c_void_p(opened)

    def read(self, count: int = 1_000_000) -> list[bytes]:
        """Returns the next names, without the dots."""
        names: list[bytes] = []
        while len(names) < count:
            entry = _libc.readdir(self._stream)
            if not entry:
                break
            name = ctypes.string_at(entry + _NAME_OFFSET)
            if name not in (b".", b".."):
                names.append(name)
        return names

    def tell(self) -> int:
        """Returns the position."""
        return int(_libc.telldir(self._stream))

    def seek(self, position: int) -> None:
        """Goes to a position that `tell` gave."""
        _libc.seekdir(self._stream, ctypes.c_long(position))

    def rewind(self) -> None:
        """Goes to the start."""
        _libc.rewinddir(self._stream)

    def close(self) -> None:
        """Closes the stream."""
        _libc.closedir(self._stream)


@contextmanager
def stream(directory: Path) -> Iterator[Stream]:
    """Opens a directory stream."""
    opened = Stream(directory)
    try:
        yield opened
    finally:
        opened.close()


def _fill(directory: Path, count: int) -> set[bytes]:
    for number in range(count):
        (directory / f"name{number:05}").touch()
    return {b"name%05d" % number for number in range(count)}


def test_positions_hold_while_names_come_and_go(place: Path) -> None:
    names = _fill(place, 500)
    with stream(place) as listing:
        first = listing.read(200)
        at = listing.tell()
        rest = listing.read()
        assert sorted(first + rest) == sorted(names)
        for name in first[::7]:
            os.unlink(os.fsencode(place) + b"/" + name)
        (place / "zzz").touch()
        listing.seek(at)
        again = listing.read()
    assert set(rest) - {b"zzz"} == set(again) - {b"zzz"}


def test_every_position_can_be_resumed(place: Path) -> None:
    _fill(place, 120)
    with stream(place) as listing:
        positions, names = [listing.tell()], []
        while name := listing.read(1):
            names += name
            positions.append(listing.tell())
        for index in (119, 3, 60, 118, 0, 61):
            listing.seek(positions[index])
            assert listing.read() == names[index:]


def test_rewinding_lists_the_present_names(place: Path) -> None:
    _fill(place, 10)
    with stream(place) as listing:
        listing.read(3)
        (place / "new").touch()
        (place / "name00009").unlink()
        listing.rewind()
        found = listing.read()
    assert b"new" in found
    assert b"name00009" not in found


def test_removing_all_while_listing_leaves_nothing(place: Path) -> None:
    _fill(place, 1500)
    with os.scandir(place) as entries:
        for entry in entries:
            os.unlink(entry)
    assert os.listdir(place) == []


def test_renaming_all_while_listing_gives_nothing_twice_that_stays(place: Path) -> None:
    names = _fill(place, 600)
    seen = []
    with os.scandir(os.fsencode(place)) as entries:
        for entry in entries:
            seen.append(entry.name)
            if entry.name in names and int(entry.name[-5:]) % 2:
                os.rename(entry.path, entry.path + b" moved")
    stayed = [name for name in seen if name in names and not int(name[-5:]) % 2]
    assert len(stayed) == len(set(stayed)) == 300


def test_a_huge_directory_is_listed_once_and_removed(inside: Path) -> None:
    names = _fill(inside, 5000)
    with stream(inside) as listing:
        assert sorted(listing.read()) == sorted(names)
    assert sum(entry.is_file(follow_symlinks=False) for entry in os.scandir(inside)) == 5000
    shutil.rmtree(inside)
    assert not inside.exists()


def test_listing_has_kinds_and_numbers(place: Path) -> None:
    touch(place / "file")
    (place / "dir").mkdir()
    os.symlink("x", place / "link")
    os.mkfifo(place / "fifo")
    for entry in os.scandir(place):
        found = os.lstat(entry.path)
        assert entry.inode() == found.st_ino
        kinds = (entry.is_file(follow_symlinks=False), entry.is_dir(follow_symlinks=False), entry.is_symlink())
        assert kinds == (entry.name == "file", entry.name == "dir", entry.name == "link")


def test_dots_are_the_directory_and_the_one_above(place: Path) -> None:
    (place / "a/b").mkdir(parents=True)
    assert (place / "a/b/..").stat().st_ino == (place / "a").stat().st_ino
    assert (place / "a/b/.").stat().st_ino == (place / "a/b").stat().st_ino
    before = os.getcwd()
    try:
        os.chdir(place / "a/b")
        os.rename(place / "a/b", place / "moved")
        assert os.getcwd() == str(place / "moved")
        assert os.stat("..").st_ino == place.stat().st_ino
        os.rmdir(place / "moved")
        assert outcome(os.getcwd) == "ENOENT"
        assert outcome(lambda: os.mkdir("below")) == "ENOENT"
        assert outcome(lambda: os.stat(".")) == "done"
    finally:
        os.chdir(before)


@pytest.mark.parametrize("content", ["file", "dir", "link"])
def test_only_empty_directories_are_removed(content: str, place: Path) -> None:
    (place / "d").mkdir()
    if content == "file":
        touch(place / "d/it")
    elif content == "dir":
        (place / "d/it").mkdir()
    else:
        os.symlink("x", place / "d/it")
    assert outcome(lambda: os.rmdir(place / "d")) == "ENOTEMPTY"
    assert outcome(lambda: os.unlink(place / "d")) == "EISDIR"
    os.rmdir(place / "d/it") if content == "dir" else os.unlink(place / "d/it")
    os.rmdir(place / "d")
    assert outcome(lambda: os.rmdir(place / "d")) == "ENOENT"
    touch(place / "f")
    assert outcome(lambda: os.rmdir(place / "f")) == "ENOTDIR"
    os.symlink("f", place / "l")
    assert outcome(lambda: os.rmdir(place / "l")) == "ENOTDIR"


def test_a_mount_point_is_busy(shared: Mount) -> None:
    assert outcome(lambda: os.rmdir(shared.path)) == "EBUSY"
    assert outcome(lambda: os.rename(shared.path, shared.path.parent / "moved")) == "EBUSY"


def test_deep_directories_are_made_and_removed(place: Path) -> None:
    fd = os.open(place, os.O_RDONLY)
    for level in range(300):
        os.mkdir(f"level {level}", dir_fd=fd)
        below = os.open(f"level {level}", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    touch_fd = os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.close(touch_fd)
    os.close(fd)
    os.rename(place / "level 0/level 1", place / "moved")
    shutil.rmtree(place / "moved")
    assert os.listdir(place / "level 0") == []
