"""What fsspec and its users put around a filesystem: caches, blocks, pickled files, copies; and names of all kinds."""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pytest
from fsspec.generic import rsync  # type: ignore[import-untyped]
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

import vfs
from support import shell
from support.small_repositories import commit
from vfs.python.address_download import REVISION, fetch
from vfs.python.filesystem import Place, VersionFileSystem

NAMES = [
    "a", "[x].csv", "*star", "q?", "a b/ü ñ.txt", "deep/er/x", "deep/y", "deep/.hidden", "new\nline", "per%20cent",
    "hash#tag", "at@v1.txt", "colon::x", "{brace}", "~tilde", "back\\slash", "dir.zip/inner", os.fsdecode(b"\xff.bin"),
]  # fmt: skip
LARGE = "deep/er/x"
Question = Callable[[Any, str], Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with names of all kinds, and links; beside it a repository with its version."""
    top = tmp_path_factory.mktemp("layers")
    for name in NAMES:
        path = top / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name) * 50)
    (top / "data" / "empty").mkdir()
    (top / "data" / "circle").symlink_to(".")
    (top / "data" / "deep" / "link").symlink_to("y")
    shell.vfs("init", top / "repo")
    shell.vfs("--repo", top / "repo", "import", top / "data", "-m", "x")
    return top / "data"


@pytest.fixture(scope="module")
def version(data: Path) -> Iterator[vfs.Version]:
    """The version."""
    with vfs.open(data.parent / "repo") as opened:
        yield opened["v1"]


def _relative(names: Any, top: str) -> list[str]:
    return sorted(name.removeprefix(top).lstrip("/") for name in names if name.rstrip("/") != top.rstrip("/"))


def _walked(fs: Any, path: str, top: str, **options: Any) -> list[Any]:
    inner = [
        (each.rstrip("/").removeprefix(top.rstrip("/")).lstrip("/"), sorted(directories), sorted(files))
        for each, directories, files in fs.walk(path, **options)
    ]
    return sorted(inner)


def _outcome(question: Question, fs: Any, top: str) -> Any:
    try:
        return question(fs, top)
    except OSError as error:
        return type(error)


@pytest.fixture
def same(data: Path, version: vfs.Version) -> Callable[[Question], None]:
    """Returns what checks that an answer is the local filesystem's, of a version alone and by its address."""

    def check(question: Question) -> None:
        local = _outcome(question, LocalFileSystem(), f"{data}/")
        assert _outcome(question, version.fs, "") == local
        assert _outcome(question, fsspec.filesystem("vfs"), f"{version.url.removeprefix('vfs://')}/") == local

    return check


@pytest.mark.parametrize("path", ["", "empty", "circle", "nothing", "deep/", "a/", *NAMES])
def test_names_of_all_kinds_are_answered_as_by_the_local_filesystem(
    same: Callable[[Question], None], path: str
) -> None:
    same(lambda fs, top: _relative(fs.find(top + path), top))
    same(lambda fs, top: _relative(fs.find(top + path, withdirs=True), top))
    same(lambda fs, top: fs.du(top + path) if path not in ("", "circle") else None)
    same(lambda fs, top: _relative(fs.ls(top + path, detail=False), top))
    same(lambda fs, top: (fs.exists(top + path), fs.isdir(top + path), fs.isfile(top + path)))
    same(lambda fs, top: _relative(fs.expand_path(top + path), top))
    same(lambda fs, top: _relative(fs.expand_path(top + path, recursive=True), top))
    same(lambda fs, top: _walked(fs, top + path, top))
    same(lambda fs, top: _walked(fs, top + path, top, topdown=False, maxdepth=2))
    same(lambda fs, top: fs.read_block(top + path, 3, 20, b"\n"))


@pytest.mark.parametrize(
    "pattern",
    ["*", "**", "**/*", "*/", "deep/**", "[[]x[]].csv", "[*]star", "q[?]", "?", "**/x", "a b/*", "circle/*", "{a,b}*",
     "*line", "back*", "deep/.*", "nothing/*", "**/er/**"],
)  # fmt: skip
def test_patterns_find_what_they_find_locally(same: Callable[[Question], None], pattern: str) -> None:
    same(lambda fs, top: _relative(fs.glob(top + pattern), top))
    same(lambda fs, top: _relative(fs.glob(top + pattern, maxdepth=1), top))


@pytest.mark.parametrize(
    ("source", "target"), [("deep", "out"), ("deep/", "out/"), ("a", "out"), ("[!c]*", ""), ("a b", "out/x")]
)
def test_what_is_got_is_what_is_copied_locally(
    same: Callable[[Question], None], tmp_path: Path, source: str, target: str
) -> None:
    def got(fs: Any, top: str) -> list[Any]:
        out = tmp_path / f"{type(fs).__name__}{len(top)}"
        out.mkdir()
        fs.get(top + source, f"{out}/{target}", recursive=True)
        return sorted((str(each.relative_to(out)), each.is_file() and each.read_bytes()) for each in out.rglob("*"))

    same(got)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # fsspec's map of a file stays open.
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"block_size": 16},
        {"cache_options": {}},
        *(
            {"cache_type": kind, "block_size": 7}
            for kind in sorted(filter(None, fsspec.caching.caches))
            if kind != "parts"
        ),
    ],
)
def test_a_file_is_opened_with_blocks_and_each_kind_of_cache(
    same: Callable[[Question], None], options: dict[str, Any]
) -> None:
    def read(fs: Any, top: str) -> list[Any]:
        with fs.open(top + LARGE, **options) as file:
            first = file.read(7)
            file.seek(20)
            line = file.readline()
            file.seek(-5, os.SEEK_END)
            return [first, line, file.tell(), file.read(), file.read()]

    same(read)


