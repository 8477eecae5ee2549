"""A text or table between two versions: any subset of its changed rows, as a file of its own.

A row is a line, of delimited text a record (which may have line ends inside quotes). With all changes the bytes are the
newer file's, with none the older one's.
"""

from __future__ import annotations

from collections.abc import Collection

from vfs.text.row_composition import RowComposition

_QUOTED_ENDINGS = (b".csv", b".tsv", b".tab")
_PROBE_BYTES = 8192


class LineComposition:
    """Two contents of a text, and the changed rows between them."""

    def __init__(self, path: bytes, old: bytes, new: bytes) -> None:
        is_quoted = path.lower().endswith(_QUOTED_ENDINGS)
        self._old, self._new = old, new
        self._rows = _rows(old, is_quoted), _rows(new, is_quoted)
        self._composition = RowComposition(*self._rows)
        self.changes = self._composition.changes

    def content(self, chosen: Collection[int]) -> bytes:
        """Returns the file with the changes of the given numbers."""
        if not chosen:
            return self._old
        if len(chosen) == len(self.changes):
            return self._new
        rows = [self._rows[is_new][place] for is_new, place in self._composition.rows(chosen)]
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
