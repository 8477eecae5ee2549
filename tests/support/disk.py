"""A disk that fails on command and records everything that reaches it, under a real ext4.

The kernel's block device (a loop device) lies on a file of a filesystem of this module, in a process of its own. So an
ext4, and a repository on it, meet what they would meet on a disk that breaks: requests of the kernel's block layer that
end with EIO. And what a power cut may leave of the disk can be made from what was written down: all that was
written before a flush, and any of what came after.
"""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext

from support.mounts import TIMEOUT_S

_NAME = b"disk"
_FILE = 2
_RECORD = struct.Struct("<QQ")
_FLUSH = 2**64 - 1

READS, WRITES, DATA, FLUSHES = "reads", "writes", "data", "flushes"
EVERYTHING = (READS, WRITES, FLUSHES)
_DATA_BYTES_MIN = 1 << 16
"""So much at once is the content of a file; what a filesystem writes of its own are single blocks."""


class _Served(pyfuse3.Operations):
    """A directory with one file: the disk's content. Operations named in `failing` end with EIO."""

    def __init__(self, image: int, record: int) -> None:
        super().__init__()
        self._image = image
        self._record = record
        self.failing: set[str] = set()

    def _fail(self, what: str) -> None:
        if what in self.failing:
            raise FUSEError(errno.EIO)

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        attr = EntryAttributes()
        attr.st_ino = inode
        attr.st_mode = 0o100600 if inode == _FILE else 0o40700
        attr.st_size = os.fstat(self._image).st_size if inode == _FILE else 0
        attr.attr_timeout = attr.entry_timeout = 1e6
        return attr

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        if name != _NAME:
            raise FUSEError(errno.ENOENT)
        return await self.getattr(_FILE, ctx)

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        # Without the kernel's cache: every request of the block layer comes through.
        return FileInfo(fh=_FILE, direct_io=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        self._fail(READS)
        return os.pread(self._image, size, off)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        self._fail(WRITES)
        if len(buf) >= _DATA_BYTES_MIN:
            self._fail(DATA)
        os.pwrite(self._image, buf, off)
        os.write(self._record, _RECORD.pack(off, len(buf)) + buf)
        return len(buf)

    async def fsync(self, fh: int, datasync: bool) -> None:
        self._fail(FLUSHES)
        os.write(self._record, _RECORD.pack(_FLUSH, 0))


async def _serve(served: _Served) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_obey, served)
        await pyfuse3.main()
        nursery.cancel_scope.cancel()


async def _obey(served: _Served) -> None:
    """Reads lines that name what fails from now on, and answers each."""
    received = trio.lowlevel.FdStream(os.dup(0))
    async for line in received:
        served.failing = set(line.decode().split())
        _say_done()


def _say_done() -> None:
    os.write(1, b"done\n")


def _main(image: str, record: str, mountpoint: str) -> None:
    served = _Served(os.open(image, os.O_RDWR), os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    pyfuse3.init(served, mountpoint, {"fsname=disk"})
    _say_done()
    try:
        trio.run(_serve, served)
    finally:
        pyfuse3.close(unmount=True)


class Disk:
    """A disk with an ext4 on it, which can be mounted, made to fail, and be cut off from power."""

    def __init__(self, directory: Path, process: subprocess.Popen[str], size: int) -> None:
        self._process = process
        self._record = directory / "record"
        self._device = directory / "device" / _NAME.decode()
        self._size = size
        self._is_mounted = False
        self.path = directory / "disk"
        """Where the ext4 is mounted."""

    def mount(self) -> None:
        """Mounts the ext4, which replays its journal where it has to."""
        subprocess.run(["mount", "-o", "loop", self._device, self.path], check=True)
        self._is_mounted = True

    def unmount(self) -> None:
        """Unmounts; nothing happens where it is not mounted."""
        if self._is_mounted:
            subprocess.run(["umount", self.path], check=True)
            self._is_mounted = False

    def fail(self, *what: str) -> None:
        """Makes all of these end with EIO from now on (none: it is whole again)."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(what) + "\n")
        self._process.stdin.flush()
        assert _answer(self._process) == "done"

    @property
    def position(self) -> int:
        """How much is written down. Flushed is at least what was before a flush that has been answered."""
        return self._record.stat().st_size

    def after_power_cut(self, position: int, chance: random.Random, image: Path) -> None:
        """Makes an image of what the disk may hold if the power had failed at a position of the record.

        All before the last flush is there; of each write since, all or nothing or its first sectors.
        """
        events = list(_events(self._record, position))
        flushed = max((index for index, (offset, _) in enumerate(events) if offset == _FLUSH), default=0)
        with image.open("wb") as file:
            file.truncate(self._size)
            for index, (offset, data) in enumerate(events):
                if offset == _FLUSH:
                    continue
                kept = len(data)
                if index > flushed:
                    kept = chance.choice((0, kept, kept, chance.randrange(0, kept + 1, 512)))
                file.seek(offset)
                file.write(data[:kept])


def _events(record: Path, end: int) -> Iterator[tuple[int, bytes]]:
    with record.open("rb") as file:
        while file.tell() < end:
            offset, length = _RECORD.unpack(file.read(_RECORD.size))
            yield offset, file.read(length)


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@contextmanager
def failing_disk(directory: Path, size: int, features: Iterable[str] = ()) -> Iterator[Disk]:
    """Yields a disk with a new ext4, mounted; nothing of it is left afterwards, failing or not."""
    image, device = directory / "image", directory / "device"
    with image.open("wb") as file:
        file.truncate(size)
    for path in (device, directory / "disk"):
        path.mkdir()
    command = [sys.executable, "-m", "support.disk", str(image), str(directory / "record"), str(device)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        stack.callback(process.wait, TIMEOUT_S)
        assert _answer(process) == "done"
        stack.callback(subprocess.run, ["umount", str(device)], check=True)
        disk = Disk(directory, process, size)
        stack.callback(disk.unmount)
        stack.callback(disk.fail)
        options = [word for feature in features for word in ("-O", feature)]
        make = [
            "mkfs.ext4",
            "-q",
            "-m",
            "0",
            "-E",
            "nodiscard,lazy_itable_init=0",
            *options,
            str(device / _NAME.decode()),
        ]
        subprocess.run(make, check=True, capture_output=True)
        disk.mount()
        yield disk


if __name__ == "__main__":
    _main(*sys.argv[1:])
