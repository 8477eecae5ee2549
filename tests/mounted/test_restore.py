"""Changes that do not come through the kernel: it must see them at once, and lose nothing it holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.mounts import Mount
from vfs.control.messages import CommitResult, PublishArgs, RestoreArgs
from vfs.control.services import PUBLISH, RESTORE
from vfs.errors import Conflict
from vfs.model.ids import CommitId
from vfs.repo.import_directory import import_directory
from vfs.repo.repository import Repository

pytestmark = pytest.mark.mount


def _restore(mount: Mount, commit: CommitResult, *paths: str, discard: bool = False) -> None:
    args = RestoreArgs(commit.id, [os.fsencode(path) for path in paths], discard, "tester")
    mount.call(RESTORE, args)


def _names(root: Path) -> list[str]:
    return sorted(str(Path(folder, name).relative_to(root)) for folder, _, names in os.walk(root) for name in names)


def test_what_is_restored_shows_at_once_under_names_the_kernel_had_cached(mount: Mount) -> None:
    (mount / "a/b").mkdir(parents=True)
    (mount / "a/b/changed").write_text("old")
    (mount / "a/b/removed").write_text("old")
    first = mount.commit()
    (mount / "a/b/changed").write_text("new and longer")
    (mount / "a/b/removed").unlink()
    (mount / "a/b/added").write_text("new")
    mount.commit()
    held = os.open(mount / "a/b/changed", os.O_RDONLY)
    assert (mount / "a/b/changed").read_text() == "new and longer"
    assert not (mount / "a/b/removed").exists()
    directory = os.open(mount / "a/b", os.O_RDONLY)
    _restore(mount, first, "a/b")
    try:
        assert _names(mount.path) == ["a/b/changed", "a/b/removed"]
        assert (mount / "a/b/changed").read_text() == "old"
        assert (mount / "a/b/removed").read_text() == "old"
        assert not (mount / "a/b/added").exists()
        # A reader with the old file open reads it to the end, or gets an error; never a mixture.
        assert os.pread(held, 100, 0) in (b"new and longer", b"old")
    finally:
        os.close(held)
        os.close(directory)
    third = mount.commit()
    assert _names(mount / f"@v{third.number}") == ["a/b/changed", "a/b/removed"]


def test_restoring_one_file_leaves_the_rest_of_what_the_kernel_holds_alone(mount: Mount) -> None:
    (mount / "a/b").mkdir(parents=True)
    for name in ("one", "other"):
        (mount / "a/b" / name).write_text("old")
    first = mount.commit()
    (mount / "a/b/one").write_text("new")
    mount.commit()
    numbers = [(mount / path).stat().st_ino for path in ("a", "a/b", "a/b/other")]
    with (mount / "a/b/other").open() as other:
        here = os.open(mount / "a/b", os.O_RDONLY)
        _restore(mount, first, "a/b/one")
        assert (mount / "a/b/one").read_text() == "old"
        assert other.read() == "old"
        assert sorted(os.listdir(here)) == ["one", "other"]
        mount.commit()
        assert sorted(os.listdir(here)) == ["one", "other"]
        assert os.stat("other", dir_fd=here).st_size == 3
        Path(f"/proc/self/fd/{here}/more").write_text("more")
        os.close(here)
    assert [(mount / path).stat().st_ino for path in ("a", "a/b", "a/b/other")] == numbers


def test_a_removed_path_comes_back_with_the_directories_above_it(mount: Mount) -> None:
    (mount / "a/b").mkdir(parents=True)
    (mount / "a/b/file").write_text("kept")
    first = mount.commit()
    (mount / "a/b/file").unlink()
    (mount / "a/b").rmdir()
    (mount / "a").rmdir()
    mount.commit()
    assert not (mount / "a").exists()
    _restore(mount, first, "a/b/file")
    assert (mount / "a/b/file").read_text() == "kept"


def test_uncommitted_changes_are_not_restored_over_unless_asked(mount: Mount) -> None:
    (mount / "file").write_text("old")
    first = mount.commit()
    (mount / "file").write_text("uncommitted")
    with pytest.raises(Conflict):
        _restore(mount, first, "file")
    assert (mount / "file").read_text() == "uncommitted"
    _restore(mount, first, "file", discard=True)
    assert (mount / "file").read_text() == "old"


def test_an_import_beside_the_mount_replaces_what_it_shows(mount: Mount, tmp_path: Path) -> None:
    (mount / "old").write_text("old")
    (mount / "both").write_text("before")
    mount.commit()
    assert (mount / "both").read_text() == "before"
    assert not (mount / "new").exists()
    source = tmp_path / "source"
    source.mkdir()
    (source / "both").write_text("after, and longer")
    (source / "new").write_text("new")

    def publish(commit_id: CommitId, expected: CommitId | None) -> CommitId:
        return mount.call(PUBLISH, PublishArgs(commit_id, expected)).id

    with Repository.open(mount.repository) as repo:
        import_directory(repo, source, "imported", "tester", publish_with=publish)
    assert _names(mount.path) == ["both", "new"]
    assert (mount / "both").read_text() == "after, and longer"
    assert (mount / "new").read_text() == "new"
    assert not (mount / "old").exists()
    assert (mount / "@v2/new").samefile(mount / "@latest/new")
    (mount / "both").write_text("edited")
    assert mount.commit().number == 3


def test_a_directory_that_is_held_open_stays_known_through_restore_and_commit(mount: Mount) -> None:
    (mount / "a/b").mkdir(parents=True)
    (mount / "a/b/one").write_text("old")
    first = mount.commit()
    (mount / "a/b/one").write_text("new")
    mount.commit()
    here = os.open(mount / "a/b", os.O_RDONLY)
    # Now the kernel refers to the two directories alone.
    mount.drop_kernel_caches()
    _restore(mount, first, "a/b/one")
    mount.drop_kernel_caches()
    mount.commit()
    mount.drop_kernel_caches()
    assert os.listdir(here) == ["one"]
    assert os.stat("one", dir_fd=here).st_size == 3
    os.close(here)
