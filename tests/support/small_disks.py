"""Small disks of their own, with a repository each, to be filled."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
