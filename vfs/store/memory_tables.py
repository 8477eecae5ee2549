"""MemoryTables: what Tables keep, in memory: to make derived tables a second time and compare."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Self

from vfs.model.ids import check64


class MemoryTables:
    """Tables, and the one transaction that writes to them. Of the tables named `digested` it keeps checksums alone."""

    def __init__(self, digested: Set[str] = frozenset()) -> None:
        self._digested = digested
        self._rows: dict[str, dict[bytes, bytes]] = {}

    def get(self, table: str, key: bytes) -> bytes | None:
        """Returns a value, or its checksum."""
        return self._rows.get(table, {}).get(key)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Stores a value; replaces."""
        self._rows.setdefault(table, {})[key] = self.kept(table, value)

    def kept(self, table: str, value: bytes) -> bytes:
        """Returns the stored form of a value."""
        return check64(value) if table in self._digested else value

    def delete(self, table: str, key: bytes) -> bool:
        """Removes a row. Returns True if there was one."""
        return self._rows.get(table, {}).pop(key, None) is not None

    def clear(self, table: str) -> None:
        """Removes all rows of a table."""
        self._rows.pop(table, None)

    def scan(self, table: str, prefix: bytes = b"", *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yields (key, value) of the keys with a prefix, in order."""
        rows = self._rows.get(table, {})
        for key in sorted(rows, reverse=reverse):
            if key.startswith(prefix):
                yield key, rows[key]

    @contextmanager
    def write(self) -> Iterator[Self]:
        """Begins what stands for a transaction."""
        yield self
