"""A kernel that is asked to forget inodes, on a clock of its own: hours pass in no time."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable

import trio
import trio.testing

from vfs.fuse.compact_file_inodes import FileColumns
from vfs.fuse.inode_pruning import FILES_PER_NAME, Pruner

NAMES_MAX = 10
MOST = FILES_PER_NAME * NAMES_MAX
HOUR_S = 3600.0
_SCENE_S = 10 * HOUR_S
_HEADER_BYTES = 32
_MESSAGE_BYTES_MAX = 1 << 16


class _Directory:
    """Where the files are."""

    slot = -1


class PrunedKernel:
    """A kernel that knows files of versions. `used`: those that it keeps. `late_s`: how late its FORGETs come."""

    def __init__(self) -> None:
        self.files: FileColumns[_Directory] = FileColumns()
        self.pruner = Pruner(self.files, None, NAMES_MAX)
        self.used: set[int] = set()
        self.late_s = 0.0
        self.asked = 0
        self._known: set[int] = set()
        self._directory = _Directory()
        self._last = 0

    def look_up(self, count: int, *, used: bool = False) -> None:
        """Lets the kernel know so many more files."""
        for number in range(self._last + 1, self._last + count + 1):
            self.files.hold(number, 0, self._directory, 0)
            self._known.add(number)
            if used:
                self.used.add(number)
        self._last += count

    async def wait(self, seconds: float) -> None:
        """Lets time pass."""
        await trio.sleep(seconds)

    async def until_bounded(self) -> None:
        """Returns when no more files are known than may be."""
        while len(self.files) > MOST:
            await self.wait(1)

    async def run(self, connection: socket.socket) -> None:
        """Takes requests to prune."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(connection)
                message = connection.recv(_MESSAGE_BYTES_MAX)
                numbers = struct.unpack(f"={(len(message) - _HEADER_BYTES) // 8}Q", message[_HEADER_BYTES:])
                self.asked += len(numbers)
                forgotten = self._known.intersection(numbers) - self.used
                self._known -= forgotten
                nursery.start_soon(self._forget, forgotten)

    async def _forget(self, numbers: set[int]) -> None:
        await self.wait(self.late_s)
        for number in numbers:
            assert self.files.forget(number, 1) == 0


def serve(scene: Callable[[PrunedKernel], Awaitable[None]]) -> None:
    """Plays a scene with a kernel and what prunes in it. No thread may work meanwhile: the clock would jump."""

    async def play() -> None:
        kernel = PrunedKernel()
        ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, kernels, trio.fail_after(_SCENE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kernel.run, kernels)
                nursery.start_soon(kernel.pruner.run, ours.fileno)
                await scene(kernel)
                nursery.cancel_scope.cancel()

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))
