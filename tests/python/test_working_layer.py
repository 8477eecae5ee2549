"""The working layer for Python programs."""

from __future__ import annotations

from pathlib import Path

import pytest

import vfs
from support.small_repositories import FIRST, commit
from vfs.errors import InvalidInput, IsADirectory, NotFound, NothingToDo
from vfs.repo.branches import create_branch
from vfs.repo.repository import Repository as OpenRepository


def test_what_is_written_is_uncommitted_until_it_is_committed(small: vfs.Repository) -> None:
    with small.working() as layer:
        layer.write("new/file", "text")
        assert layer.read_text("new/file") == "text"
        assert layer.listdir("new") == ["file"]
        assert [change.path for change in layer.changes()] == ["new", "new/file"]
    assert not small["latest"].exists("new/file")
    with small.working() as layer:
        assert layer.exists("new/file")
        version = layer.commit("third", author="x@y", metadata={"accuracy": "0.9"})
        assert layer.changes() == []
    assert (version.name, version.author, version.metadata) == ("v3", "x@y", {"accuracy": "0.9"})
    assert small["latest"].read_bytes("new/file") == b"text"


def test_a_large_file_is_streamed(small: vfs.Repository) -> None:
    data = bytes(range(251)) * 40_000
    with small.working() as layer:
        with layer.open("large", "wb") as file:
            for at in range(0, len(data), 100_000):
                file.write(data[at : at + 100_000])
        with layer.open("large") as back:
            assert back.read() == data
        layer.commit("large")
    assert small["latest"].read_bytes("large") == data


def test_an_interrupted_file_does_not_appear(small: vfs.Repository) -> None:
    with small.working() as layer:
        for mode, data in (("wb", b"half"), ("w", "half")):
            with pytest.raises(TypeError), layer.open("a.txt", mode) as file:
                file.writelines([data, None])
        assert layer.read_bytes("a.txt") == b"one\n2\nthree\n"
        assert layer.listdir() == ["a.txt", "dir"]
        assert layer.changes() == []


def test_permissions_of_a_file_that_is_replaced_stay(small: vfs.Repository, tmp_path: Path) -> None:
    with small.working() as layer:
        layer.write("a.txt", "x")
        (change,) = layer.changes()
    assert change.old is not None
    assert change.new is not None
    assert change.old.mode == change.new.mode
    assert "content" in change.what


def test_some_paths_are_committed(small: vfs.Repository) -> None:
    with small.working() as layer:
        layer.write("x", b"1")
        layer.write("y", b"2")
        layer.commit("x alone", paths=["x"])
        assert [change.path for change in layer.changes()] == ["y"]
    assert not small["latest"].exists("y")


def test_removing_and_making_directories(small: vfs.Repository) -> None:
    with small.working() as layer:
        layer.remove("dir")
        layer.mkdir("empty/one")
        layer.mkdir("empty/one")
        version = layer.commit("less")
        with pytest.raises(NotFound):
            layer.remove("dir")
    assert [entry.path for entry in version.walk()] == ["a.txt", "empty", "empty/one"]


def test_misuse_is_refused(small: vfs.Repository) -> None:
    with small.working() as layer:
        for path in ("", "../x", "x/"):
            with pytest.raises(InvalidInput):
                layer.write(path, b"")
        with pytest.raises(IsADirectory):
            layer.write("dir", b"")
        with pytest.raises(IsADirectory):
            layer.read_bytes("dir")
        with pytest.raises(NotFound):
            layer.read_bytes("nothing")
        with pytest.raises(ValueError, match="none of"):
            layer.open("a.txt", "ab")
        with pytest.raises(NothingToDo):
            layer.commit("nothing")
        layer.write("x", b"")
        for message, author, metadata in (("", None, {}), ("m", "\x1b[2J", {}), ("m", None, {"a b": "c"})):
            with pytest.raises(InvalidInput):
                layer.commit(message, author=author, metadata=metadata)
        assert layer.commit("empty file").number == 3
        assert layer.commit("the same", allow_empty=True).number == 4


def test_branches_have_layers_of_their_own(small: vfs.Repository) -> None:
    small.close()
    with OpenRepository.open(small.path) as opened:
        create_branch(opened, "other", opened.resolve("v1"), author="a@b")
    with small.working("other") as layer:
        layer.write("only-here", b"1")
        layer.commit("other")
    assert vfs.open(small.path, branch="other")["latest"].exists("only-here")
    assert not small["latest"].exists("only-here")


def test_without_a_version_the_layer_is_empty(tmp_path: Path) -> None:
    with vfs.init(tmp_path / "repo") as repository:
        assert repository.head is None
        assert list(repository) == []
        assert commit(repository, FIRST, "first") == repository.head
