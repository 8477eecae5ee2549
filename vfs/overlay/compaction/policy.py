"""When compacting is worth it: what the journals take, against what is live in them.

Journals may take `FREE` and twice what is live. So a compaction, which copies what is live, gives back at least as much
as it copies: it costs each byte written at most one more copy, and each record at most one more record. `FREE` is what
nobody would miss: 64 MiB of disk, and a second or two of mounting after a crash.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple

from vfs.overlay.compaction.compaction import SPARE_BYTES
from vfs.overlay.nodes import WHITEOUT, DirNode, FileNode, Node
from vfs.overlay.state import State


class Size(NamedTuple):
    """How large a journal is, or would be."""

    bytes: int
    records: int

    def exceeds(self, live: Size, free: Size, factor: int) -> bool:
        """Whether this is more than some times what is live and something on top."""
        return self.bytes > factor * live.bytes + free.bytes or self.records > factor * live.records + free.records


FREE = Size(64 * 1024 * 1024, 200_000)
_FACTOR = 2

CLOSING_FREE = Size(8 * 1024 * 1024, 20_000)
"""At the end of a use: what is left out then, no opening has to read."""
_CLOSING_FACTOR = 3
_CLOSING_BYTES_MAX = 64 * 1024 * 1024
"""Nobody waits for more than a second then; what has more live data is left for the next use."""

_ASK_SIZE = Size(16 * 1024 * 1024, 50_000)
"""Whoever has written so much is asked about at once; less, when some time has gone by."""
_ASK_S = 10.0
_TIGHT_S = 2.0
_ASK_SHARE = 50
"""Asking takes a fiftieth of the time at most."""

_NODE_BYTES = 256
"""More than the record of an inode takes, but for what has a length of its own."""
_PLACE_BYTES = 24
_NAME_BYTES = 5
_ENTRY_BYTES = 320
"""More than a committed entry takes, but for its extended attributes."""
_FILL_BYTES = 80
_FILL_OF_BYTES = 1024 * 1024


def total_size(state: State) -> Size:
    """Returns what the journals take, those included that only open files without a name have bytes in."""
    journals = state.journals.values()
    return Size(sum(journal.end for journal in journals), sum(journal.records_count for journal in journals))


def live_size(nodes: Iterable[Node]) -> Size:
    """Returns what a checkpoint of nodes takes at most, near enough: the cost follows their number, not their bytes."""
    size = records = 0
    for node in nodes:
        size += _NODE_BYTES + len(node.target)
        records += 1
        for _, name in node.places:
            size += _PLACE_BYTES + len(name)
        for name, value in node.xattrs:
            size += 2 * _NAME_BYTES + len(name) + len(value)
        if isinstance(node, FileNode):
            fills = _fills(node)
            size += node.extents.size + fills * _FILL_BYTES + (2 * _ENTRY_BYTES if node.lower is not None else 0)
            records += fills
        elif isinstance(node, DirNode):
            size += _ENTRY_BYTES + len(node.base_path or b"")
            hidden = [name for name, ino in list(node.changes.items()) if ino == WHITEOUT]
            size += sum(map(len, hidden)) + _NAME_BYTES * len(hidden)
    return Size(size, records)


def _fills(node: FileNode) -> int:
    """Returns how many records a file's bytes take at most."""
    extents = node.extents
    if extents.is_one_run:
        return extents.size // _FILL_OF_BYTES + 1
    return len(extents) + extents.size // _FILL_OF_BYTES


class CompactionPolicy:
    """Says whether a working layer is to be compacted; for one thread at a time, with the overlay's lock free."""

    def __init__(self, state: State, lock: AbstractContextManager[object], now: Callable[[], float]) -> None:
        self._state = state
        self._lock = lock
        self._now = now
        self._asked = Size(0, 0)
        self._next_s = 0.0
        self._tight_at = (Size(0, 0), 0)
        self._next_tight_s = 0.0

    def should_compact(self) -> bool:
        """Whether the journals take too much for what is live, and the disk has room; mostly costs nothing."""
        with self._lock:
            size = total_size(self._state)
            if self._state.frozen is not None or not self._is_worth_asking(size):
                return False
            nodes = _nodes(self._state)
        begun = self._now()
        alive = live_size(nodes)
        now = self._now()
        self._asked = size
        self._next_s = now + max(_ASK_S, _ASK_SHARE * (now - begun))
        return size.exceeds(alive, FREE, _FACTOR) and free_bytes(self._state) >= alive.bytes + SPARE_BYTES

    def lacks_space(self) -> bool:
        """Whether the disk has no room to compact, and something has changed since that was asked; costs little."""
        with self._lock:
            size = (total_size(self._state), len(self._state.orphans))
            if size == self._tight_at or self._now() < self._next_tight_s:
                return False
            self._tight_at = size
            self._next_tight_s = self._now() + _TIGHT_S
            return free_bytes(self._state) < SPARE_BYTES

    def _is_worth_asking(self, size: Size) -> bool:
        if size.bytes <= FREE.bytes and size.records <= FREE.records:
            return False
        self._asked = Size(min(size.bytes, self._asked.bytes), min(size.records, self._asked.records))
        if size.exceeds(self._asked, _ASK_SIZE, 1):
            return True
        # A removed file takes one record and leaves all that it had.
        return size != self._asked and self._now() >= self._next_s


def should_compact_at_close(state: State) -> bool:
    """Whether a layer that is about to be closed is worth compacting, and that is quick."""
    size = total_size(state)
    if state.frozen is not None or (size.bytes <= CLOSING_FREE.bytes and size.records <= CLOSING_FREE.records):
        return False
    alive = live_size(_nodes(state))
    return (
        alive.bytes <= _CLOSING_BYTES_MAX
        and size.exceeds(alive, CLOSING_FREE, _CLOSING_FACTOR)
        and free_bytes(state) >= alive.bytes + SPARE_BYTES
    )


def _nodes(state: State) -> list[Node]:
    return [*state.active.nodes.values(), *state.orphans.values()]


def free_bytes(state: State) -> int:
    """Returns how many bytes the disk has for us."""
    with state.directory.opened() as descriptor:
        disk = os.fstatvfs(descriptor)
    return disk.f_bavail * disk.f_frsize