@pytest.mark.parametrize("options", [{}, {"cache_type": "readahead", "block_size": 5}])
def test_an_open_file_goes_to_another_process_with_its_position(
    same: Callable[[Question], None], options: dict[str, Any]
) -> None:
    def passed(fs: Any, top: str) -> list[Any]:
        with fs.open(top + LARGE, **options) as file:
            first = file.read(5)
            with pickle.loads(pickle.dumps(file)) as there:  # noqa: S301  It was made here.
                return [first, there.read(9), there.tell(), file.read(3)]

    same(passed)


def test_a_file_of_a_version_pickles_unless_it_is_closed(version: vfs.Version) -> None:
    with version.open(LARGE) as file:
        file.seek(4)
        assert pickle.loads(pickle.dumps(file)).read(5) == version.read_bytes(LARGE)[4:9]  # noqa: S301
    with pytest.raises(ValueError, match="closed"):
        pickle.dumps(file)


@pytest.mark.parametrize("kind", ["none", "readahead"])
def test_a_file_with_blocks_stays_of_the_version_that_it_was_opened_of(small: vfs.Repository, kind: str) -> None:
    commit(small, {"name": b"a" * 100}, "old")
    with fsspec.filesystem("vfs").open(f"vfs://{small.path}@latest/name", cache_type=kind, block_size=10) as file:
        first = file.read(10)
        commit(small, {"name": b"b" * 120}, "new")
        with pickle.loads(pickle.dumps(file)) as there:  # noqa: S301  It was made here.
            assert first + there.read() == b"a" * 100
        assert first + file.read() == b"a" * 100
        assert file.details["size"] == 100


@pytest.fixture
def moving(small: vfs.Repository, monkeypatch: pytest.MonkeyPatch) -> vfs.Repository:
    """A repository that has a new version, with another `name`, whenever the filesystem has asked what one is."""
    commit(small, {"name": b"0" * 100}, "0")
    place, count = VersionFileSystem._place, itertools.count(1)  # noqa: SLF001  A commit between two steps.

    def moved(fs: VersionFileSystem, path: str) -> Place:
        found = place(fs, path)
        number = next(count)
        commit(small, {"name": b"%d" % number * 100, "other": b"%d" % number}, f"{number}")
        return found

    monkeypatch.setattr(VersionFileSystem, "_place", moved)
    return small


def test_what_is_asked_of_a_file_at_once_is_of_one_version(moving: vfs.Repository) -> None:
    fs, name = fsspec.filesystem("vfs"), f"{moving.path}@latest/name"
    assert fs.cat_file(name) == b"0" * 100
    assert fs.cat_file(name, 10, 20) == b"1" * 10
    assert fs.cat_ranges([name] * 3, [10, 0, 20], [20, 10, 30]) == [b"2" * 10] * 3
    assert fs.open(name).read() == b"3" * 100


