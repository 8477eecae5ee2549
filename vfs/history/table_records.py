"""What tables of all forms have: records with a key, each as the bytes that it is."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from vfs.errors import InvalidInput

BOM = b"\xef\xbb\xbf"
ABSENT: Any = object()
"""What a side does not have."""
MIXED: Any = object()
"""What both sides changed, and not to the same."""

K = TypeVar("K", bound=Hashable)


class NoKey(InvalidInput):
    """A file has no rows by the key that was named, or they cannot be determined without a guess."""

    code = "no-key"


class Record(NamedTuple):
    """A row's bytes and its line end; the last row of a file may have none."""

    body: bytes
    end: bytes


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file by key, in their order. `tail` are the blank lines behind them."""

    bom: bytes
    rows: dict[Hashable, Record]
    tail: bytes
    header: Record | None = None
    columns: tuple[bytes, ...] = ()
    delimiter: bytes = b""

    def line_end(self) -> bytes:
        """Returns the file's first line end, or b"" where it has none."""
        if self.header is not None:
            return self.header.end
        return next((record.end for record in self.rows.values()), b"")

    def is_empty(self) -> bool:
        """Returns True if the file has no bytes."""
        return self.last() is None and not self.bom and not self.tail

    def last(self) -> Record | None:
        """Returns the last row, or the header of a table without rows."""
        return next(reversed(self.rows.values()), self.header)


class Form(Protocol):
    """How rows of a table are written, and what their fields are."""

    def fields(self, table: Table, record: Record) -> dict[bytes, bytes] | None:
        """Returns the bytes of each field by name, or None where names are not unique."""

    def identity(self, value: bytes) -> Hashable:
        """Returns the identity of a field, by which the two sides of a row are compared."""

    def written(self, fields: Mapping[bytes, bytes], sides: Sequence[Record | None]) -> bytes | None:
        """Returns the body of a row with these fields; `sides` are base, ours and theirs. None: they do not agree."""


def pick(base: Any, ours: Any, theirs: Any) -> Any:
    """Returns what a three-way merge takes of values that are equal or not, or MIXED."""
    if ours == theirs or theirs == base:
        return ours
    return theirs if ours == base else MIXED


def merged_order(base: Collection[K], ours: Sequence[K], theirs: Sequence[K]) -> list[K] | None:
    """Returns all of ours and theirs in the order that one side gave them, or None where both changed it otherwise.

    What is new on one side comes after what it follows there.
    """
    in_base, in_ours, in_theirs = set(base), set(ours), set(theirs)
    stayed = in_base & in_ours & in_theirs
    orders = [[key for key in keys if key in stayed] for keys in (base, ours, theirs)]
    order = pick(*orders)
    if order is MIXED:
        return None
    if order == orders[1]:
        return list(_with_new(in_base, ours, theirs))
    return list(_with_new(in_base, theirs, ours))


def _with_new(base: Collection[K], main: Sequence[K], other: Sequence[K]) -> Iterator[K]:
    """Yields `main`, and what only `other` has after what it follows there."""
    in_main, in_other = set(main), set(other)
    following: dict[K | None, list[K]] = {}
    last: K | None = None
    for key in other:
        if key in in_main:
            last = key
        else:
            following.setdefault(last, []).append(key)
    waiting = following.get(None, [])
    for key in main:
        # New ones of `main` stay with the one that they follow.
        if key in base or key in in_other:
            yield from waiting
            waiting = []
        yield key
        waiting = waiting + following.get(key, [])
    yield from waiting


def add(rows: dict[Hashable, Record], key: Hashable, record: Record, shown: bytes) -> None:
    """Adds a row to a table; raises NoKey where another one has its key."""
    if key in rows:
        raise NoKey(f"two rows have the key {shown.decode('utf-8', 'backslashreplace')!r}")
    rows[key] = record


def require_utf8(data: bytes) -> None:
    """Raises NoKey, with the line, where bytes are no UTF-8 text."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NoKey(f"line {line} is not UTF-8") from None
