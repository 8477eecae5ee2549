"""Python programs beside a live mount of the same repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import vfs
from support.mounts import Mount, mounted
from vfs.errors import IsADirectory


def test_versions_are_read_and_their_paths_handed_out(mount: Mount) -> None:
    (mount / "dir").mkdir()
    (mount / "dir" / "file").write_bytes(b"one")
    mount.commit()
    with vfs.open(mount / "dir") as repository:
        assert repository.path == mount.repository
        version = repository["v1"]
        assert version.read_bytes("dir/file") == b"one"
        path = version.path("dir/file")
        assert path is not None
        assert path.read_bytes() == b"one"
        assert path.is_relative_to(mount.path)
        assert version.fs.local_path("dir/file") == str(path)
        (mount / "dir" / "file").write_bytes(b"two")
        mount.commit()
        assert repository["latest"].read_bytes("dir/file") == b"two"
        assert path.read_bytes() == b"one"
        assert version.fs.cat_file("dir/file") == b"one"


def test_the_working_layer_is_written_through_its_mount(mount: Mount) -> None:
    (mount / "kept").write_bytes(b"k")
    os.chmod(mount / "kept", 0o600)
    with vfs.open(mount.path) as repository, repository.working() as layer:
        assert layer.path == mount.path
        layer.write("new/file", b"from Python")
        assert (mount / "new" / "file").read_bytes() == b"from Python"
        layer.write("kept", b"changed")
        assert (mount / "kept").stat().st_mode & 0o777 == 0o600
        assert layer.read_bytes("kept") == b"changed"
        assert layer.listdir() == ["kept", "new"]
        with pytest.raises(IsADirectory):
            layer.write("new", b"")
        assert sorted(change.path for change in layer.changes()) == ["kept", "new", "new/file"]
        version = layer.commit("through the mount")
        assert version.read_bytes("new/file") == b"from Python"
        layer.remove("new")
        assert not (mount / "new").exists()
    assert (mount / "@v1" / "new" / "file").read_bytes() == b"from Python"


def test_without_a_mount_no_path_is_handed_out(repository: Path, tmp_path: Path) -> None:
    with mounted(repository, tmp_path / "other") as mount:
        (mount / "file").write_bytes(b"1")
        mount.commit()
        with vfs.open(repository) as opened:
            version = opened["v1"]
            assert version.path("file") is not None
    assert version.path("file") is None
    assert version.read_bytes("file") == b"1"
    opened.close()
