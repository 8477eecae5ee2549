"""What keeps a mount busy: mounts inside it, and processes whose current directory, open or mapped file is in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vfs.control.mount_table import mounts_inside, read_table
from vfs.model.names import show_path

_PROC = Path("/proc")
_SHOWN_MAX = 5


def busy_processes(mount: Path) -> list[str]:
    """Returns `bash (1234): its current directory is /mnt/data/images` for each process that keeps a mount busy.

    Reads /proc only and accesses nothing in the mount. Only root sees the processes of other users.
    """
    found = []
    for directory in sorted(_PROC.glob("[0-9]*"), key=lambda path: int(path.name)):
        if int(directory.name) == os.getpid():
            continue
        reason = next(_reasons(directory, mount), None)
        if reason is not None:
            found.append(f"{_name(directory)} ({directory.name}): {reason}")
    return found


def holders_of(mount: Path) -> list[str]:
    """Returns the mounts inside a mount, then the processes that keep it busy, each in words."""
    here = [line.device for line in read_table() if line.path == mount][-1:]
    inside = [
        f"a mount is at {show_path(os.fsencode(path))}" for device in here for path in mounts_inside(device, mount)
    ]
    return [*inside, *busy_processes(mount)]


def holders_hint(mount: Path) -> str:
    """Returns what keeps a mount busy for an error's hint, one a line; empty if nothing is visible."""
    found = holders_of(mount)
    more = [f"and {len(found) - _SHOWN_MAX} more"] if len(found) > _SHOWN_MAX else []
    return "\n  ".join([*found[:_SHOWN_MAX], *more])


def _reasons(process: Path, mount: Path) -> Iterator[str]:
    for link, words in (("cwd", "its current directory is"), ("root", "its root is"), ("exe", "it runs")):
        target = _inside(process / link, mount)
        if target is not None:
            yield f"{words} {target}"
    try:
        # Closed also where the process ends in between: then the iteration fails.
        with os.scandir(process / "fd") as entries:
            descriptors = list(entries)
    except OSError:
        # The process has ended, or belongs to another user.
        return
    for descriptor in descriptors:
        target = _inside(Path(descriptor.path), mount)
        if target is not None:
            yield f"it has {target} open"
    try:
        mapped = (process / "maps").read_text(errors="surrogateescape")
    except OSError:
        return
    for line in mapped.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and _is_inside(fields[5], mount):
            yield f"it has {fields[5]} mapped"


def _inside(link: Path, mount: Path) -> str | None:
    try:
        target = os.readlink(link)
    except OSError:
        return None
    return target if _is_inside(target, mount) else None


def _is_inside(target: str, mount: Path) -> bool:
    return target.startswith("/") and Path(target).is_relative_to(mount)


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return "a process"
