"""A mount on a disk full of uncommitted data: what is removed gives its room back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.mounts import mounted
from support.small_disks import small_disk
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository

pytestmark = pytest.mark.mount

PIECE_BYTES = 128 << 10


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    with small_disk(tmp_path, request.param) as disk:
        yield disk


@pytest.mark.slow
def test_a_mount_on_a_full_disk_frees_the_space_of_removed_files(disk: Path, tmp_path: Path) -> None:
    with mounted(disk / "repo", tmp_path / "mnt") as mount:
        (mount / "kept").write_bytes(b"committed")
        mount.commit()
        with suppress(OSError), (mount / "huge").open("wb", buffering=0) as file:
            while True:
                file.write(os.urandom(PIECE_BYTES))
        (mount / "huge").unlink()
        written = 0
        while written < 4:
            # Each try may come before the mount has looked: the next one does not.
            with suppress(OSError):
                (mount / f"new{written}").write_bytes(os.urandom(1 << 20))
                written += 1
        assert mount.commit().number == 2
    with Repository.open(disk / "repo") as repo:
        assert fsck(repo, read_data=True).is_clean
