"""A text or table between two versions: any subset of its changed rows, as a file of its own.

A row is a line, of delimited text a record (which may have line ends inside quotes). Rows that were changed are taken
in pairs, one old and one new; what is left over came or went. With all changes the bytes are the newer file's, with
none the older one's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from vfs.text.matching import matching_blocks

FILE_BYTES_MAX = 64 << 20
"""Larger files are not looked into."""
_QUOTED_ENDINGS = (b".csv", b".tsv", b".tab")
_PROBE_BYTES = 8192


class RowChange(NamedTuple):
    """A row that came, went or was changed. `old_row` and `new_row`: its number in each file, from 1; None where not.

    In delimited text the row with the names of the columns counts, too.
    """

    old_row: int | None
    new_row: int | None
    old: bytes
    new: bytes


class LineComposition:
    """Two contents of a file, and the changed rows between them."""

    def __init__(self, path: bytes, old: bytes, new: bytes) -> None:
        is_quoted = path.lower().endswith(_QUOTED_ENDINGS)
        self._old, self._new = old, new
        self._old_rows, self._new_rows = _rows(old, is_quoted), _rows(new, is_quoted)
        self.changes: list[RowChange] = []
        self._pieces: list[bytes | int] = []
        at_old = at_new = 0
        for block in [*matching_blocks(self._old_rows, self._new_rows), None]:
            end_old = block.old if block is not None else len(self._old_rows)
            end_new = block.new if block is not None else len(self._new_rows)
            self._change(at_old, end_old, at_new, end_new)
            if block is not None:
                self._pieces.extend(self._old_rows[block.old : block.old + block.size])
                at_old, at_new = block.old + block.size, block.new + block.size

    def _change(self, old: int, old_end: int, new: int, new_end: int) -> None:
        for place in range(max(old_end - old, new_end - new)):
            has_old, has_new = old + place < old_end, new + place < new_end
            self._pieces.append(len(self.changes))
            self.changes.append(
                RowChange(
                    old + place + 1 if has_old else None,
                    new + place + 1 if has_new else None,
                    self._old_rows[old + place] if has_old else b"",
                    self._new_rows[new + place] if has_new else b"",
                )
            )

    def content(self, chosen: Collection[int]) -> bytes:
        """Returns the file with the changes of the given numbers."""
        if not chosen:
            return self._old
        if len(chosen) == len(self.changes):
            return self._new
        rows = []
        for piece in self._pieces:
            if isinstance(piece, int):
                change = self.changes[piece]
                row = change.new if piece in chosen else change.old
            else:
                row = piece
            if row:
                rows.append(row)
        # The last row of a file may have no line end, and is not the last one here.
        end = b"\r\n" if any(row.endswith(b"\r\n") for row in rows[:2]) else b"\n"
        return b"".join([row if row.endswith(b"\n") else row + end for row in rows[:-1]] + rows[-1:])


def is_composable(old: bytes, new: bytes) -> bool:
    """Returns True if two contents are texts, so that a part of the changes between them is a file, too."""
    return not any(b"\0" in data[:_PROBE_BYTES] for data in (old, new))


def _rows(data: bytes, is_quoted: bool) -> list[bytes]:
    """Returns the rows with their line ends."""
    found: list[bytes] = []
    pending: list[bytes] = []
    quotes = 0
    for line in data.split(b"\n"):
        pending.append(line)
        quotes += line.count(b'"') if is_quoted else 0
        if quotes % 2 == 0:
            found.append(b"\n".join(pending) + b"\n")
            pending, quotes = [], 0
    # A quote that is never closed: lines are all that can be told.
    found.extend(line + b"\n" for line in pending)
    found[-1] = found[-1][:-1]
    return found if found[-1] else found[:-1]


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
