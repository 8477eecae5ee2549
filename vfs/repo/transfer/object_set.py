"""ObjectSet: a set of object ids. Few are in memory and the rest on disk, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vfs.store.lmdb_tables import Tables

RECENT_MAX = 50_000
"""How many ids are in memory, at some 100 bytes each."""
_IDS = "ids"
_WRITTEN_MAX = 5_000


class ObjectSet:
    """Ids, used by one thread. What is on disk goes with the process, however that ends."""

    def __init__(self, place: Path) -> None:
        """`place`: a directory on the disk that may be used."""
        self._place = place
        self._recent: set[bytes] = set()
        self._tables: Tables | None = None
        self._on_disk = 0

    def __len__(self) -> int:
        return len(self._recent) + self._on_disk

    def __contains__(self, object_id: bytes) -> bool:
        return object_id in self._recent or (self._tables is not None and self._tables.has(_IDS, object_id))

    def __iter__(self) -> Iterator[bytes]:
        if self._tables is None:
            yield from self._recent
            return
        self._spill(self._tables)
        for object_id, _ in self._tables.scan(_IDS):
            yield object_id

    def add(self, object_id: bytes) -> bool:
        """Adds an id; returns False for one that is in the set."""
        if object_id in self:
            return False
        self._recent.add(object_id)
        if len(self._recent) >= RECENT_MAX:
            if self._tables is None:
                self._tables = Tables.unnamed((_IDS,), self._place)
            self._spill(self._tables)
        return True

    def _spill(self, tables: Tables) -> None:
        ids = sorted(self._recent)
        # LMDB has each page that a transaction changes in memory: one for an id, where the table is large.
        for start in range(0, len(ids), _WRITTEN_MAX):
            part = ids[start : start + _WRITTEN_MAX]
            with tables.write() as batch:
                self._on_disk += batch.put_new(_IDS, ((object_id, b"") for object_id in part))
        self._recent.clear()

    def close(self) -> None:
        """Ends the set."""
        self._recent.clear()
        if self._tables is not None:
            self._tables.close()
