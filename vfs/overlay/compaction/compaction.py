"""Compaction: writes the live data of all journals into one checkpoint, while writers continue.

A compaction freezes the layer as a commit does, writes it as a checkpoint, renames that to its final name (from then on
it replaces the generations before it), and thaws the layer. Until the rename nothing has changed: a compaction can be
cancelled at any moment, and an operation that needs the layer unfrozen cancels it. Order of the durable steps:
docs/durability.md, W11.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from typing import NamedTuple

from vfs.overlay.compaction.checkpoint_records import inode_record, layer_records
from vfs.overlay.extents import Extents, Stretch
from vfs.overlay.freezing import freeze_before, next_journal, thaw
from vfs.overlay.journal.checkpoint_writer import CheckpointWriter
from vfs.overlay.journal.framing import CHECKPOINT_FORMAT, Heading
from vfs.overlay.journal.journal_records import Data, Record
from vfs.overlay.layer_nodes import FileNode
from vfs.overlay.open_journals import journal_path
from vfs.overlay.state import State

GENERATIONS = 2
"""How many generation numbers a compaction takes: the checkpoint's, and that of the journal for later writes."""
SPARE_BYTES = 32 * 1024 * 1024
"""Free space on the disk that a compaction never uses."""
_PIECE_BYTES = 1024 * 1024
"""The most data in one record."""
_SLICE_BYTES = 256 * 1024
"""Bytes written between two checks for cancellation."""
_SLICE_NODES = 2000
"""Nodes whose extents are moved to the checkpoint each time the overlay's lock is held."""

Damage = dict[int, list[tuple[int, int]]]
"""Damaged stretches of journals, by generation."""


class Cancelled(Exception):
    """The compaction was cancelled; nothing has changed."""


