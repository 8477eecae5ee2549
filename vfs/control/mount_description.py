"""What a mount reports about itself through the kernel: an extended attribute that every process that sees it reads."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from vfs.repo.repository_anchor import Anchor


class Introduction(msgspec.Struct):
    """`identity` is the repository's (vfs/repo/repository_anchor.py), `process` the daemon's process id in the PID
    namespace `namespace`."""

    identity: bytes
    process: int
    namespace: str
    mountpoint: bytes

    @classmethod
    def read(cls, data: bytes) -> Introduction | None:
        """Returns an attribute's value, None for a malformed one. `process` is 0 in another PID namespace."""
        try:
            found = msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError:
            return None
        if found.namespace != process_namespace():
            found.process = 0
        return found


def introduction(anchor: Anchor, mountpoint: Path) -> bytes:
    """Returns the attribute's value for a mount of this process."""
    return msgspec.json.encode(Introduction(anchor.identity, os.getpid(), process_namespace(), os.fsencode(mountpoint)))


def process_namespace() -> str:
    """Returns the name of this process's process-id namespace, empty where it is not known."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
