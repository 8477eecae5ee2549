"""A kernel without a kernel: calls a mount's handlers under trio and counts lookups as the real one does."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FUSEError, ReaddirToken, RequestContext, SetattrFields

from vfs.fuse.request_handlers import VfsOperations

R = TypeVar("R")

ROOT = pyfuse3.ROOT_INODE


@dataclass
class Caller:
    """The caller; in place of the binding's RequestContext, whose fields Python cannot set."""

    uid: int = 0
    gid: int = 0
    pid: int = 1
    umask: int = 0o022


@dataclass
class Fields:
    """What a setattr request changes; stands where the binding's SetattrFields does."""

    update_mode: bool = False
    update_uid: bool = False
    update_gid: bool = False
    update_size: bool = False
    update_atime: bool = False
    update_mtime: bool = False
    update_ctime: bool = False


class Room:
    """What a reply to readdir has room for; stands where the binding's ReaddirToken does."""

    def __init__(self, entries: int) -> None:
        self.left = entries
        self.taken: list[tuple[bytes, int, int]] = []


def take(token: ReaddirToken, name: bytes, attr: EntryAttributes, following: int) -> bool:
    """Takes an entry of a listing while there is room, as the binding's readdir_reply does."""
    room = cast("Room", token)
    if not room.left:
        return False
    room.left -= 1
    room.taken.append((name, attr.st_ino, following))
    return True


class Kernel:
    """Asks the handlers of one mount. `lookups` is what the kernel would hold; errors are OSError with the errno."""

    def __init__(self, operations: VfsOperations) -> None:
        self.operations = operations
        self.lookups: Counter[int] = Counter()
        self.context = cast("RequestContext", Caller())

    def ask(self, handler: Callable[..., Awaitable[R]], *args: Any) -> R:
        """Calls a handler and returns its reply."""

        async def main() -> R:
            return await handler(*args)

        try:
            return trio.run(main)
        except FUSEError as error:
            raise OSError(error.errno, os.strerror(error.errno)) from error

    def lookup(self, parent: int, name: bytes) -> EntryAttributes:
        """Looks a name up; an answer without an inode is ENOENT that may be remembered."""
        attr = self.ask(self.operations.lookup, parent, name, self.context)
        if not attr.st_ino:
            raise FileNotFoundError(errno.ENOENT, "remembered as absent")
        return self.counted(attr)

    def counted(self, attr: EntryAttributes) -> EntryAttributes:
        """Counts the lookup of a reply with an entry."""
        self.lookups[attr.st_ino] += 1
        return attr

    def walk(self, path: str) -> EntryAttributes:
        """Looks every name of a path up, from the root; symbolic links are not followed."""
        attr = self.getattr(ROOT)
        for name in filter(None, os.fsencode(path).split(b"/")):
            attr = self.lookup(attr.st_ino, name)
        return attr

    def getattr(self, ino: int) -> EntryAttributes:
        """Asks for attributes."""
        return self.ask(self.operations.getattr, ino, self.context)

    def setattr(self, ino: int, **new: int) -> EntryAttributes:
        """Changes attributes given as `mode=…`, `size=…`, `mtime_ns=…`."""
        attr, fields = EntryAttributes(), Fields()
        for name, value in new.items():
            setattr(attr, f"st_{name}", value)
            setattr(fields, f"update_{name.removesuffix('_ns')}", True)
        return self.ask(self.operations.setattr, ino, attr, cast("SetattrFields", fields), None, self.context)

    def readlink(self, ino: int) -> bytes:
        """Asks where a link leads."""
        return self.ask(self.operations.readlink, ino, self.context)

    def names(self, ino: int, room: int = 1000) -> list[bytes]:
        """Lists a directory with replies that have room for so many entries."""
        fh = self.ask(self.operations.opendir, ino, self.context)
        names: list[bytes] = []
        position = 0
        while True:
            token = Room(room)
            self.ask(self.operations.readdir, fh, position, token)
            if not token.taken:
                break
            for name, child, _ in token.taken:
                names.append(name)
                self.lookups[child] += 1
            position = token.taken[-1][2]
        self.ask(self.operations.releasedir, fh)
        return names

    def read(self, ino: int) -> bytes:
        """Opens, reads and closes a file."""
        fh = self.ask(self.operations.open, ino, os.O_RDONLY, self.context).fh
        try:
            return bytes(self.ask(self.operations.read, fh, 0, 1 << 24))
        finally:
            self.ask(self.operations.release, fh)

    def create(self, parent: int, name: bytes, data: bytes = b"", mode: int = 0o644) -> EntryAttributes:
        """Makes a file with content."""
        info, attr = self.ask(self.operations.create, parent, name, mode, os.O_RDWR, self.context)
        self.counted(attr)
        self.ask(self.operations.write, info.fh, 0, data)
        self.ask(self.operations.release, info.fh)
        return attr

    def mkdir(self, parent: int, name: bytes, mode: int = 0o755) -> EntryAttributes:
        """Makes a directory."""
        return self.counted(self.ask(self.operations.mkdir, parent, name, mode, self.context))

    def forget_all(self) -> None:
        """Forgets everything, as the kernel does when memory is short."""
        held = [(ino, count) for ino, count in self.lookups.items() if ino != ROOT]
        self.ask(self.operations.forget, held)
        self.lookups.clear()
