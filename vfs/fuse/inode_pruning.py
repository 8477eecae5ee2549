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

from vfs.fuse.compact_file_inodes import FileColumns
from vfs.fuse.known_inode_count import NAMES_MAX, KnownNames
from vfs.fuse.layers import Layers

log = logging.getLogger(__name__)

FILES_PER_NAME = 4
"""How many inodes of versions' files may be known for each of working layers: a row of columns is that much smaller."""
_KEPT = 7 / 8
_PRUNE = 9
"""FUSE_NOTIFY_PRUNE, of protocol 7.45."""
_MESSAGE = struct.Struct("=IiQIIQ")
"""Length, code and 0 for a notification, as in fuse_out_header; number of inodes and padding, as in
fuse_notify_prune_out. The inodes follow, 8 bytes each."""
_BATCH = 512
_FORGOTTEN_AFTER_S = 0.1


class _Bound(NamedTuple):
    """A bound of one kind of inodes; `pick` returns so many that may be forgotten."""

    known: KnownNames
    most: int
    pick: Callable[[int], list[int]]


class Pruner:
    """Keeps the number of inodes that the kernel knows near `names_max`; used by the event loop's thread."""

    def __init__(self, files: FileColumns[Any], layers: Layers | None, names_max: int = NAMES_MAX) -> None:
        self._bounds = [_Bound(files.known, FILES_PER_NAME * names_max, files.some)]
        if layers is not None:
            self._bounds.append(_Bound(layers.names, names_max, layers.oldest))
        self._wanted = trio.Event()
        for each in self._bounds:
            each.known.on_more = self._want
        self._set_limits()

    def _want(self) -> None:
        self._wanted.set()

    def _set_limits(self) -> None:
        # Inodes that are in use are asked for again only when others have come.
        for known, most, _ in self._bounds:
            known.limit = max(most, known.count + most // 8)

    async def run(self, find_connection: Callable[[], int]) -> None:
        """Prunes when there are too many inodes, as long as the mount lives."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            for each in self._bounds:
                each.known.limit = sys.maxsize
            try:
                while await self._prune(find_connection()):
                    pass
            except OSError as error:
                if error.errno == errno.EINVAL:
                    log.info("this kernel does not prune; memory grows with the names that are looked up")
                else:
                    log.warning("the kernel is not asked to forget any more: %s", error)
                return
            self._set_limits()

    async def _prune(self, connection: int) -> bool:
        """Prunes once; returns False if there is no more to gain."""
        numbers: list[int] = []
        for known, most, pick in self._bounds:
            if known.count > most:
                numbers += pick(known.count - int(_KEPT * most))
        if not numbers:
            return False
        before = sum(each.known.dropped for each in self._bounds)
        # Not in the thread of the handlers: the kernel takes locks of inodes.
        await trio.to_thread.run_sync(prune, connection, numbers)
        await trio.sleep(_FORGOTTEN_AFTER_S)
        forgotten = sum(each.known.dropped for each in self._bounds) - before
        log.debug("pruned: %s are left", ", ".join(str(each.known.count) for each in self._bounds))
        return 2 * forgotten > len(numbers)


def prune(connection: int, numbers: Sequence[int]) -> None:
    """Asks the kernel to forget inodes that nothing uses; raises OSError(EINVAL) where it cannot be asked."""
    for start in range(0, len(numbers), _BATCH):
        batch = numbers[start : start + _BATCH]
        inodes = struct.pack(f"={len(batch)}Q", *batch)
        os.write(connection, _MESSAGE.pack(_MESSAGE.size + len(inodes), _PRUNE, 0, len(batch), 0, 0) + inodes)
