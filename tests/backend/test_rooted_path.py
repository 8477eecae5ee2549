"""RootedPath: nothing below a root leads out of it, whatever stands there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from vfs.backend.rooted_path import Planted, RootedPath
from vfs.errors import InvalidInput


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    made = tmp_path / "outside"
    (made / "deep").mkdir(parents=True)
    (made / "file").write_bytes(b"another's")
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../outside", "/", "a\0b"])
def test_a_name_is_one_plain_component(root: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        RootedPath(root, name)
    with pytest.raises(InvalidInput):
        RootedPath(root) / "work" / name


USES: dict[str, Callable[[RootedPath], object]] = {
    "read": lambda path: (path / "file").read_bytes(),
    "open": lambda path: (path / "file").open(os.O_RDWR | os.O_CREAT),
    "create": lambda path: (path / "new").create(),
    "unlink": lambda path: (path / "file").unlink(),
    "rename out": lambda path: (path / "file").rename(RootedPath(path.parent.path, "moved")),
    "rename in": lambda path: RootedPath(path.parent.path, "own").rename(path / "file"),
    "names": lambda path: path.names(),
    "glob": lambda path: path.glob("*"),
    "make a directory": lambda path: (path / "made").make_directory(),
    "remove a directory": lambda path: (path / "deep").remove_directory(),
    "exists": lambda path: (path / "file").exists(),
    "sync": lambda path: path.sync(),
}


@pytest.mark.parametrize("use", USES)
def test_a_directory_that_is_a_link_is_never_gone_through(root: Path, outside: Path, use: str) -> None:
    before = contents(outside)
    (root / "own").write_bytes(b"own")
    (root / "link").symlink_to(outside)
    with pytest.raises(Planted):
        USES[use](RootedPath(root, "link"))
    assert contents(outside) == before
    assert (outside / "deep").is_dir()


def test_a_file_that_is_a_link_is_neither_read_nor_written_and_a_new_one_takes_its_place(
    root: Path, outside: Path
) -> None:
    (root / "link").symlink_to(outside / "file")
    path = RootedPath(root, "link")
    assert path.exists()
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_TRUNC):
        with pytest.raises(Planted, match="symbolic link"):
            path.open(flags)
    with pytest.raises(Planted):
        path.read_bytes()
    with open(path.create(), "wb") as file:
        file.write(b"mine")
    assert (root / "link").read_bytes() == b"mine"
    assert (outside / "file").read_bytes() == b"another's"


def test_a_rename_onto_a_link_replaces_the_link(root: Path, outside: Path) -> None:
    (root / "new").write_bytes(b"mine")
    (root / "name").symlink_to(outside / "file")
    RootedPath(root, "new").rename(RootedPath(root, "name"))
    assert (root / "name").read_bytes() == b"mine"
    assert (outside / "file").read_bytes() == b"another's"


def test_a_second_name_of_anothers_file_is_read_and_not_written(root: Path, outside: Path) -> None:
    os.link(outside / "file", root / "second")
    path = RootedPath(root, "second")
    assert path.read_bytes() == b"another's"
    for flags in (os.O_RDWR, os.O_WRONLY | os.O_APPEND):
        with pytest.raises(Planted, match="second name"):
            path.open(flags)


@pytest.mark.parametrize("kind", ["fifo", "socket", "directory", "device"])
def test_special_files_are_refused_without_blocking(root: Path, kind: str) -> None:
    path = root / "it"
    if kind == "directory":
        path.mkdir()
    else:
        device = os.makedev(1, 5) if kind == "device" else 0
        form = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "device": stat.S_IFCHR}[kind]
        try:
            os.mknod(path, form | 0o600, device)
        except PermissionError:
            # Only root makes devices; others are given none.
            assert kind == "device"
            return
    for flags in (os.O_RDONLY, os.O_RDWR | os.O_CREAT):
        with pytest.raises(Planted):
            RootedPath(root, "it").open(flags)
    if kind == "directory":
        with pytest.raises(Planted):
            RootedPath(root, "it").create()
    else:
        with pytest.raises(Planted):
            RootedPath(root, "it").names()


def test_the_root_itself_may_be_reached_through_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    (RootedPath(tmp_path / "link") / "a" / "b").make_directory()
    assert (root / "a" / "b").is_dir()


def test_an_error_names_the_whole_path(root: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        (RootedPath(root) / "a" / "b").open(os.O_RDONLY)
    assert caught.value.filename == str(root / "a" / "b")


def test_a_file_that_is_larger_than_it_can_be_is_not_read(root: Path) -> None:
    (root / "large").touch()
    os.truncate(root / "large", 1 << 40)
    with pytest.raises(Planted, match="no program of ours"):
        RootedPath(root, "large").read_bytes()


def test_what_may_be_missing_may_lack_its_directory_too(root: Path) -> None:
    (RootedPath(root) / "a" / "b").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (RootedPath(root) / "a" / "b").unlink()
