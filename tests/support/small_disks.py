"""Small disks of their own, with a repository each, to be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.waiting import wait_until
from vfs.repo.repository import Repository

DISK_BYTES = 48 << 20


@contextmanager
def small_disk(directory: Path, kind: str) -> Iterator[Path]:
    """Mounts a small disk of its own, a `tmpfs` or an `ext4`, with the repository `repo`, and unmounts it."""
    disk = directory / "disk"
    disk.mkdir()
    if kind == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk], check=True)
    else:
        with (directory / "image").open("wb") as file:
            file.truncate(DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", directory / "image"], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", directory / "image", disk], check=True)
    try:
        Repository.init(disk / "repo").close()
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def room(disk: Path) -> int:
    """Returns how many bytes of a disk are free."""
    free = os.statvfs(disk)
    return free.f_bavail * free.f_frsize


def wait_for_room(disk: Path, size: int) -> None:
    """Returns when more than so many bytes are free.

    While the kernel empties its caches, which other tests ask of it, it frees removed files some milliseconds later.
    """
    wait_until(lambda: room(disk) > size)


def throw_off(ballast: Path) -> None:
    """Removes a large file, and returns when most of its space is free."""
    size, before = ballast.stat().st_size, room(ballast.parent)
    ballast.unlink()
    wait_for_room(ballast.parent, before + size * 3 // 4)
