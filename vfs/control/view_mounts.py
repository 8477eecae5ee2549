"""Mounts that pinned views keep: a view that began while a mount was there has a copy of it until its program ends.

The kernel takes a copy away with its original only where the original is in a shared mount; in containers, and on
machines without systemd, it is not. What ends a mount then also takes its copies out of views. It touches no other
mount namespace: what a container shows was put there on purpose.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from vfs.control.mount_table import MountLocation
from vfs.control.pinned_view import DATA
from vfs.repo.acting_run import RUN_VARIABLE

_CLONE_NEWNS = 0x00020000
_UMOUNT_NOFOLLOW = 8
_ENVIRONMENT_BYTES_MAX = 4 << 20


def is_view(process: int) -> bool:
    """Returns True if a process was started by a command that gives programs a view of their own."""
    return DATA in _variables(process)


def run_of(process: int) -> str:
    """Returns the id of the run that a process belongs to, empty for none."""
    return _variables(process).get(RUN_VARIABLE, "")


def _variables(process: int) -> dict[str, str]:
    try:
        with open(f"/proc/{process}/environ", "rb") as file:
            data = file.read(_ENVIRONMENT_BYTES_MAX)
    except OSError:
        return {}
    words = (os.fsdecode(word).partition("=") for word in data.split(b"\0"))
    return {name: value for name, _, value in words if name in (DATA, RUN_VARIABLE)}


def end_copies(places: Iterable[MountLocation]) -> None:
    """Unmounts what views have of a mount that has ended, where they may be entered and no program uses it there.

    Must be called in a process with one thread.
    """
    for place in places:
        if place.process is not None and is_view(place.process):
            _end_copy(place.process, place.path)


def _end_copy(process: int, path: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            library = ctypes.CDLL(None, use_errno=True)
            namespace = os.open(f"/proc/{process}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            if library.setns(namespace, _CLONE_NEWNS) == 0:
                library.umount2(os.fsencode(path), _UMOUNT_NOFOLLOW)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
