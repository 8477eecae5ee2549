"""Frees dead data in journals on a full disk, where there is no space to write a checkpoint.

The data of a record that no file shows any more is punched out of the journal (a hole in the file); heads and sequence
numbers stay. Order of the durable steps: docs/durability.md, W16.
"""

from __future__ import annotations

from collections.abc import Iterator

from vfs.overlay.journal.fallocate import BLOCK_BYTES
from vfs.overlay.journal.journal import Journal
from vfs.overlay.journal.journal_records import Freed
from vfs.overlay.layer_nodes import FileNode
from vfs.overlay.state import State

WORTH_BYTES = 1024 * 1024
"""Less dead data is left alone as long as writing does not fail."""

Ranges = list[tuple[int, int]]


def reclaim(state: State, bytes_min: int = WORTH_BYTES) -> int:
    """Frees dead data in the journals if it is at least `bytes_min`; returns an upper bound of the bytes freed.

    Raises OSError. The caller holds the overlay's lock. Does nothing while a layer is frozen: a commit reads it.
    """
    if state.frozen is not None or state.journal.is_stopped:
        return 0
    used = _used(state)
    dead: dict[int, Ranges] = {}
    for number, journal in state.journals.items():
        # A reader may have planned already which bytes it is about to read.
        if not journal.is_removed and not journal.is_read:
            dead[number] = list(_dead(journal, sorted(used.get(number, []))))
    size = sum(end - start for ranges in dead.values() for start, end in ranges)
    if size < max(bytes_min, 1):
        return 0
    _take_out(state, {number: ranges for number, ranges in dead.items() if ranges})
    return size


def _take_out(state: State, dead: dict[int, Ranges]) -> None:
    for number in sorted(state.journals):
        journal = state.journals[number]
        if not journal.is_removed and journal is not state.journal:
            journal.seal()
    state.journal.append_all([Freed(number, tuple(_joined(ranges))) for number, ranges in dead.items()])
    state.journal.seal()
    for number, ranges in dead.items():
        state.journals[number].punch(ranges)


def _used(state: State) -> dict[int, Ranges]:
    """Returns the stretches of journals that files show, by generation."""
    used: dict[int, Ranges] = {}
    for node in (*state.active.nodes.values(), *state.orphans.values()):
        if isinstance(node, FileNode):
            for start, end, segment, position in node.extents:
                used.setdefault(segment, []).append((position, position + end - start))
    return used


def _dead(journal: Journal, used: Ranges) -> Iterator[tuple[int, int]]:
    """Yields the whole blocks in the data of dead records."""
    at = 0
    for found in journal.heads():
        while at < len(used) and used[at][1] <= found.data_position:
            at += 1
        if at < len(used) and used[at][0] < found.end:
            continue
        start, end = found.blocks
        if start < end and start not in journal.punched:
            yield start, end


def _joined(ranges: Ranges) -> Iterator[tuple[int, int]]:
    """Yields the ranges, those close to one another joined: between them are record heads, which stay."""
    start, end = ranges[0]
    for begin, stop in ranges[1:]:
        if begin > end + 2 * BLOCK_BYTES:
            yield start, end
            start = begin
        end = stop
    yield start, end
