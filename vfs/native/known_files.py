"""The native table of the files of versions that the kernel knows; known_files.c has it."""

from __future__ import annotations

import ctypes
import errno
import os
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from vfs.native.signatures import CKnown, CKnownCount, CrossedFunction, FreedFunction

SHARDS = 64
_INSERTED = 2
_UNREADABLE = (1 << 64) - 1


class Known(NamedTuple):
    """What is kept of a file. `slot`: its directory's. `record`: where its name is recorded, -1 if nowhere."""

    check: int
    slot: int
    position: int
    lookups: int
    record: int
    is_marked: bool


class KnownFiles:
    """One table. Used by the event loop's thread.

    `count`: how many files are known (`count`), how many ever were (`added`), and when its `on_crossing` is called:
    once there are more than `limit`, and when one of `floor` + 1 is forgotten.
    """

    def __init__(self, library: Any, freed: Callable[[int], None]) -> None:
        """`library`: the declared functions; calls that take as long as these need not release the interpreter.

        `freed` is called with the slot that nothing refers to any more, after a FORGET that was taken natively.
        """
        # The library calls them: they must not be freed before.
        self._functions = CrossedFunction(self._cross), FreedFunction(freed)
        self.pointer = library.session_files_new(*self._functions)
        if not self.pointer:
            raise MemoryError
        self._library = library
        self.count: CKnownCount = library.session_files_count(self.pointer).contents
        # It lies in the table's memory.
        self.count.table = self
        self.count.on_crossing = lambda: None
        self._known = CKnown()
        weakref.finalize(self, library.session_files_free, self.pointer)

    def _cross(self) -> None:
        self.count.on_crossing()

    def hold(self, ino: int, check: int, slot: int, position: int) -> bool:
        """Counts a look-up; returns True for the first one, which keeps the rest."""
        held = self._library.session_files_hold(self.pointer, ino, check, slot, position)
        if not held:
            raise MemoryError
        return bool(held == _INSERTED)

    def find(self, ino: int) -> Known | None:
        """Returns what is kept of a number, or None."""
        known = self._known
        if not self._library.session_files_find(self.pointer, ino, known):
            return None
        return Known(
            known.check, known.slot, known.position, known.lookups, known.record - 1, is_marked=bool(known.is_marked)
        )

    def forget(self, ino: int, lookups: int) -> bool:
        """Decrements the count of look-ups of a known number; returns True if nothing refers to its slot then."""
        return bool(self._library.session_files_forget(self.pointer, ino, lookups))

    def mark(self, ino: int) -> None:
        """Sets the mark of a number, if it is known."""
        self._library.session_files_mark(self.pointer, ino)

    def hold_slot(self, slot: int) -> None:
        """Counts a reference to a directory's slot, beside those of files."""
        if not self._library.session_files_hold_directory(self.pointer, slot):
            raise MemoryError

    def release_slot(self, slot: int) -> bool:
        """Removes such a reference; returns True if it was the last one."""
        return bool(self._library.session_files_forget_directory(self.pointer, slot))

    def inos(self, shard: int) -> list[int]:
        """Returns the numbers in one of SHARDS parts."""
        room = 1 + self.count.count // SHARDS
        while True:
            found = (ctypes.c_uint64 * room)()
            count = self._library.session_files_list(self.pointer, shard, found, room)
            if count <= room:
                return list(found[:count])
            room = count

    def are_derived(self, *, are_derived: bool) -> None:
        """Sets whether a file's number is the derived one if that is free: then the layer counts look-ups itself."""
        self._library.session_files_are_derived(self.pointer, are_derived)

    def take_forgets(self, *, are_taken: bool) -> None:
        """Sets whether FORGETs of what is known here are taken natively, unless opens are recorded."""
        self._library.session_files_take_forgets(self.pointer, are_taken)

    def record_names(self, descriptor: int, until: int) -> None:
        """Has names that the kernel is told natively written to a file, as long as its position is below `until`.

        Then Python tells the kernel. Below 0: no names are written.
        """
        self._library.session_files_record(self.pointer, descriptor, until)

    def records_bytes(self, descriptor: int, start: int, end: int) -> int:
        """Returns how many bytes the recorded names take that lie in a part of the file. Raises OSError."""
        size = int(self._library.session_files_records_bytes(self.pointer, descriptor, start, end))
        if size == _UNREADABLE:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return size

    def write_records(self, descriptor: int, start: int, end: int, to: int) -> None:
        """Writes these to another place of the file, where they are recorded from then on. Raises OSError.

        `start` is a multiple of the size of a page.
        """
        if not self._library.session_files_write_records(self.pointer, descriptor, start, end, to):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def record_of(self, ino: int) -> int:
        """Returns where the name of a number is recorded for a takeover, -1 if it is not."""
        known = self.find(ino)
        return -1 if known is None else known.record

    def set_record(self, ino: int, place: int) -> bool:
        """Sets where a number's name is recorded; returns False for an unknown number."""
        return bool(self._library.session_files_set_record(self.pointer, ino, place + 1))
