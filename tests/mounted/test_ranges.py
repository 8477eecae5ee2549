"""What changed between two versions as directories, and what one file has been, through the kernel."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.mounts import Mount, mounted
from vfs.repo.repository import Repository
from vfs.repo.tags import create_tag

pytestmark = pytest.mark.mount

PARTS = ("added", "modified", "removed")


def files_below(root: Path) -> dict[str, bytes]:
    """Returns every file below a directory with its content; every directory must lead to one."""
    found = {}
    for folder, folders, names in os.walk(root):
        assert folders or names or Path(folder) == root
        for name in names:
            path = Path(folder, name)
            found[str(path.relative_to(root))] = path.read_bytes()
    return found


def parts(directory: Path) -> list[dict[str, bytes]]:
    assert os.listdir(directory) == list(PARTS)
    return [files_below(directory / part) for part in PARTS]


def two_versions(mount: Mount) -> None:
    (mount / "cats" / "old").mkdir(parents=True)
    (mount / "cats/old/1").write_bytes(b"one" * 2000)
    (mount / "cats/same").write_bytes(b"same")
    (mount / "labels.csv").write_bytes(b"1,cta\n")
    (mount / "touched").write_bytes(b"t")
    (mount / "x").mkdir()
    (mount / "x/inside").write_bytes(b"i")
    mount.commit()
    (mount / "cats/old/1").unlink()
    (mount / "dogs" / "new").mkdir(parents=True)
    (mount / "dogs/new/2").write_bytes(b"two" * 2000)
    (mount / "dogs/tiny").write_bytes(b"2")
    (mount / "empty").mkdir()
    (mount / "labels.csv").write_bytes(b"1,cat\n")
    os.utime(mount / "touched", (1, 1))
    (mount / "x/inside").unlink()
    (mount / "x").rmdir()
    (mount / "x").write_bytes(b"a file")
    mount.commit()


def test_a_range_has_the_files_that_came_changed_and_went_and_no_other(mount: Mount) -> None:
    two_versions(mount)
    assert parts(mount / "@v1..@v2") == [
        {"dogs/new/2": b"two" * 2000, "dogs/tiny": b"2", "x": b"a file"},
        {"labels.csv": b"1,cat\n"},
        {"cats/old/1": b"one" * 2000, "x/inside": b"i"},
    ]
    assert parts(mount / "@v2..@v1") == [
        {"cats/old/1": b"one" * 2000, "x/inside": b"i"},
        {"labels.csv": b"1,cta\n"},
        {"dogs/new/2": b"two" * 2000, "dogs/tiny": b"2", "x": b"a file"},
    ]
    assert parts(mount / "@v2..@v2") == [{}, {}, {}]
    for absent in ("added/cats", "added/empty", "modified/touched", "removed/labels.csv", "other"):
        assert not os.path.lexists(mount / "@v1..@v2" / absent)


def test_files_of_a_range_are_those_of_the_versions(mount: Mount) -> None:
    two_versions(mount)
    changed = mount / "@v1..@v2"
    for part, version, path in (
        ("added", "@v2", "dogs/new/2"),
        ("modified", "@v2", "labels.csv"),
        ("removed", "@v1", "cats/old/1"),
    ):
        assert (changed / part / path).samefile(mount / version / path)
    mode = (mount / "@v2/dogs").stat().st_mode
    assert (changed / "added/dogs").stat().st_mode == mode
    with pytest.raises(OSError, match="Read-only"):
        (changed / "added/new").touch()
    copy = subprocess.run(["tar", "-C", changed / "added", "-c", "."], capture_output=True, check=True).stdout
    assert b"twotwo" in copy


def test_names_that_move_are_links_to_the_range_between_numbers(mount: Mount) -> None:
    two_versions(mount)
    with Repository.open(mount.repository) as repo:
        create_tag(repo, "paper", repo.resolve("v1"), author="tester")
        first = repo.resolve("v1").id.hex()
    for name in ("@paper..@latest", "@v1..v2", f"@{first[:10]}..@main", "@paper..latest"):
        assert os.readlink(mount / name) == "@v1..@v2"
        assert files_below(mount / name / "modified") == {"labels.csv": b"1,cat\n"}
    assert os.readlink(mount / "@paper..") == "@v1.."
    for absent in ("@v1..@v3", "@v9..", "@..@v1", "@nothing..@v1", "@v1...", "@v1..@v2..@v2"):
        assert not os.path.lexists(mount / absent)
    (mount / "later").write_bytes(b"l")
    mount.commit()
    assert os.readlink(mount / "@paper..@latest") != "@v1..@v2"


def test_a_range_up_to_the_working_layer_follows_it(mount: Mount) -> None:
    two_versions(mount)
    open_range = mount / "@v1.."
    assert parts(open_range) == parts(mount / "@v1..@v2")
    assert os.readlink(open_range / "added/dogs/new/2") == "../../../../dogs/new/2"
    (mount / "labels.csv").write_bytes(b"1,dog\n")
    (mount / "dogs/tiny").unlink()
    (mount / "y" / "z").mkdir(parents=True)
    (mount / "y/z/f").write_bytes(b"f")
    (mount / "touched").unlink()
    added, modified, removed = parts(open_range)
    assert added == {"dogs/new/2": b"two" * 2000, "x": b"a file", "y/z/f": b"f"}
    assert modified == {"labels.csv": b"1,dog\n"}
    assert set(removed) == {"cats/old/1", "touched", "x/inside"}
    (open_range / "modified/labels.csv").write_bytes(b"through the link")
    assert (mount / "labels.csv").read_bytes() == b"through the link"
    (mount / "y/z/f").unlink()
    assert not os.path.lexists(open_range / "added/y")
    assert (open_range / "removed/touched").samefile(mount / "@v1/touched")


def test_a_range_in_a_read_only_mount_is_between_versions(mount: Mount, tmp_path: Path) -> None:
    two_versions(mount)
    with mounted(mount.repository, tmp_path / "other", "read_only") as other:
        assert parts(other / "@v1..@v2") == parts(mount / "@v1..@v2")
        assert not os.path.lexists(other / "@v1..")
        assert os.listdir(other / "labels.csv@@") == ["v1.csv", "v2.csv"]
        assert (other / "labels.csv@@").stat().st_ino != (other / "@v2/labels.csv@@").stat().st_ino


def test_numbers_are_the_same_after_the_kernel_dropped_them(mount: Mount) -> None:
    two_versions(mount)
    paths = [mount / "@v1..@v2", mount / "@v1..@v2/added/dogs/new", mount / "@v2/labels.csv@@"]
    before = [path.stat().st_ino for path in paths]
    mount.drop_kernel_caches()
    assert [path.stat().st_ino for path in paths] == before
    assert files_below(mount / "@v1..@v2/modified") == {"labels.csv": b"1,cat\n"}


def test_the_contents_of_a_file_are_a_directory_beside_it(mount: Mount) -> None:
    (mount / "d").mkdir()
    for content in (b"one", b"two", b"one", b"three" * 1000):
        (mount / "d/f.csv").write_bytes(content)
        (mount / "d/other").write_bytes(content)
        mount.commit()
    history = mount / "@v4/d/f.csv@@"
    assert os.listdir(history) == ["v1.csv", "v2.csv", "v4.csv"]
    assert [(history / name).read_bytes()[:5] for name in os.listdir(history)] == [b"one", b"two", b"three"]
    assert (history / "v2.csv").samefile(mount / "@v2/d/f.csv")
    assert os.listdir(mount / "@v2/d/f.csv@@") == ["v1.csv", "v2.csv"]
    assert not os.path.lexists(history / "v3.csv")
    assert os.readlink(mount / "d/f.csv@@") == "../@v4/d/f.csv@@"
    assert os.listdir(mount / "d/other@@") == ["v1", "v2", "v4"]
    (mount / "d/f.csv").write_bytes(b"five")
    mount.commit()
    assert os.listdir(mount / "d/f.csv@@") == ["v1.csv", "v2.csv", "v4.csv", "v5.csv"]
    assert os.listdir(mount / "d") == ["f.csv", "other"]


def test_only_files_have_a_history_and_real_names_win(mount: Mount) -> None:
    (mount / "d").mkdir()
    (mount / "f").write_bytes(b"f")
    for absent in ("d@@", "f@@", "@@", "absent@@"):
        assert not os.path.lexists(mount / absent)
    (mount / "d@@").write_bytes(b"an ordinary file")
    mount.commit()
    (mount / "new").write_bytes(b"not committed")
    assert (mount / "d@@").read_bytes() == (mount / "@v1/d@@").read_bytes() == b"an ordinary file"
    assert os.listdir(mount / "f@@") == ["v1"]
    for absent in ("new@@", "@v1/new@@", "@v1/d@@@@/x"):
        assert not os.path.lexists(mount / absent)
    assert os.listdir(mount / "d@@@@") == ["v1"]