class Compaction:
    """One compaction. Call `write` and `clean_up` without the overlay's lock, everything else with it."""

    def __init__(self, state: State, *, uses_all_space: bool = False) -> None:
        """Freezes the layer; raises OSError with nothing changed."""
        self._state = state
        self._uses_all_space = uses_all_space
        self._generation = generation = state.journal.generation + 1
        base = state.base.id if state.base is not None else b""
        heading = Heading(CHECKPOINT_FORMAT, state.branch, generation, base, 1, state.journal.next_seq)
        self._writer = CheckpointWriter(journal_path(state.directory, generation), heading, on_step=state.on_step)
        try:
            journal = next_journal(state, ahead=GENERATIONS)
        except BaseException:
            self._writer.discard()
            raise
        self._old = dict(state.journals)
        self._orphans = {ino: node.extents.copy() for ino, node in state.orphans.items() if isinstance(node, FileNode)}
        self._frozen = freeze_before(state, journal)
        for old in self._old.values():
            old.hold()
        self._reading = threading.Lock()
        """Held while the frozen layer is read, for one slice at a time."""
        self._is_cancelled = False
        self._is_placed = False
        self._fresh: list[tuple[FileNode, Extents]] = []
        self._fresh_orphans: list[tuple[int, Extents]] = []
        self._installing = self._install()

    def write(self) -> None:
        """Writes the checkpoint, durably, under a temporary name. Raises Cancelled, OSError, Corrupt."""
        damage: Damage | None = None
        found: Damage = {}
        while found != damage:
            damage = found
            self._copy(damage)
            # Damage is searched for after the copy: what was damaged by then may have been copied as if it were whole.
            found = self._find_damage()
        self._writer.finish()

    def _copy(self, damage: Damage) -> None:
        writer = self._writer
        writer.begin()
        self._fresh.clear()
        self._fresh_orphans.clear()
        steps = self._write_all(damage)
        is_going_on = True
        while is_going_on:
            # After a cancellation the layer changes again and must not be read any more.
            with self._reading:
                self._check()
                end = writer.size + _SLICE_BYTES
                while writer.size < end and is_going_on:
                    is_going_on = next(steps, False)
            if writer.flush() and not self._uses_all_space and writer.free_bytes() < SPARE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _check(self) -> None:
        if self._is_cancelled:
            raise Cancelled

    def _find_damage(self) -> Damage:
        """Reads the old journals and returns their damage, which must not get a valid checksum (durability, W10).

        Raises OSError for damage in what was never durable: the disk failed to write it, and `sync` must keep failing.
        """
        damage: Damage = {}
        for number, journal in self._old.items():
            for start, end in journal.damaged_data():
                if end > journal.durable:
                    raise OSError(errno.EIO, f"{journal.path.name} has lost bytes that were not synced yet")
                damage.setdefault(number, []).append((start, end))
            self._check()
        return damage

    def _write_all(self, damage: Damage) -> Iterator[bool]:
        """Writes one record after the other, and yields True after each."""
        layer = self._frozen.layer
        for record in layer_records(layer):
            self._writer.append(record)
            yield True
        for node in layer.nodes.values():
            if isinstance(node, FileNode):
                fresh = Extents()
                pieces = _pieces(node.extents, damage)
                first = next(pieces, None)
                if first is None:
                    self._writer.append(inode_record(node))
                else:
                    self._put(inode_record(node, first.start), first, fresh)
                yield from self._fill(node.ino, pieces, fresh)
                self._fresh.append((node, fresh))
        for ino, extents in self._orphans.items():
            fresh = Extents()
            yield from self._fill(ino, _pieces(extents, damage), fresh)
            self._fresh_orphans.append((ino, fresh))

    def _fill(self, ino: int, pieces: Iterator[_Piece], fresh: Extents) -> Iterator[bool]:
        yield True
        for piece in pieces:
            self._put(Data(ino, piece.start), piece, fresh)
            yield True

    def _put(self, record: Record, piece: _Piece, fresh: Extents) -> None:
        data = b"".join(
            self._old[segment].read(position, end - start) for start, end, segment, position in piece.stretches
        )
        position = self._writer.append(record, data, is_whole=piece.is_whole)
        fresh.put(piece.start, piece.start + len(data), self._generation, position)

    def advance(self) -> bool:
        """Does one short step after `write`; returns True if there is another. Raises Cancelled, OSError."""
        return next(self._installing, self) is None

    def _install(self) -> Iterator[None]:
        self._check()
        state = self._state
        journal = self._writer.place()
        self._is_placed = True
        state.journals[journal.generation] = journal
        for done, (node, extents) in enumerate(self._fresh, 1):
            node.extents = extents
            if not done % _SLICE_NODES:
                yield
        for ino, extents in self._fresh_orphans:
            orphan = state.orphans.get(ino)
            if isinstance(orphan, FileNode):
                # A writer may have added to it meanwhile.
                orphan.extents = orphan.extents.moved(self._old.keys(), extents)
        thaw(state, self._frozen)
        for old in self._old.values():
            old.is_removed = True
        state.close_unused_journals()

    def end(self) -> None:
        """Merges the two layers at once: cancels the compaction, or finishes it if the checkpoint already counts."""
        if self._is_placed:
            for _ in self._installing:
                pass
        elif not self._is_cancelled:
            self._is_cancelled = True
            with self._reading:
                thaw(self._state, self._frozen)

    def release(self) -> None:
        """Releases the old journals; call it after `end`."""
        for old in self._old.values():
            old.release()

    def abandon(self) -> None:
        """Closes the checkpoint's file and leaves all files as a killed process would; after `release`."""
        self._writer.close()

    def clean_up(self) -> None:
        """Removes the files that no longer count; call it after `release`."""
        if not self._is_placed:
            self._writer.discard()
            return
        for old in self._old.values():
            # A journal that cannot be removed does not count: the next opening removes it.
            with contextlib.suppress(OSError):
                old.remove()
        with contextlib.suppress(OSError):
            self._state.directory.sync()


class _Piece(NamedTuple):
    """The data of one record: adjacent stretches of a file."""

    stretches: list[Stretch]
    is_whole: bool

    @property
    def start(self) -> int:
        return self.stretches[0].start


def _pieces(extents: Extents, damage: Damage) -> Iterator[_Piece]:
    """Yields all of a file's extents as few pieces."""
    gathered: list[Stretch] = []
    was_whole = True
    for stretch, is_whole in _divided(extents, damage):
        if gathered and (
            gathered[-1].end != stretch.start or is_whole != was_whole or stretch.end - gathered[0].start > _PIECE_BYTES
        ):
            yield _Piece(gathered, was_whole)
            gathered = []
        gathered.append(stretch)
        was_whole = is_whole
    if gathered:
        yield _Piece(gathered, was_whole)


def _divided(extents: Extents, damage: Damage) -> Iterator[tuple[Stretch, bool]]:
    """Yields extents, cut where damage begins or ends and where they are long, each with True if it is undamaged."""
    for start, end, segment, position in extents:
        at = start
        while at < end:
            stop = min(end, at + _PIECE_BYTES)
            is_whole = True
            for begin, until in damage.get(segment, ()):
                if begin - position + start > at:
                    stop = min(stop, max(at, begin - position + start))
                elif until - position + start > at:
                    stop = min(stop, until - position + start)
                    is_whole = False
            yield Stretch(at, stop, segment, position + at - start), is_whole
            at = stop
