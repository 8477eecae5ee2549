"""The mounts of repositories that the kernel lists: what each shows, and of which repository."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote_to_bytes

import msgspec

from vfs.control.mount_table import MOUNT_TYPE, MountLine, enclosing_mount_line, parse_table, read_table


class MountPoint(msgspec.Struct, frozen=True):
    """One mount of a repository, as the kernel lists it. `branch` is None where it follows the current one.

    `root`: the part of the filesystem that it shows, empty for all of it. `device`: the same in all mounts of one
    daemon.
    """

    path: Path
    repository: Path
    is_read_only: bool = False
    branch: str | None = None
    root: bytes = b""
    device: str = ""


def mount_point(line: MountLine) -> MountPoint | None:
    """Returns a line of the mount table as a mount of a repository, None for one of another kind."""
    if line.type != MOUNT_TYPE:
        return None
    source, _, branch = line.source.partition(b"#")
    return MountPoint(
        line.path,
        Path(os.fsdecode(unquote_to_bytes(source))),
        line.is_read_only or line.is_filesystem_read_only,
        os.fsdecode(unquote_to_bytes(branch)) or None,
        line.root,
        line.device,
    )


def parse_mounts(table: bytes) -> list[MountPoint]:
    """Returns the vfs mounts of a `mountinfo` table in its order; the last one on a path is on top."""
    return _ours(parse_table(table))


def live_mounts() -> list[MountPoint]:
    """Returns the vfs mounts that this process sees; empty where there is no mount table."""
    return _ours(read_table())


def _ours(lines: Iterable[MountLine]) -> list[MountPoint]:
    return [mount for mount in map(mount_point, lines) if mount is not None]


def enclosing_mount(path: Path, lines: Iterable[MountLine]) -> MountPoint | None:
    """Returns the mount that an absolute path is in, where that is one of a repository, or None."""
    line = enclosing_mount_line(path, lines)
    return mount_point(line) if line is not None else None
