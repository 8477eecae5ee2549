"""The compaction policy: when the journals' total size is worth a compaction, measured against their live data.

Journals may take twice their live data plus `FREE`. So a compaction, which copies the live data, frees at least as much
as it copies: write amplification is at most 2, in bytes and in records. `FREE` is an amount that users do not notice:
64 MiB of disk, and a second or two of mounting after a crash.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple

from vfs.overlay.compaction.compaction import SPARE_BYTES
from vfs.overlay.compaction.hole_punching import WORTH_BYTES
from vfs.overlay.layer_nodes import WHITEOUT, DirNode, FileNode, Node
from vfs.overlay.state import State


class Size(NamedTuple):
    """The size of journals, or of a checkpoint that would be written."""

    bytes: int
    records: int

    def exceeds(self, live: Size, free: Size, factor: int) -> bool:
        """Returns True if this is more than `factor` times the live size plus `free`."""
        return self.bytes > factor * live.bytes + free.bytes or self.records > factor * live.records + free.records


FREE = Size(64 * 1024 * 1024, 200_000)
_FACTOR = 2

CLOSING_FREE = Size(8 * 1024 * 1024, 20_000)
"""The same for a layer that is being closed: the next opening reads what was not compacted."""
_CLOSING_FACTOR = 3
_CLOSING_BYTES_MAX = 64 * 1024 * 1024
"""Closing takes at most a second more; a layer with more live data is left to the next use."""

_MEASURE_SIZE = Size(16 * 1024 * 1024, 50_000)
"""After so much was written, the live data is measured again at once; after less, when `_MEASURE_S` have passed."""
_MEASURE_S = 10.0
_CHECK_S = 2.0
_MEASURE_SHARE = 50
"""Measuring takes at most a fiftieth of the time."""

_OVERHEAD_BYTES = 24 * 1024
"""Of a compaction on a full disk: the headings of two files, and blocks that are not full."""

_NODE_BYTES = 256
"""An upper bound of an inode's record without its fields of variable length."""
_PLACE_BYTES = 24
_NAME_BYTES = 5
_ENTRY_BYTES = 320
"""An upper bound of a committed entry without its extended attributes."""
_FILL_BYTES = 80
_FILL_OF_BYTES = 1024 * 1024


def total_size(state: State) -> Size:
    """Returns the total size of the journals, those included in which only unlinked open files have data."""
    journals = state.journals.values()
    return Size(sum(journal.end for journal in journals), sum(journal.records_count for journal in journals))


def live_size(nodes: Iterable[Node]) -> Size:
    """Returns an upper bound of the size of a checkpoint of nodes; the cost follows their number, not their bytes."""
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
    """Returns an upper bound of the number of records for a file's bytes."""
    extents = node.extents
    if extents.is_one_run:
        return extents.size // _FILL_OF_BYTES + 1
    return len(extents) + extents.size // _FILL_OF_BYTES


class CompactionPolicy:
    """Decides whether a working layer should be compacted; for one thread at a time, without the overlay's lock."""

    def __init__(self, state: State, lock: AbstractContextManager[object], now: Callable[[], float]) -> None:
        self._state = state
        self._lock = lock
        self._now = now
        self._measured = Size(0, 0)
        self._next_s = 0.0
        self._last_checked = (Size(0, 0), 0)
        self._next_check_s = 0.0

    def should_compact(self) -> bool:
        """Returns True if the journals are too large for their live data and the disk has space; cheap."""
        with self._lock:
            size = total_size(self._state)
            if self._state.frozen is not None or not self._is_worth_measuring(size):
                return False
            nodes = _nodes(self._state)
        begun = self._now()
        alive = live_size(nodes)
        now = self._now()
        self._measured = size
        self._next_s = now + max(_MEASURE_S, _MEASURE_SHARE * (now - begun))
        return size.exceeds(alive, FREE, _FACTOR) and free_bytes(self._state) >= alive.bytes + SPARE_BYTES

    def lacks_space(self) -> bool:
        """Returns True if the disk has no space to compact and something has changed since the last call; cheap."""
        with self._lock:
            size = (total_size(self._state), len(self._state.orphans))
            if size == self._last_checked or self._now() < self._next_check_s:
                return False
            self._last_checked = size
            self._next_check_s = self._now() + _CHECK_S
            return free_bytes(self._state) < SPARE_BYTES

    def _is_worth_measuring(self, size: Size) -> bool:
        if size.bytes <= FREE.bytes and size.records <= FREE.records:
            return False
        self._measured = Size(min(size.bytes, self._measured.bytes), min(size.records, self._measured.records))
        if size.exceeds(self._measured, _MEASURE_SIZE, 1):
            return True
        # Removing a file adds one record and makes all of its data dead.
        return size != self._measured and self._now() >= self._next_s


def should_compact_at_close(state: State) -> bool:
    """Returns True if a layer that is about to be closed is worth compacting, and that is quick."""
    size = total_size(state)
    if state.frozen is not None or (size.bytes <= CLOSING_FREE.bytes and size.records <= CLOSING_FREE.records):
        return False
    alive = live_size(_nodes(state))
    return (
        alive.bytes <= _CLOSING_BYTES_MAX
        and size.exceeds(alive, CLOSING_FREE, _CLOSING_FACTOR)
        and free_bytes(state) >= alive.bytes + SPARE_BYTES
    )


def should_compact_when_full(state: State) -> bool:
    """Returns True if dead records take much and a full disk, with the reserve, has space for the live ones."""
    size = total_size(state)
    if state.frozen is not None or size.bytes < WORTH_BYTES:
        return False
    live = live_size(_nodes(state))
    free = free_bytes(state)
    is_full = free < live.bytes + SPARE_BYTES
    has_space = free + state.journal.reserved >= live.bytes + _OVERHEAD_BYTES
    return is_full and has_space and size.bytes >= live.bytes + WORTH_BYTES


def _nodes(state: State) -> list[Node]:
    return [*state.active.nodes.values(), *state.orphans.values()]


def free_bytes(state: State) -> int:
    """Returns how many bytes the disk has free for this user."""
    with state.directory.opened() as descriptor:
        disk = os.fstatvfs(descriptor)
    return disk.f_bavail * disk.f_frsize
