"""Two contents of a table, compared row by row and cell by cell in the SQL engine: for tables of millions of rows.

Cells are compared as values of the columns' types, text where a type changed. Rows are followed by a key; rows with
the same key are the first with the first, the second with the second. Without a key a row was added or removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from vfs.formats.detail import NotThisFormat, Readable
from vfs.formats.loaded_table import Column, check_width, copy_file, relation
from vfs.formats.sql_engine import bounded, engine_errors, open_engine, quoted

CHANGES_A_PAGE = 100
_KEYS_TRIED = 8
_COMPARE_S = 120.0
_CELL_CHARACTERS_MAX = 200
_NTH = '"nth row of its key"'
NO_KEY = ""
"""The key that stands for none: rows are compared whole."""


class RowCounts(NamedTuple):
    """How many rows there are on both sides, and how many differ in which way."""

    old: int
    new: int
    added: int
    removed: int
    changed: int


class RowChange(NamedTuple):
    """A row that differs, its cells in the shared columns as text; None for the side that lacks it."""

    kind: str
    old: Sequence[str | None] | None
    new: Sequence[str | None] | None


class ComparedTables:
    """Two tables and what differs between them; safe for several threads.

    `shared` are the columns on both sides in the old one's order; `key` the one that rows are followed by, or None.
    `changed_cells` counts changed cells by column.
    """

    def __init__(self, name: bytes, old: Readable, new: Readable, directory: Path, key: str | None = None) -> None:
        """Compares, with copies in a new directory. `key`: None chooses one, NO_KEY takes none.

        Raises MissingExtra, NotThisFormat, OSError.
        """
        self._directory = directory
        self._lock = Lock()
        copy_file(old, directory / "old")
        copy_file(new, directory / "new")
        self._engine = open_engine(directory, str(directory / "rows.duckdb"))
        try:
            with self._asking():
                self._open(name)
                self.key = self._chosen(key)
                self._compare()
                self.counts = self._count()
                self.changed_cells = self._cells()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the engine; the directory is the caller's."""
        self._engine.close()

    @contextmanager
    def _asking(self) -> Any:
        with self._lock, engine_errors(self._directory), bounded(self._engine, _COMPARE_S):
            yield

    def _open(self, name: bytes) -> None:
        columns = []
        is_parquet = name.lower().endswith(b".parquet")
        for side in ("old", "new"):
            check_width(self._engine, name, self._directory / side)
            source = relation(name, self._directory / side, as_text=True)
            if is_parquet:
                self._engine.execute(f"CREATE VIEW {side} AS SELECT * FROM {source}")
            else:
                self._engine.execute(f"CREATE TABLE {side} AS SELECT * FROM {source}")
            described = self._engine.execute(f"DESCRIBE {side}").fetchall()
            columns.append([Column(str(row[0]), str(row[1])) for row in described])
        old, new = columns
        types = {column.name: column.type for column in new}
        self.shared = [column.name for column in old if column.name in types]
        self.added_columns = [column.name for column in new if column.name not in set(self.shared)]
        self.removed_columns = [column.name for column in old if column.name not in types]
        self.retyped = {c.name: (c.type, types[c.name]) for c in old if c.name in types and c.type != types[c.name]}

    def _chosen(self, key: str | None) -> str | None:
        if key == NO_KEY:
            return None
        if key is not None:
            if key not in self.shared:
                raise NotThisFormat(f"{key!r} is no column of both tables")
            return key
        return next((name for name in self.shared[:_KEYS_TRIED] if self._is_unique(name)), None)

    def _is_unique(self, name: str) -> bool:
        column = quoted(name)
        for side in ("old", "new"):
            # A thousand rows refuse most columns, so that few are read whole.
            for rows in (f"(FROM {side} LIMIT 1000)", side):
                total, filled, distinct = self._engine.execute(
                    f"SELECT count(*), count({column}), count(DISTINCT {column}) FROM {rows}"
                ).fetchone()
                if not total or filled != total or distinct != total:
                    return False
        return True

    def _value(self, side: str, name: str) -> str:
        column = f"{side}.{quoted(name)}"
        return f"{column}::VARCHAR" if name in self.retyped else column

    def _compare(self) -> None:
        """Makes the table `changes`: kind, then each shared column of the old side (o0, o1, …) and the new (n0, …)."""
        if not self.shared:
            raise NotThisFormat("no column is on both sides")
        if self.key is None:
            self._compare_whole()
            return
        unique = self._is_unique(self.key)
        key = quoted(self.key)
        sides = {}
        for side in ("old", "new"):
            nth = "1" if unique else f"row_number() OVER (PARTITION BY {key})"
            sides[side] = f"(SELECT *, {nth} AS {_NTH} FROM {side})"
        equal = f"{self._value('o', self.key)} IS NOT DISTINCT FROM {self._value('n', self.key)}"
        if unique:
            equal = f"{self._value('o', self.key)} = {self._value('n', self.key)}"
        others = [name for name in self.shared if name != self.key]
        differs = " OR ".join(f"{self._value('o', name)} IS DISTINCT FROM {self._value('n', name)}" for name in others)
        cells = [f"{self._value(side, name)} AS {side}{at}" for at, name in enumerate(self.shared) for side in "on"]
        first = (f"{side}.{key}{'::VARCHAR' if self.key in self.retyped else ''}" for side in "on")
        self._engine.execute(
            f"CREATE TABLE changes AS SELECT CASE WHEN o.{_NTH} IS NULL THEN 'added'"
            f" WHEN n.{_NTH} IS NULL THEN 'removed' ELSE 'changed' END AS kind, {', '.join(cells)}"
            f" FROM {sides['old']} o FULL OUTER JOIN {sides['new']} n ON {equal} AND o.{_NTH} = n.{_NTH}"
            f" WHERE o.{_NTH} IS NULL OR n.{_NTH} IS NULL OR {differs or 'false'} ORDER BY coalesce({', '.join(first)})"
        )

    def _compare_whole(self) -> None:
        cells = {side: ", ".join(self._value(side, name) for name in self.shared) for side in ("old", "new")}
        parts = []
        for kind, one, other, letter in (("removed", "old", "new", "o"), ("added", "new", "old", "n")):
            names = ", ".join(f"{letter}{at}" for at in range(len(self.shared)))
            parts.append(
                f"SELECT '{kind}' AS kind, {names} FROM"
                f" (SELECT {cells[one]} FROM {one} EXCEPT ALL SELECT {cells[other]} FROM {other}) AS t({names})"
            )
        self._engine.execute(f"CREATE TABLE changes AS {' UNION ALL BY NAME '.join(parts)}")

    def _count(self) -> RowCounts:
        run = self._engine.execute
        kinds = dict(run("SELECT kind, count(*) FROM changes GROUP BY kind").fetchall())
        old, new = (int(run(f"SELECT count(*) FROM {side}").fetchone()[0]) for side in ("old", "new"))
        return RowCounts(old, new, *(int(kinds.get(kind, 0)) for kind in ("added", "removed", "changed")))

    def _cells(self) -> dict[str, int]:
        if self.key is None or not self.counts.changed:
            return {}
        sums = ", ".join(f"count(*) FILTER (o{at} IS DISTINCT FROM n{at})" for at in range(len(self.shared)))
        found = self._engine.execute(f"SELECT {sums} FROM changes WHERE kind = 'changed'").fetchone()
        return {name: int(count) for name, count in zip(self.shared, found, strict=True) if count}

    def page(self, first: int, kind: str = "") -> list[RowChange]:
        """Returns up to CHANGES_A_PAGE changes from number `first` on, of one kind where one is named."""
        size = _CELL_CHARACTERS_MAX + 1
        cells = ", ".join(f"left({side}{at}::VARCHAR, {size})" for side in "on" for at in range(len(self.shared)))
        where, values = (" WHERE kind = ?", [kind]) if kind else ("", [])
        query = f"SELECT kind, {cells} FROM changes{where} LIMIT {CHANGES_A_PAGE} OFFSET {max(first, 0)}"
        with self._asking():
            rows = self._engine.execute(query, values).fetchall()
        count = len(self.shared)
        return [
            RowChange(
                row[0],
                None if row[0] == "added" else row[1 : count + 1],
                None if row[0] == "removed" else row[count + 1 :],
            )
            for row in rows
        ]
