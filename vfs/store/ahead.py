"""Where a file is being read in sequence, and what of it to bring before it is asked for. No input or output here."""

from __future__ import annotations

FIRST_BYTES = 256 * 1024
"""Reading from a file's start makes a sequence after this many bytes: more than a look at a header."""
RUN_BYTES = 2 * 1024 * 1024
"""Reading from anywhere else does after this many, one after the other: more than a program reads at a random place."""
WINDOW_BYTES = 4 * 1024 * 1024
"""How far ahead of the reader the bytes are that were asked for, at most."""


class AccessPattern:
    """Follows the reads of one open file."""

    __slots__ = ("_ahead", "_next", "_start")

    def __init__(self) -> None:
        self._start = self._next = self._ahead = 0

    def note(self, offset: int, end: int, size: int) -> tuple[int, int] | None:
        """Takes note of a read of [offset, end) in a file of `size`; returns the stretch to bring now, if any.

        What is brought grows with what was read in sequence, so a sequence that ends wastes no more than it used.
        """
        if offset != self._next:
            self._start = self._ahead = offset
        self._next = end
        run = end - self._start
        if run < (FIRST_BYTES if self._start == 0 else RUN_BYTES):
            return None
        first = max(end, self._ahead)
        last = min(end + min(run, WINDOW_BYTES), size)
        if first >= last:
            return None
        self._ahead = last
        return first, last
