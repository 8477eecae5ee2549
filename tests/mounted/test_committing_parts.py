"""Goal: a commit that leaves something out of a live mount changes nothing that programs see there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.mounts import Mount, mounted
from vfs.control.messages import CommitArgs, Empty
from vfs.control.services import CHANGES, COMMIT
from vfs.errors import NothingToDo

pytestmark = pytest.mark.mount


def look(mount: Mount) -> dict[str, tuple[int, int, bytes]]:
    """Returns inode, links and bytes of all files of the working layer."""
    found = {}
    for folder, _, names in os.walk(mount.path):
        for name in names:
            path = Path(folder, name)
            status = path.stat()
            found[str(path.relative_to(mount.path))] = status.st_ino, status.st_nlink, path.read_bytes()
    return found


def ignored(mount: Mount) -> set[bytes]:
    return {change.path for change in mount.call(CHANGES, Empty()) if change.is_ignored}


def test_ignored_files_live_on_through_commits_and_remounts(repository: Path, tmp_path: Path) -> None:
    with mounted(repository, tmp_path / "mnt") as mount:
        (mount / ".vfsignore").write_text("*.tmp\ncache/\n")
        (mount / "data").write_text("1")
        (mount / "cache").mkdir()
        (mount / "cache/x").write_bytes(os.urandom(200_000))
        with (mount / "live.tmp").open("wb", buffering=0) as live:
            live.write(b"before")
            before = look(mount)
            mount.commit()
            assert look(mount) == before
            assert sorted(os.listdir(mount / "@v1")) == [".vfsignore", "data"]
            live.write(b" and after")
            os.link(mount / "cache/x", mount / "cache/y")
            (mount / "data").write_text("2")
            before = look(mount)
            mount.drop_kernel_caches()
            mount.commit()
            assert look(mount) == before
        assert ignored(mount) == {b"cache", b"cache/x", b"cache/y", b"live.tmp"}
        with pytest.raises(NothingToDo):
            mount.commit()
        os.rename(mount / "live.tmp", mount / "live")
        mount.commit()
        assert (mount / "@v3/live").read_bytes() == b"before and after"
        before = look(mount)
        mount.end()
    with mounted(repository, tmp_path / "mnt") as mount:
        assert {name: rest[1:] for name, rest in look(mount).items()} == {
            name: rest[1:] for name, rest in before.items()
        }
        assert ignored(mount) == {b"cache", b"cache/x", b"cache/y"}


def test_paths_are_committed_alone_and_survive_a_killed_daemon(repository: Path, tmp_path: Path) -> None:
    with mounted(repository, tmp_path / "mnt") as mount:
        for name in ("a", "b", "sub/c", "sub/d"):
            (mount / name).parent.mkdir(exist_ok=True)
            (mount / name).write_text(name)
        before = look(mount)
        done = mount.call(COMMIT, CommitArgs("m", "a", paths=[b"a", b"sub/c"]))
        assert done.number == 1
        assert sorted(os.listdir(mount / "@v1")) == ["a", "sub"]
        assert os.listdir(mount / "@v1/sub") == ["c"]
        assert look(mount) == before
        (mount / "b").write_text("changed since")
        before = look(mount)
        mount.process.kill()
        mount.process.wait()
    with mounted(repository, tmp_path / "mnt") as mount:
        assert {name: rest[2] for name, rest in look(mount).items()} == {name: rest[2] for name, rest in before.items()}
        mount.commit()
        assert sorted(os.listdir(mount / "@v2")) == ["a", "b", "sub"]
