"""The floor that writing is measured beside does what the directory below it does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.layers import PassthroughLayer


@pytest.fixture
def layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PassthroughLayer]:
    """Yields a mounted copy of a directory with one file."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "old").write_bytes(b"old content")
    layer = PassthroughLayer(tmp_path / "base", tmp_path / "copy", tmp_path / "mount")
    try:
        layer.refresh()
        yield layer
    finally:
        layer.close()


def test_operations_through_it_reach_its_directory(layer: PassthroughLayer, tmp_path: Path) -> None:
    root, below = layer.working(), tmp_path / "copy"
    (root / "directory").mkdir(mode=0o700)
    (root / "old").rename(root / "directory" / "moved")
    (root / "directory" / "link").symlink_to("moved")
    (root / "hard").hardlink_to(root / "directory" / "moved")
    with (root / "hard").open("r+b") as file:
        file.seek(4)
        file.write(b"CONTENT")
        os.fsync(file.fileno())
    (root / "gone").write_bytes(b"x")
    (root / "gone").unlink()
    os.setxattr(root / "hard", "user.key", b"value")
    (root / "hard").chmod(0o640)
    os.utime(root / "hard", ns=(1_000, 2_000))
    assert subprocess.run(["diff", "-r", root, below], check=False).returncode == 0
    assert sorted(os.listdir(below)) == ["directory", "hard"]
    assert (below / "directory" / "link").read_bytes() == b"old CONTENT"
    assert os.getxattr(below / "hard", "user.key") == b"value"
    for path in (root / "hard", root / "directory", root / "directory" / "link"):
        seen, real = path.lstat(), (below / path.relative_to(root)).lstat()
        assert (seen.st_mode, seen.st_nlink, seen.st_size, seen.st_mtime_ns) == (
            real.st_mode,
            real.st_nlink,
            real.st_size,
            real.st_mtime_ns,
        )


def test_a_file_without_a_name_is_read_and_cut_through_its_descriptor(layer: PassthroughLayer) -> None:
    path = layer.working() / "nameless"
    with path.open("w+b", buffering=0) as file:
        file.write(b"0123456789")
        path.unlink()
        file.truncate(4)
        file.seek(0)
        assert file.read() == b"0123"
        assert os.fstat(file.fileno()).st_nlink == 0
