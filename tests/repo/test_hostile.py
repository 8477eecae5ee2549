"""Repositories from somewhere else: what they say is refused by name, told by `fsck`, and never ends in a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest

from support.hostile import ENDLESS, IMPOSSIBLE, linked_through, make, shared_directories
from vfs.errors import VfsError
from vfs.history.diff import diff_trees
from vfs.model.objects import Kind
from vfs.repo.costs import version_costs
from vfs.repo.export.export import export
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository
from vfs.repo.retention.gc import gc
from vfs.repo.retention.purge import purge
from vfs.repo.stats import stats
from vfs.store.trees.directories import file_content, walk
from vfs.store.trees.file_reader import FileReader

_PATHS_MAX = 500


def read_some(repo: Repository) -> None:
    """Reads what a mount would be asked for."""
    version = repo.head()
    assert version is not None
    list(repo.history())
    for _, directory, entry in islice(walk(repo.store, version.commit.root), _PATHS_MAX):
        if entry.kind == Kind.FILE:
            reader = FileReader(repo.store, file_content(repo.store, directory, entry))
            for offset in (0, max(0, entry.size - 10)):
                reader.read(offset, 10)
            list(islice(reader.refs(), _PATHS_MAX))


def use_layer(repo: Repository) -> None:
    """Opens the working layer, as a mount and `status` do."""
    with repo.open_overlay() as overlay:
        for name in islice(overlay.names(1), _PATHS_MAX):
            overlay.lookup(1, name)
        list(islice(overlay.changes(), _PATHS_MAX))


def see_difference(repo: Repository) -> None:
    version = repo.head()
    assert version is not None
    empty = version.commit.root.__class__(b"", Kind.DIR, 0o755, 0, 0, 0)
    list(islice(diff_trees(repo.store, empty, version.commit.root), _PATHS_MAX))


def sweep(repo: Repository) -> None:
    gc(repo, grace_s=0, author="a")


USES: dict[str, Callable[[Repository], object]] = {
    "read": read_some,
    "working layer": use_layer,
    "difference": see_difference,
    "stats": stats,
    "costs": version_costs,
    "purge": lambda repo: purge(repo, [b"f", b"a/b"], author="a", dry_run=True),
    "sweep": sweep,
}


def write_out(repo: Repository) -> None:
    export(repo, repo.resolve("main"), repo.path.parent / "out")


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_invalid_objects_are_reported_by_fsck_and_refused_elsewhere(tmp_path: Path, name: str) -> None:
    make(tmp_path / "repo", IMPOSSIBLE[name])
    for read_data in (False, True):
        with Repository.open(tmp_path / "repo") as repo:
            report = fsck(repo, read_data=read_data)
        assert not report.is_clean
    for use in (*USES.values(), write_out):
        with Repository.open(tmp_path / "repo") as repo, suppress(VfsError):
            use(repo)
    assert set(os.listdir(tmp_path)) <= {"repo", "out"}


@pytest.mark.parametrize("name", ENDLESS)
def test_few_objects_that_stand_for_paths_without_end_cost_no_more_than_they_are(tmp_path: Path, name: str) -> None:
    make(tmp_path / "repo", ENDLESS[name])
    with Repository.open(tmp_path / "repo") as repo:
        assert fsck(repo, read_data=True).is_clean
        for use in USES.values():
            use(repo)


def test_a_hard_link_is_not_made_through_a_symbolic_link_of_the_version(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"another's")
    make(tmp_path / "repo", linked_through(os.fsencode(outside)))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "kept").touch()
    with Repository.open(tmp_path / "repo") as repo:
        assert not fsck(repo).is_clean
        for target, is_there in (("new", False), ("there", True)):
            with suppress(VfsError, OSError):
                export(repo, repo.resolve("main"), tmp_path / target, into_existing=is_there)
            assert not os.path.samefile(outside, tmp_path / target)
            assert (outside / "x").stat().st_nlink == 1
    assert (outside / "x").read_bytes() == b"another's"
    assert os.listdir(outside) == ["x"]


def test_an_export_into_a_directory_with_links_of_another_replaces_them(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "a").mkdir(parents=True)
    (outside / "a" / "f").write_bytes(b"another's")
    make(tmp_path / "repo", lambda writer: shared_directories(writer, depth=1))
    there = tmp_path / "there"
    there.mkdir()
    (there / "a").symlink_to(outside / "a")
    with Repository.open(tmp_path / "repo") as repo:
        with pytest.raises(VfsError):
            export(repo, repo.resolve("main"), there, into_existing=True)
        (there / "a").unlink()
        (there / "a").mkdir()
        (there / "a" / "f").symlink_to(outside / "a" / "f")
        export(repo, repo.resolve("main"), there, into_existing=True)
    assert (outside / "a" / "f").read_bytes() == b"another's"
    assert not (there / "a" / "f").is_symlink()
