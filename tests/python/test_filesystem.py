"""The filesystem of fsspec: the same as the local one over the same files, and fsspec's own tests that fit."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pytest
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests  # type: ignore[import-untyped]

import vfs
from support import shell
from support.small_repositories import FIRST, SECOND, commit
from vfs.python.filesystem import VersionFileSystem, split_address

Commit = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Commit:
    """Returns what makes a named directory with files and a repository with its version, once for all tests."""
    made: dict[str, Path] = {}

    def commit(name: str, make: Callable[[Path], object]) -> Path:
        if name not in made:
            made[name] = top = tmp_path_factory.mktemp(name)
            (top / "data").mkdir()
            make(top / "data")
            repository = top / "a@b" / "repo"
            shell.vfs("init", repository)
            shell.vfs("--repo", repository, "import", top / "data", "-m", "x")
        return made[name]

    return commit


def _fill(top: Path) -> None:
    """Makes files of several sizes, in several depths."""
    chosen = random.Random(7)
    for path, size in {"a": 0, "b.txt": 10, "d/e": 5000, "d/f/g.bin": 200_000, "d/f/h": 3, "x y/ü.csv": 77}.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(chosen.randbytes(size))
    (top / "d" / "link").symlink_to("e")


@pytest.fixture
def data(committed: Commit) -> Path:
    """A directory with files."""
    return committed("several", _fill) / "data"


@pytest.fixture
def version(data: Path) -> Iterator[vfs.Version]:
    """A version of it."""
    with vfs.open(data.parent / "a@b" / "repo") as opened:
        yield opened["v1"]


def _outcome(call: Any) -> Any:
    try:
        return call()
    except OSError as error:
        return type(error)


def _relative(names: Any, top: str) -> Any:
    # The local filesystem names the top itself too; that of a version has no name.
    return sorted(name.removeprefix(top).lstrip("/") for name in names if name != top.rstrip("/"))


def test_it_answers_as_the_local_filesystem_does(data: Path, version: vfs.Version) -> None:
    local, ours, tops = LocalFileSystem(), version.fs, (f"{data}/", "")
    paths = ["", "a", "b.txt", "d", "d/e", "d/f", "d/f/g.bin", "d/link", "x y/ü.csv", "nothing", "a/b", "d/nothing/x"]

    def both(question: Any) -> list[Any]:
        return [_outcome(lambda fs=fs, top=top: question(fs, top)) for fs, top in zip((local, ours), tops, strict=True)]

    for path in paths:
        for question in (
            lambda fs, top: fs.exists(top + path),  # noqa: B023  It is called at once.
            lambda fs, top: fs.isfile(top + path),  # noqa: B023
            lambda fs, top: fs.isdir(top + path),  # noqa: B023
            lambda fs, top: fs.cat_file(top + path),  # noqa: B023
            lambda fs, top: fs.cat_file(top + path, 2, 7),  # noqa: B023
            lambda fs, top: fs.cat_file(top + path, -5, None),  # noqa: B023
            lambda fs, top: _relative(fs.find(top + path), top),  # noqa: B023
            lambda fs, top: _relative(fs.find(top + path, maxdepth=1), top),  # noqa: B023
            lambda fs, top: fs.head(top + path, 9),  # noqa: B023
            lambda fs, top: fs.tail(top + path, 9),  # noqa: B023
            lambda fs, top: fs.du(top + path),  # noqa: B023
            lambda fs, top: fs.info(top + path)["type"],  # noqa: B023
        ):
            theirs, mine = both(question)
            assert mine == theirs, path
    for path in ("", "d", "d/f"):
        theirs, mine = both(lambda fs, top: _relative(fs.ls(top + path, detail=False), top))  # noqa: B023
        assert mine == theirs
    for pattern in ("*", "**", "d/*", "**/*.bin", "d/**/h", "?", "[ab]*", "nothing*"):
        theirs, mine = both(lambda fs, top: _relative(fs.glob(top + pattern), top))  # noqa: B023
        assert mine == theirs, pattern
    theirs, mine = both(lambda fs, top: [(_relative([a], top), b, c) for a, b, c in fs.walk(top)])
    ordered = [sorted((a, sorted(b), sorted(c)) for a, b, c in each) for each in (mine, theirs)]
    assert ordered[0] == ordered[1]


@pytest.mark.parametrize("start", [None, 0, 3, -5, 10_000])
@pytest.mark.parametrize("end", [None, 0, 7, -1, 10_000])
def test_a_range_is_what_a_slice_is(version: vfs.Version, start: int | None, end: int | None) -> None:
    data = version.read_bytes("d/e")
    assert version.fs.cat_file("d/e", start, end) == data[start:end]


def test_ranges_are_those_of_the_file_whatever_their_order(data: Path, version: vfs.Version) -> None:
    chosen = random.Random(1)
    names = ["d/f/g.bin", "d/e", "b.txt", "nothing"]
    paths, starts, ends = [], [], []
    for _ in range(200):
        paths.append(chosen.choice(names))
        starts.append(chosen.randrange(200_000))
        ends.append(starts[-1] + chosen.randrange(10_000))
    found = version.fs.cat_ranges(paths, starts, ends)
    for path, start, end, piece in zip(paths, starts, ends, found, strict=True):
        if path == "nothing":
            assert isinstance(piece, FileNotFoundError)
        else:
            assert piece == (data / path).read_bytes()[start:end]
    with pytest.raises(FileNotFoundError):
        version.fs.cat_ranges(["nothing"], 0, 1, on_error="raise")
    with pytest.raises(ValueError, match="same length"):
        version.fs.cat_ranges(["a"], [0, 1], [1])


def test_an_address_names_repository_version_and_path(small: vfs.Repository) -> None:
    for name in ("v1", "latest~1", small["v1"].id):
        address = f"vfs://{small.path}@{name}/dir/b.csv"
        with fsspec.open(address, "rb") as file:
            assert file.read() == FIRST["dir/b.csv"]
        fs, path = fsspec.url_to_fs(address)
        assert fs.unstrip_protocol(path) == address
        assert [fs.unstrip_protocol(each) for each in fs.find(f"vfs://{small.path}@{name}/dir")] == [
            f"vfs://{small.path}@{name}/dir/b.csv",
            f"vfs://{small.path}@{name}/dir/deep/c.bin",
        ]
    with fsspec.open(f"vfs://{small.path}@latest/a.txt", "rt") as text:
        assert text.read() == SECOND["a.txt"].decode()
    assert small["v1"].fs.unstrip_protocol("a.txt") == f"{small['v1'].url}/a.txt"


@pytest.mark.parametrize("address", ["vfs://", "vfs:///nowhere@v1/a", "vfs:///tmp", "vfs:///tmp@v1/a", "vfs:///tmp@/a"])
def test_an_address_of_nothing_is_not_found(address: str) -> None:
    fs, path = fsspec.url_to_fs(address)
    with pytest.raises(FileNotFoundError):
        fs.cat_file(path)
    assert not fs.exists(path)


def test_a_repository_or_a_path_may_have_the_mark(version: vfs.Version) -> None:
    assert split_address(f"{version.repository}@v1/x@2.png") == (str(version.repository), "v1", "x@2.png")
    assert split_address("/r@v1/x@2.png") == ("/r", "v1", "x@2.png")
    assert fsspec.open(f"{version.url}/d/e").open().read() == version.read_bytes("d/e")


def test_a_mount_or_a_directory_in_it_names_the_repository(small: vfs.Repository) -> None:
    inside = small.path / "run"
    inside.mkdir(exist_ok=True)
    fs, path = fsspec.url_to_fs(f"vfs://{inside}@v1/a.txt")
    assert fs.cat_file(path) == FIRST["a.txt"]


def test_pickled_it_is_of_the_same_versions(small: vfs.Repository) -> None:
    fs, path = fsspec.url_to_fs(f"vfs://{small.path}@latest/a.txt")
    assert fs.cat_file(path) == SECOND["a.txt"]
    packed = pickle.dumps(fs)
    commit(small, {"a.txt": b"newer"}, "third")
    assert pickle.loads(packed).cat_file(path) == SECOND["a.txt"]  # noqa: S301  It was made here.
    assert fs.cat_file(path) == b"newer"
    bound = small["latest~1"].fs
    assert pickle.loads(pickle.dumps(bound)).cat_file("a.txt") == SECOND["a.txt"]  # noqa: S301


def test_contents_have_keys_and_files_have_times(small: vfs.Repository) -> None:
    first, second = small["v1"].fs, small["v2"].fs
    assert first.ukey("dir/deep/c.bin") == second.ukey("dir/deep/c.bin")
    assert first.checksum("dir/deep/c.bin") == second.checksum("dir/deep/c.bin")
    assert first.ukey("a.txt") != second.ukey("a.txt")
    assert first.modified("a.txt") == small["v1"].info("a.txt").mtime
    assert first.modified("a.txt").tzinfo is UTC
    assert isinstance(first.created("a.txt"), datetime)


def test_nothing_is_written(small: vfs.Repository, tmp_path: Path) -> None:
    fs = small["v1"].fs
    (tmp_path / "file").write_bytes(b"")
    for call in (
        lambda: fs.open("new", "wb"),
        lambda: fs.open("a.txt", "ab"),
        lambda: fs.pipe_file("new", b""),
        lambda: fs.put_file(str(tmp_path / "file"), "new"),
        lambda: fs.mkdir("new"),
        lambda: fs.makedirs("new", exist_ok=True),
        lambda: fs.rmdir("dir"),
        lambda: fs.rm("dir", recursive=True),
        lambda: fs.rm_file("a.txt"),
        lambda: fs.cp_file("a.txt", "new"),
        lambda: fs.mv("a.txt", "new"),
        lambda: fs.touch("a.txt"),
        lambda: fs.copy("a.txt", "new"),
    ):
        with pytest.raises(OSError, match="read-only"):
            call()
    assert fs.find("") == sorted(FIRST)


def test_a_file_is_got_and_cached_by_other_filesystems(small: vfs.Repository, tmp_path: Path) -> None:
    fs = small["v1"].fs
    fs.get("dir", str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out" / "deep" / "c.bin").read_bytes() == FIRST["dir/deep/c.bin"]
    address = f"simplecache::vfs://{small.path}@v1/a.txt"
    with fsspec.open(address, simplecache={"cache_storage": str(tmp_path / "cache")}) as file:
        assert file.read() == FIRST["a.txt"]


class TestGetting(AbstractFixtures, AbstractGetTests):  # type: ignore[misc]  # fsspec has no types.
    """fsspec's own tests of a filesystem that files are got from: each scenario is a version."""

    @pytest.fixture
    def fs(self) -> VersionFileSystem:
        """The filesystem under test."""
        return VersionFileSystem()

    @pytest.fixture
    def fs_path(self, committed: Commit) -> str:
        """A version for the test that makes its own scenario: two directories, with a file in the inner one."""
        return _address(committed("inner", lambda top: _touch(top / "src" / "file", top / "src" / "sub" / "file")))

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self, committed: Commit) -> str:
        """A scenario of fsspec's."""
        return self._scenario(committed, "bulk", self._bulk_operations_scenario_0)

    @pytest.fixture
    def fs_glob_edge_cases_files(self, committed: Commit) -> str:
        """A scenario of fsspec's."""
        return self._scenario(committed, "glob", self._glob_edge_cases_files)

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self, committed: Commit) -> str:
        """A scenario of fsspec's."""
        return self._scenario(committed, "prefix", self._dir_and_file_with_same_name_prefix)

    @pytest.fixture
    def fs_10_files_with_hashed_names(self, committed: Commit) -> str:
        """A scenario of fsspec's."""
        return self._scenario(committed, "hashed", self._10_files_with_hashed_names)

    def _scenario(self, committed: Commit, name: str, make: Any) -> str:
        local = LocalFileSystem(auto_mkdir=True)
        return _address(committed(name, lambda top: make(local, os.path.join, str(top)))) + "/source"

    def test_get_directory_recursive(self, fs: VersionFileSystem, fs_path: str, tmp_path: Path) -> None:
        """Replaces fsspec's test of this name, which writes to the filesystem that it reads."""
        for target in ("new", "new/"):
            fs.get(f"{fs_path}/src", str(tmp_path / "there") + target, recursive=True)
        assert (tmp_path / "therenew" / "sub" / "file").is_file()
        assert (tmp_path / "therenew" / "src" / "file").is_file()


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def _address(made: Path) -> str:
    """Returns the address of the version that `committed` made."""
    return f"{made / 'a@b' / 'repo'}@v1"
