"""An empty filesystem on the same binding: right names and sizes, zeros for bytes, no storage, no computation.

What it takes is what pyfuse3, trio and the kernel's protocol take; no filesystem on this binding is faster. Run as
`python -m benchmarks.empty_filesystem SOURCE MOUNTPOINT`: names and sizes are those of the SOURCE tree. What is created
or written is acknowledged and forgotten, but for the name and the size.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import pyfuse3
import trio

FOREVER_S = 1e6
READ_BYTES_MAX = 16 << 20
_ZEROS = memoryview(bytes(READ_BYTES_MAX))


class Node:
    """A name's attributes and, for a directory, its entries."""

    __slots__ = ("attributes", "children", "names")

    def __init__(self, ino: int, mode: int, size: int) -> None:
        self.children: dict[bytes, int] = {}
        self.names: list[tuple[bytes, int]] | None = None
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = pyfuse3.InodeT(ino)
        attributes.st_mode = pyfuse3.ModeT(mode)
        attributes.st_nlink = 1
        attributes.st_size = size
        attributes.st_blksize = 4096
        attributes.st_blocks = -(-size // 512)
        attributes.attr_timeout = FOREVER_S
        attributes.entry_timeout = FOREVER_S
        self.attributes = attributes

    def listing(self) -> list[tuple[bytes, int]]:
        """Returns the names, made once after each change."""
        if self.names is None:
            self.names = list(self.children.items())
        return self.names

    def add(self, name: bytes, ino: int) -> None:
        """Gives a name to a node."""
        self.children[name] = ino
        self.names = None


class EmptyFilesystem(pyfuse3.Operations):
    """Answers every request from a dict."""

    def __init__(self, source: Path) -> None:
        super().__init__()
        self._nodes: dict[int, Node] = {}
        root = self._make(stat.S_IFDIR | 0o755, 0)
        inodes = {os.fsencode(source): root}
        for folder, folders, files in os.walk(os.fsencode(source)):
            parent = self._nodes[inodes[folder]]
            for name in folders:
                inodes[os.path.join(folder, name)] = ino = self._make(stat.S_IFDIR | 0o755, 0)
                parent.add(name, ino)
            for name in files:
                parent.add(name, self._make(stat.S_IFREG | 0o644, os.lstat(os.path.join(folder, name)).st_size))

    def _make(self, mode: int, size: int) -> int:
        ino = len(self._nodes) + 1
        self._nodes[ino] = Node(ino, mode, size)
        return ino

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        ino = self._nodes[parent_inode].children.get(name)
        if ino is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._nodes[ino].attributes

    async def getattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._nodes[inode].attributes

    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        attributes = self._nodes[inode].attributes
        if fields.update_size:
            attributes.st_size = attr.st_size
        return attributes

    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        return pyfuse3.FileHandleT(inode)

    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        listing = self._nodes[fh].listing()
        for at in range(start_id, len(listing)):
            name, ino = listing[at]
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), self._nodes[ino].attributes, at + 1):
                return

    async def open(self, inode: pyfuse3.InodeT, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), keep_cache=True)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        size = max(0, min(size, self._nodes[fh].attributes.st_size - off))
        return _ZEROS[:size]  # type: ignore[return-value]  # any contiguous buffer is replied without a copy

    async def create(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        ino = self._make(stat.S_IFREG | stat.S_IMODE(mode), 0)
        self._nodes[parent_inode].add(name, ino)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(ino)), self._nodes[ino].attributes

    async def mkdir(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        ino = self._make(stat.S_IFDIR | stat.S_IMODE(mode), 0)
        self._nodes[parent_inode].add(name, ino)
        return self._nodes[ino].attributes

    async def unlink(self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext) -> None:
        parent = self._nodes[parent_inode]
        del parent.children[name]
        parent.names = None

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        attributes = self._nodes[fh].attributes
        attributes.st_size = max(attributes.st_size, off + len(buf))
        return len(buf)

    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        return

    async def flush(self, fh: pyfuse3.FileHandleT) -> None:
        # The kernel never asks again: what a filesystem with nothing to flush would say.
        raise pyfuse3.FUSEError(errno.ENOSYS)


def main(arguments: Sequence[str]) -> None:
    """Serves until the mount point is unmounted."""
    source, mountpoint = arguments
    options = set(pyfuse3.default_options) - {"default_permissions"}
    options |= {"fsname=empty", "subtype=empty"}
    pyfuse3.init(EmptyFilesystem(Path(source)), mountpoint, options)
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main(sys.argv[1:])
