"""The kernel's mount table: the mount that a path is in, and the other places where a filesystem is mounted.

A bind mount, which every container has, shows a part of a filesystem at another path: its line has the part's path in
the filesystem. Reading the table does not access the mounts, so a daemon that does not respond does not block it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from vfs.model.names import show_path

MOUNT_TYPE = "fuse.vfs"

_PROC = Path("/proc")
_OCTAL = rb"\\([0-7]{3})"
_DELETED = b"//deleted"
"""Follows the path of a deleted part; no other path has two slashes."""


class MountLine(msgspec.Struct, frozen=True):
    """One mount. `device`: `MAJOR:MINOR` of the filesystem, the same in all its mounts.

    `root`: the part of the filesystem that the mount shows, without a leading slash, empty for all of it.
    """

    number: int
    parent: int
    device: str
    root: bytes
    path: Path
    type: str
    source: bytes
    is_read_only: bool
    is_filesystem_read_only: bool


def parse_table(table: bytes) -> list[MountLine]:
    """Returns the mounts of a `mountinfo` table in its order: the last one on a path is on top."""
    lines = []
    for line in table.splitlines():
        before, separator, after = line.partition(b" - ")
        fields, rest = before.split(b" "), after.split(b" ")
        if not separator or len(fields) < 6 or len(rest) < 3:
            continue
        lines.append(
            MountLine(
                int(fields[0]),
                int(fields[1]),
                fields[2].decode(),
                _plain(fields[3]).removesuffix(_DELETED).strip(b"/"),
                Path(os.fsdecode(_plain(fields[4]))),
                rest[0].decode(errors="replace"),
                _plain(rest[1]),
                b"ro" in fields[5].split(b","),
                b"ro" in rest[2].split(b","),
            )
        )
    return lines


def read_table(process: int | str = "self") -> list[MountLine]:
    """Returns the mounts that a process sees; none where the table cannot be read."""
    try:
        return parse_table((_PROC / str(process) / "mountinfo").read_bytes())
    except OSError:
        return []


def _plain(field: bytes) -> bytes:
    if b"\\" not in field:
        return field
    return re.sub(_OCTAL, lambda match: bytes([int(match[1], 8)]), field)


def enclosing_mount_line(path: Path, lines: Iterable[MountLine]) -> MountLine | None:
    """Returns the mount that an absolute path without links is in, found from the top down as by the kernel."""
    lines = list(lines)
    numbers = {line.number for line in lines}
    # Mounts that a chroot hides are missing: the mounts on them are the topmost ones.
    below = [line for line in lines if line.parent not in numbers or line.parent == line.number]
    found: MountLine | None = None
    while True:
        on_the_way = [line for line in below if path.is_relative_to(line.path)]
        if not on_the_way:
            return found
        # The first one on the way down; of several on one path the one mounted last.
        length = min(len(line.path.parts) for line in on_the_way)
        found = [line for line in on_the_way if len(line.path.parts) == length][-1]
        number = found.number
        below = [line for line in lines if line.parent == number and line.number != number]


class MountLocation(NamedTuple):
    """A place where a filesystem is mounted; `process`: one that sees it there, where this process does not.

    `number` is the mount's. The kernel reuses a device's number as soon as its last mount has ended.
    """

    path: Path
    root: bytes
    number: int = 0
    process: int | None = None

    def path_to(self, path: bytes) -> bytes | None:
        """Returns this process's path for a path of the filesystem, None outside the mounted part."""
        if self.root and path != self.root and not path.startswith(self.root + b"/"):
            return None
        top = self.path if self.process is None else Path(f"/proc/{self.process}/root", *self.path.parts[1:])
        return b"/".join(filter(None, (os.fsencode(top), path[len(self.root) :].strip(b"/"))))

    def __str__(self) -> str:
        """Returns the place for a message."""
        words = show_path(os.fsencode(self.path))
        if self.process is not None:
            return f"{_name_of(self.process)} ({self.process}) has it at {words}, in a mount namespace of its own"
        return f"a bind mount shows a part of it at {words}" if self.root else f"it is mounted at {words}"


def mount_locations(device: str) -> list[MountLocation]:
    """Returns where a filesystem is mounted: in this mount namespace and, by one process each, in others.

    Only root sees the processes of other users.
    """
    found = visible_mount_locations(device)
    seen = {_namespace_of("self")}
    for process in sorted(int(name) for name in os.listdir(_PROC) if name.isdigit()):
        namespace = _namespace_of(process)
        if namespace is None or namespace in seen:
            continue
        seen.add(namespace)
        there = [line for line in read_table(process) if line.device == device]
        found += [MountLocation(line.path, line.root, line.number, process) for line in there]
    return found


def visible_mount_locations(device: str) -> list[MountLocation]:
    """Returns where a filesystem is mounted in this mount namespace and not covered by another mount."""
    lines = read_table()
    ours = [line for line in lines if line.device == device and enclosing_mount_line(line.path, lines) is line]
    return [MountLocation(line.path, line.root, line.number) for line in ours]


def is_mounted_at(path: Path, device: str) -> bool:
    """Returns True if the whole filesystem of a device is visible at an absolute path."""
    line = enclosing_mount_line(path, read_table())
    return line is not None and (line.path, line.device, line.root) == (path, device, b"")


def mounts_inside(device: str, path: Path) -> Iterator[Path]:
    """Yields the mounts inside the mount of a device at a path, in this mount namespace."""
    lines = read_table()
    ours = {line.number for line in lines if line.device == device and line.path == path}
    yield from (line.path for line in lines if line.parent in ours)


def _namespace_of(process: int | str) -> str | None:
    try:
        return os.readlink(_PROC / str(process) / "ns" / "mnt")
    except OSError:
        return None


def _name_of(process: int) -> str:
    try:
        return (_PROC / str(process) / "comm").read_text(errors="replace").strip()
    except OSError:
        return "a process"