def test_what_is_fetched_from_a_name_that_moves_is_of_one_version(moving: vfs.Repository, tmp_path: Path) -> None:
    commit(moving, {"other": b"0"}, "with another")
    expected = moving["latest"].id
    fetched = fetch(f"vfs://{moving.path}@latest", tmp_path / "copy", lambda _files, _size: None)
    assert [(tmp_path / "copy" / each).read_bytes()[:1] for each in ("name", "other")] == [b"0"] * 2
    assert fetched.metadata[REVISION] == expected


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # fsspec's map of a file stays open.
@pytest.mark.parametrize("cache", ["blockcache", "filecache", "simplecache"])
def test_an_address_goes_through_a_cache_of_fsspecs(
    data: Path, version: vfs.Version, tmp_path: Path, cache: str
) -> None:
    for name in (LARGE, "a b/ü ñ.txt", "per%20cent", "hash#tag", "[x].csv"):
        whole = (data / name).read_bytes()
        for _ in range(2):
            options = {cache: {"cache_storage": str(tmp_path / "chained")}}
            with fsspec.open(f"{cache}::{version.url}/{name}", **options) as file:
                assert (file.read(4), file.seek(10), file.read()) == (whole[:4], 10, whole[10:])
    fs = fsspec.filesystem(cache, target_protocol="vfs", cache_storage=str(tmp_path / "own"))
    for _ in range(2):
        with fs.open(f"{version.url}/a") as file:
            assert file.read() == (data / "a").read_bytes()
    with pickle.loads(pickle.dumps(fs)).open(f"{version.url}/a") as file:  # noqa: S301
        assert file.read() == (data / "a").read_bytes()
    assert len(fs.find(f"{version.url}/deep")) == 4


def test_a_directory_is_copied_to_another_filesystem(data: Path, version: vfs.Version, tmp_path: Path) -> None:
    rsync(f"{version.url}/deep", f"file://{tmp_path}/copy")
    for name in ("er/x", "y", ".hidden", "link"):
        assert (tmp_path / "copy" / name).read_bytes() == (data / "deep" / name).read_bytes()


def test_it_is_asked_by_programs_that_wait_for_nothing(data: Path, version: vfs.Version) -> None:
    wrapped = AsyncFileSystemWrapper(version.fs)

    async def ask() -> list[Any]:
        names = await wrapped._find("deep")  # noqa: SLF001  They are public there.
        parts = await wrapped._cat_ranges(["a", "a"], [0, 1], [1, 2])  # noqa: SLF001
        return [names, await wrapped._cat_file("a", 0, 2), parts]  # noqa: SLF001

    assert asyncio.run(ask()) == [version.fs.find("deep"), b"aa", [b"a", b"a"]]


def test_other_chains_of_addresses_lead_into_a_version(data: Path, version: vfs.Version) -> None:
    assert fsspec.get_mapper(f"{version.url}/deep")["y"] == (data / "deep/y").read_bytes()
    assert fsspec.url_to_fs(f"dir::{version.url}/deep")[0].cat("y") == (data / "deep/y").read_bytes()
    assert fsspec.AbstractFileSystem.from_json(version.fs.to_json()).cat("a") == (data / "a").read_bytes()
    part = fsspec.filesystem("reference", fo={"part": [f"{version.url}/a", 0, 3]}, remote_protocol="vfs")
    assert part.cat("part") == b"aaa"


def test_a_link_that_leads_nowhere_is_there_as_a_link_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dangling").symlink_to("nowhere")
    shell.vfs("init", tmp_path / "repo")
    shell.vfs("--repo", tmp_path / "repo", "import", tmp_path / "data", "-m", "x")
    with vfs.open(tmp_path / "repo") as opened:
        fs = opened["v1"].fs
        assert (fs.exists("dangling"), fs.lexists("dangling"), fs.lexists("nothing")) == (False, True, False)
        assert [(info["name"], info["type"]) for info in fs.ls("")] == [("dangling", "link")]
        with pytest.raises(FileNotFoundError):
            fs.info("dangling")
