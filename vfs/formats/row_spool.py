"""Rows in a temporary file: written in their order, read in order or at a place. Memory holds 8 bytes for each."""

from __future__ import annotations

import json
import mmap
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Self, TypeAlias

from vfs.formats.detail import PIECE_BYTES, NotThisFormat, Readable

Row: TypeAlias = Sequence[str | None]
"""The cells of a row as text; None where it has no value. Cells that are missing at its end are None."""

COLUMNS_MAX = 100_000
"""Tables with more are compared by no row: the time for it grows faster than their number."""
CELLS_MAX = 200_000_000
"""The largest number of cells of a table that is compared, those without a value included."""
_SUM_BYTES = 16
_BUFFER_BYTES = 256 * 1024
_BETWEEN = "\x1f"


class Sum:
    """A sum of texts that does not depend on their order; two sums are equal where the same texts were added."""

    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value = 0

    def add(self, text: str) -> None:
        """Adds a text."""
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_SUM_BYTES).digest()
        self._value = (self._value + int.from_bytes(digest, "big")) % (1 << 8 * _SUM_BYTES)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sum) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


class Workspace:
    """A temporary directory, and the spools in it; both are removed at the end.

    Raises NotThisFormat where it cannot write, on a full disk for example: the compared files are not at fault.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.path = Path()

    def __enter__(self) -> Self:
        try:
            self.path = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="vfs-tables-")))
        except OSError as error:
            raise _unwritten(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        # Closing writes the rest of a buffer, which no reader needs any more.
        with suppress(OSError):
            self._stack.close()

    def copy(self, source: Readable, name: str) -> Path:
        """Returns the path of a copy."""
        path = self.path / name
        with path.open("wb", buffering=0) as file:
            for offset in range(0, source.size, PIECE_BYTES):
                left = memoryview(source.read(offset, PIECE_BYTES))
                while left:
                    try:
                        left = left[file.write(left) :]
                    except OSError as error:
                        raise _unwritten(error) from None
        return path

    def spool(self) -> Spool:
        """Returns a new spool without rows."""
        with ExitStack() as stack:
            file = stack.enter_context(tempfile.TemporaryFile(dir=self.path, buffering=_BUFFER_BYTES))
            self._stack.push(stack.pop_all())
        return Spool(file, self._stack)


class Spool:
    """Rows in a file: all are added before the first is read."""

    def __init__(self, file: IO[bytes], stack: ExitStack) -> None:
        self._file = file
        self._stack = stack
        self._starts = array("Q", [0])
        self._cells = 0
        self._mapped: mmap.mmap | bytes | None = None

    def __len__(self) -> int:
        return len(self._starts) - 1

    def add(self, row: Row) -> None:
        """Appends a row. Raises NotThisFormat where there are too many."""
        self._cells += len(row)
        if self._cells > CELLS_MAX:
            check_cells(self._cells)
        try:
            self._starts.append(self._starts[-1] + self._file.write(_encoded(row)))
        except OSError as error:
            raise _unwritten(error) from None

    def line(self, place: int) -> bytes:
        """Returns the row that was added as number `place`, from 0 on, encoded: equal rows as equal bytes."""
        return self._bytes()[self._starts[place] : self._starts[place + 1]]

    def lines(self) -> Iterator[bytes]:
        """Yields all rows in their order, encoded."""
        data = self._bytes()
        return (data[start:end] for start, end in pairwise(self._starts))

    def row(self, place: int) -> list[str | None]:
        """Returns a row. Cells without a value may be missing at its end."""
        return _decoded(self.line(place))

    def rows(self) -> Iterator[list[str | None]]:
        """Yields all rows in their order."""
        return map(_decoded, self.lines())

    def _bytes(self) -> mmap.mmap | bytes:
        if self._mapped is None:
            try:
                self._file.flush()
            except OSError as error:
                raise _unwritten(error) from None
            size = self._starts[-1]
            self._mapped = b""
            if size:
                self._mapped = self._stack.enter_context(mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ))
        return self._mapped


def _unwritten(error: OSError) -> NotThisFormat:
    return NotThisFormat(f"the temporary directory cannot be written to: {error.strerror}")


def check_columns(count: int, most: int = COLUMNS_MAX) -> None:
    """Raises NotThisFormat for too many columns."""
    if count > most:
        raise NotThisFormat(f"it has more than {most:,} columns")


def check_cells(count: int) -> None:
    """Raises NotThisFormat above CELLS_MAX."""
    if count > CELLS_MAX:
        raise NotThisFormat(f"it has more than {CELLS_MAX:,} cells")


def _encoded(row: Row) -> bytes:
    """Returns cells as bytes that no other cells have."""
    cells = row
    if row and row[-1] is None:
        cells = list(row)
        while cells and cells[-1] is None:
            cells.pop()
    try:
        text = _BETWEEN.join(cells)  # type: ignore[arg-type]
    except TypeError:
        # A cell has no value.
        return b"[" + json.dumps(cells).encode("ascii")
    if not cells or text.count(_BETWEEN) != len(cells) - 1:
        return b"[" + json.dumps(cells).encode("ascii")
    return b"=" + text.encode("utf-8", "surrogatepass")


def _decoded(line: bytes) -> list[str | None]:
    if line.startswith(b"="):
        return [*line[1:].decode("utf-8", "surrogatepass").split(_BETWEEN)]
    cells: list[str | None] = json.loads(line[1:])
    return cells


def _as_text(_column: int, cell: str) -> Any:
    return cell


@dataclass
class Table:
    """One side of a comparison.

    `facts` name what can differ besides values, with words for each. `spelling` reads on demand what of the same kind
    has no words. `plain` gives a cell of a column, by its number, as a value that JSON has. `types` are those of the
    columns, where the format has some. `inexact` says of which columns, by number, equal cells prove nothing, and why.
    """

    columns: Sequence[str]
    spool: Spool
    facts: dict[str, str]
    spelling: Callable[[], dict[str, Sum]] = dict
    plain: Callable[[int, str], Any] = _as_text
    types: Sequence[str] | None = None
    inexact: dict[int, str] = field(default_factory=dict)
