"""Goal: whatever stands in the place of a repository's files, nothing outside of it changes, and no command blocks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from support.trees import write_file
from vfs.errors import VfsError
from vfs.repo.branches import create_branch, delete_branch
from vfs.repo.commit import commit
from vfs.repo.export.export import export
from vfs.repo.fsck import fsck
from vfs.repo.import_directory import import_directory
from vfs.repo.repository import Repository
from vfs.repo.retention.gc import gc

SECRET = b"another's file"


def filled(path: Path) -> None:
    """A repository with everything that one can have: versions, branches, an import, uncommitted changes."""
    source = path.parent / "source"
    source.mkdir()
    (source / "f").write_bytes(b"f" * 9000)
    with Repository.init(path) as repo:
        with repo.open_overlay() as overlay:
            import_directory(repo, source, "import", "a", overlay=overlay)
            write_file(overlay, b"a/b", b"b" * 5000)
            version = commit(repo, overlay, "one", "a").version
            write_file(overlay, b"uncommitted", b"u")
        create_branch(repo, "side", version, author="a")
        with repo.open_overlay("side") as overlay:
            write_file(overlay, b"on side", b"s")
    (path / "run").mkdir(exist_ok=True)
    (path / "work" / "inodes").touch()


def use(path: Path) -> None:
    """Does with a repository what people do with one; every step may be refused."""

    def with_repo(step: Callable[[Repository], object]) -> None:
        with suppress(VfsError, OSError), Repository.open(path) as repo:
            step(repo)

    def work(repo: Repository) -> None:
        with repo.open_overlay() as overlay:
            list(overlay.changes())
            write_file(overlay, b"new", b"n")
            commit(repo, overlay, "m", "a")

    def bring_in(repo: Repository) -> None:
        with repo.open_overlay() as overlay:
            import_directory(repo, path.parent / "source", "again", "a", overlay=overlay)

    with_repo(lambda repo: list(repo.history()))
    with_repo(lambda repo: fsck(repo, read_data=True))
    with_repo(lambda repo: export(repo, repo.resolve("main"), path.parent / "out"))
    with_repo(work)
    with_repo(lambda repo: repo.open_overlay("side").close())
    with_repo(lambda repo: delete_branch(repo, "side", author="a", force=True))
    with_repo(bring_in)
    with_repo(lambda repo: gc(repo, grace_s=0, undo_s=0))
    with_repo(lambda repo: repo.rebuild_index())


PLACES = [
    *("packs", "packs/data", "packs/tree", "index", "index/data.mdb", "index/lock.mdb", "index/origin", "cache"),
    *("cache/data.mdb", "tmp", "tmp/x", "work", "work/main", "work/main/base", "work/main/lock", "work/main/base.new"),
    *(
        "work/main/journal-3",
        "work/main/journal-3.new",
        "work/main/journal-9.new",
        "work/main/journal-999",
        "work/side",
    ),
    *("work/main/merge", "work/main/merge.new", "work/.removed-x", "work/inodes", "run", "run/main.sock", "log"),
    *("retired", "write.lock", "objects.lock", "gc.lock", "index.lock", "vfs.json"),
]


def outside_of(tmp_path: Path) -> Path:
    """Makes what another person owns: files of the names that a repository has, with other content."""
    outside = tmp_path / "outside"
    for name in (
        "data.mdb",
        "base",
        "journal-0",
        "journal-3",
        "x.new",
        "merge",
        "lock",
        "origin",
        "main/base",
        "00/x.pack",
    ):
        (outside / name).parent.mkdir(parents=True, exist_ok=True)
        (outside / name).write_bytes(SECRET)
    return outside


def state_of(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(directory)): (
            (status := path.lstat()).st_ino,
            status.st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in directory.rglob("*")
    }


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_link_in_any_place_leads_nowhere(tmp_path: Path, place: str) -> None:
    filled(tmp_path / "whole")
    outside = outside_of(tmp_path)
    before = state_of(outside)
    for number, target in enumerate((outside, outside / "base", tmp_path / "not there")):
        planted = tmp_path / f"repo{number}"
        shutil.copytree(tmp_path / "whole", planted, symlinks=True)
        _plant(planted / place, partial(os.symlink, target))
        use(planted)
        assert state_of(outside) == before
        assert not (tmp_path / "not there").exists()


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_special_files_in_any_place_block_no_command(tmp_path: Path, place: str) -> None:
    filled(tmp_path / "whole")
    for number, make in enumerate((os.mkfifo, os.mkdir, lambda path: path.write_bytes(SECRET))):
        shutil.copytree(tmp_path / "whole", tmp_path / f"repo{number}")
        _plant(tmp_path / f"repo{number}" / place, make)
        use(tmp_path / f"repo{number}")


def test_a_second_name_of_anothers_file_is_not_written(tmp_path: Path) -> None:
    for name in ("log", "write.lock", "index.lock", "work/main/base", "work/main/lock", "work/inodes"):
        filled(tmp_path / "repo")
        (tmp_path / "mine").write_bytes(SECRET)
        _plant(tmp_path / "repo" / name, partial(os.link, tmp_path / "mine"))
        use(tmp_path / "repo")
        assert (tmp_path / "mine").read_bytes() == SECRET
        shutil.rmtree(tmp_path / "repo")
        shutil.rmtree(tmp_path / "source")
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def _plant(path: Path, make: Callable[[Path], object]) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
