"""Rows between two versions of a table or text: which of them changed, and the rows with any subset of the changes.

Rows that were changed are taken in pairs, one old and one new; the others were added or removed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Protocol

from vfs.text.matching import matching_blocks


class RowChange(NamedTuple):
    """A row that came, went or was changed. `old_row` and `new_row`: its number in each file, from 1; None where not.

    In delimited text the row with the names of the columns counts, too.
    """

    old_row: int | None
    new_row: int | None
    old: bytes
    new: bytes


class FileComposition(Protocol):
    """Two contents of a file, and the changed rows between them."""

    @property
    def changes(self) -> Sequence[RowChange]:
        """The changed rows, in the order of the newer file."""

    def content(self, chosen: Collection[int]) -> bytes:
        """Returns the file with the changes of the given numbers: with none the older one, with all the newer."""


class RowComposition:
    """Two sequences of rows, and the changes between them."""

    def __init__(self, old: Sequence[bytes], new: Sequence[bytes]) -> None:
        self.changes: list[RowChange] = []
        self._pieces: list[range | int] = []
        at_old = at_new = 0
        for block in [*matching_blocks(old, new), None]:
            end_old = block.old if block is not None else len(old)
            end_new = block.new if block is not None else len(new)
            for place in range(max(end_old - at_old, end_new - at_new)):
                self._change(old, at_old + place, end_old, new, at_new + place, end_new)
            if block is not None:
                at_old, at_new = block.old + block.size, block.new + block.size
                self._pieces.append(range(block.old, at_old))

    def _change(
        self, old: Sequence[bytes], at_old: int, end_old: int, new: Sequence[bytes], at_new: int, end_new: int
    ) -> None:
        has_old, has_new = at_old < end_old, at_new < end_new
        self._pieces.append(len(self.changes))
        self.changes.append(
            RowChange(
                at_old + 1 if has_old else None,
                at_new + 1 if has_new else None,
                old[at_old] if has_old else b"",
                new[at_new] if has_new else b"",
            )
        )

    def rows(self, chosen: Collection[int]) -> Iterator[tuple[bool, int]]:
        """Yields the rows with the changes of the given numbers: whether it is a new one, and its place from 0."""
        for piece in self._pieces:
            if isinstance(piece, range):
                yield from ((False, place) for place in piece)
                continue
            change = self.changes[piece]
            row = change.new_row if piece in chosen else change.old_row
            if row is not None:
                yield piece in chosen, row - 1


def row_ranges(rows: Sequence[int]) -> str:
    """Returns the numbers of rows as words: `row 7`, `rows 7 to 9, 12`."""
    parts: list[list[int]] = []
    for row in sorted(set(rows)):
        if parts and parts[-1][-1] == row - 1:
            parts[-1] = [parts[-1][0], row]
        else:
            parts.append([row])
    words = ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
    return f"row{'s' if len(rows) > 1 else ''} {words}"
