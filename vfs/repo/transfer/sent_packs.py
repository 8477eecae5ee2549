"""SentPacks: the packs that a push has sent, with their tables on disk, so that memory does not grow with objects."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from vfs.remote.format import StoredPack
from vfs.store.lmdb_tables import Tables
from vfs.store.packs.pack_file import PackName

_PACKS = "packs"


class SentPacks:
    """Packs in the order in which they were sent; usable from several threads. It goes with the process."""

    def __init__(self, place: Path) -> None:
        """`place`: a directory on the disk that takes the tables."""
        self._place = place
        self._sizes: dict[PackName, int] = {}
        self._tables: Tables | None = None

    def __len__(self) -> int:
        return len(self._sizes)

    def open(self) -> None:
        """Makes room on the disk, before anything is added."""
        if self._tables is None:
            self._tables = Tables.unnamed((_PACKS,), self._place)

    def add(self, stored: StoredPack) -> None:
        """Adds a pack."""
        assert self._tables is not None
        with self._tables.write() as batch:
            batch.put(_PACKS, stored.name, stored.table)
        self._sizes[stored.pack] = stored.size

    def names(self, but: Container[PackName]) -> list[PackName]:
        """Returns the packs that are not in `but`."""
        return [name for name in list(self._sizes) if name not in but]

    def stored(self, names: Iterable[PackName]) -> Iterator[StoredPack]:
        """Yields packs with their tables."""
        for name in names:
            key = bytes.fromhex(name.hex)
            table = self._tables.get(_PACKS, key) if self._tables is not None else None
            yield StoredPack(name.kind, key, self._sizes[name], table or b"")

    def clear(self) -> None:
        """Forgets all packs."""
        self._sizes.clear()

    def close(self) -> None:
        """Ends it."""
        self.clear()
        if self._tables is not None:
            self._tables.close()
