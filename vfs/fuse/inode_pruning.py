"""Pruning: the kernel is asked to forget inodes, so that what the daemon keeps of them has a bound.

The kernel keeps each inode that it has looked up until it needs the memory itself. When it knows too many, it is asked
to drop those that no program uses. It forgets them as it does by itself: names, numbers and open files stay the same.
Kernels before Linux 6.18 do not take the request: there the memory grows with the names that were looked up.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import trio

from vfs.fuse.compact_file_inodes import FileTable
from vfs.fuse.known_inode_count import NAMES_MAX, NameCount
from vfs.fuse.layers import Layers

log = logging.getLogger(__name__)

FILES_PER_NAME = 4
"""How many inodes of versions' files may be known for each of working layers: a row of a table is that much smaller."""
_KEPT = 7 / 8
_PRUNE = 9
"""FUSE_NOTIFY_PRUNE, of protocol 7.45."""
_MESSAGE = struct.Struct("=IiQIIQ")
"""Length, code and 0 for a notification, as in fuse_out_header; number of inodes and padding, as in
fuse_notify_prune_out. The inodes follow, 8 bytes each."""
_BATCH = 512
_FORGOTTEN_AFTER_S = 0.1
"""After it most FORGETs of a prune have come. Later ones count too; others are asked for meanwhile."""
_FIRST_DELAY_S = 1.0


class _Bound(NamedTuple):
    """A bound of one kind of inodes; `pick` returns some of them: about so many, and all others before one again."""

    known: NameCount
    most: int
    pick: Callable[[int], list[int]]

    @property
    def excess(self) -> int:
        """How many are to be forgotten: 0 below the bound."""
        return self.known.count - int(_KEPT * self.most) if self.known.count > self.most else 0


class Pruner:
    """Keeps the number of inodes that the kernel knows near `names_max`; used by the event loop's thread.

    The kernel does not tell which inodes are in use, when they no longer are, and when the last FORGET of a prune was
    sent. So a round asks for each inode once at most, until the bounds are reached. After a round of little gain the
    next one comes when the number has grown by an eighth, or after a delay, which doubles each time: inodes are
    forgotten at the latest after about as long as they were in use. A day of use costs 17 rounds.
    """

    def __init__(self, files: FileTable[Any], layers: Layers | None, names_max: int = NAMES_MAX) -> None:
        self._bounds = [_Bound(files.known, FILES_PER_NAME * names_max, files.some)]
        if layers is not None:
            self._bounds.append(_Bound(layers.names, names_max, layers.oldest))
        for each in self._bounds:
            each.known.on_crossing = self._want
        self._watch()

    def _want(self) -> None:
        self._wanted.set()

    def _watch(self) -> None:
        """Makes `_wanted` an event of the next time when there are many more inodes or few enough."""
        self._wanted = trio.Event()
        for known, most, _ in self._bounds:
            known.limit = max(most, known.count + max(most, known.count) // 8)
            known.floor = most if known.count > most else -1

    async def run(self, find_connection: Callable[[], int]) -> None:
        """Prunes when there are too many inodes, as long as the mount lives."""
        while True:
            await self._wanted.wait()
            try:
                await self._reach_bounds(find_connection())
            except OSError as error:
                if error.errno == errno.EINVAL:
                    log.info("this kernel does not prune; memory grows with the names that are looked up")
                else:
                    log.warning("the kernel is not asked to forget any more: %s", error)
                return

    async def _reach_bounds(self, connection: int) -> None:
        delay_s = _FIRST_DELAY_S
        while any(each.excess for each in self._bounds):
            gains = await self._prune_round(connection)
            self._watch()
            if gains:
                delay_s = _FIRST_DELAY_S
                continue
            with trio.move_on_after(delay_s) as waiting:
                await self._wanted.wait()
            if waiting.cancelled_caught:
                delay_s *= 2
        self._watch()
        self._log()

    async def _prune_round(self, connection: int) -> bool:
        """Prunes until the bounds are reached or each inode was asked for; returns True if much was forgotten."""
        for known, _, _ in self._bounds:
            known.limit, known.floor = sys.maxsize, -1
        before = self._dropped()
        unasked = [each.known.count for each in self._bounds]
        asked = 0
        while True:
            numbers: list[int] = []
            for at, each in enumerate(self._bounds):
                picked = each.pick(min(each.excess, max(0, unasked[at])))
                unasked[at] -= len(picked)
                numbers += picked
            if not numbers:
                return 4 * (self._dropped() - before) > asked
            asked += len(numbers)
            # The oldest come last: directories, which are in use until what they contain is forgotten. Not in the
            # thread of the handlers: the kernel takes locks of inodes.
            await trio.to_thread.run_sync(prune, connection, numbers[::-1])
            await trio.sleep(_FORGOTTEN_AFTER_S)
            self._log()

    def _dropped(self) -> int:
        return sum(each.known.dropped for each in self._bounds)

    def _log(self) -> None:
        log.debug("pruned: %s are left", ", ".join(str(each.known.count) for each in self._bounds))


def prune(connection: int, numbers: Sequence[int]) -> None:
    """Asks the kernel to forget inodes that nothing uses; raises OSError(EINVAL) where it cannot be asked."""
    for start in range(0, len(numbers), _BATCH):
        batch = numbers[start : start + _BATCH]
        inodes = struct.pack(f"={len(batch)}Q", *batch)
        os.write(connection, _MESSAGE.pack(_MESSAGE.size + len(inodes), _PRUNE, 0, len(batch), 0, 0) + inodes)
