"""Parquet between two versions: any subset of its changed rows, written as a file of its own.

The file is written by the SQL engine, with the newer file's compression and metadata, so that a program reads the same
names and types. What the engine does not write as it reads it is refused, with the reason: the whole newer table is
written and read once for that.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from vfs.formats.detail import BytesReadable, NotThisFormat, Readable, whole
from vfs.formats.parquet import read_tables
from vfs.formats.row_spool import Table, Workspace
from vfs.formats.sql_engine import quoted, sql_engine
from vfs.text.row_composition import RowComposition

_CELLS_MAX = 20_000_000
_COMPRESSIONS = {"UNCOMPRESSED", "SNAPPY", "GZIP", "ZSTD", "BROTLI", "LZ4_RAW"}
_PLACE = "file_row_number"
"""The engine's name for a row's place in its file, from 0."""


class ParquetComposition:
    """Two tables with the same columns, and the changed rows between them; in changes a row is its cells as JSON."""

    def __init__(self, old: Readable, new: Readable) -> None:
        """Raises MissingExtra, NotThisFormat."""
        self._old, self._new = whole(old), whole(new)
        with Workspace() as workspace:
            before, after = read_tables(old, new, workspace)
            _require_composable(before, after)
            self._columns = list(after.columns)
            self._composition = RowComposition(_rows(before), _rows(after))
            self.changes = self._composition.changes
            written = BytesReadable(self._written((True, place) for place in range(len(after.spool))))
            with Workspace() as again:
                copy, _ = read_tables(written, new, again)
                is_same = copy.columns == after.columns and copy.types == after.types
                if not is_same or list(copy.spool.lines()) != list(after.spool.lines()):
                    raise NotThisFormat("it has types that are not written as they are read")

    def content(self, chosen: Collection[int]) -> bytes:
        """Returns the file with the changes of the given numbers. Raises NotThisFormat."""
        if not chosen:
            return self._old
        if len(chosen) == len(self.changes):
            return self._new
        return self._written(self._composition.rows(chosen))

    def _written(self, rows: Iterable[tuple[bool, int]]) -> bytes:
        picked = list(rows)
        with Workspace() as workspace, sql_engine(workspace.path) as engine:
            both = (self._old, self._new)
            places = [workspace.copy(BytesReadable(data), f"{side}.parquet") for side, data in enumerate(both)]
            engine.execute("CREATE TEMP TABLE picked (number BIGINT, is_new BOOLEAN, place BIGINT)")
            engine.execute(
                "INSERT INTO picked SELECT unnest(?), unnest(?), unnest(?)",
                [list(range(len(picked))), [is_new for is_new, _ in picked], [at for _, at in picked]],
            )
            # Names of our own: the table's may be any.
            inner = ", ".join(f"t.{quoted(name)} AS c{at}" for at, name in enumerate(self._columns))
            outer = ", ".join(f"c{at} AS {quoted(name)}" for at, name in enumerate(self._columns))
            sides = " UNION ALL ".join(
                # All rows match. Of an inner join the engine would write columns that have no null as `required`.
                f"SELECT p.number, {inner} FROM (FROM picked WHERE is_new = {bool(side)}) p LEFT JOIN "
                f"read_parquet({_text(str(place))}, hive_partitioning=false, {_PLACE}=true) t "
                f"ON p.place = t.{_PLACE}"
                for side, place in enumerate(places)
            )
            made = workspace.path / "made.parquet"
            engine.execute(
                f"COPY (SELECT {outer} FROM ({sides}) ORDER BY number) TO {_text(str(made))} "
                f"({', '.join(_options(engine, places[1]))})"
            )
            return made.read_bytes()


def _require_composable(before: Table, after: Table) -> None:
    """Raises NotThisFormat, with the reason, where rows of both tables are not rows of one."""
    if list(before.columns) != list(after.columns):
        raise NotThisFormat("its columns changed")
    if before.types != after.types:
        raise NotThisFormat("types of its columns changed")
    for reason in (*before.inexact.values(), *after.inexact.values()):
        raise NotThisFormat(f"a column is not read exactly: {reason}")
    if not after.columns or _PLACE in map(str.lower, after.columns):
        raise NotThisFormat("its columns have names that the reader uses")
    if max(len(before.spool), len(after.spool)) * len(after.columns) > _CELLS_MAX:
        raise NotThisFormat(f"it has more than {_CELLS_MAX:,} cells")


def _rows(table: Table) -> list[bytes]:
    """Returns the rows as JSON without brackets: equal rows as equal bytes."""
    rows = []
    for row in table.spool.rows():
        cells = row + [None] * (len(table.columns) - len(row))
        plain = [None if cell is None else table.plain(at, cell) for at, cell in enumerate(cells)]
        rows.append(json.dumps(plain, ensure_ascii=False).encode("utf-8", "surrogatepass")[1:-1])
    return rows


def _options(engine: Any, path: Path) -> list[str]:
    """Returns how a file is written, as options of COPY."""
    found = engine.execute("SELECT DISTINCT compression FROM parquet_metadata(?)", [str(path)]).fetchall()
    options = ["FORMAT parquet"]
    if len(found) == 1 and found[0][0] in _COMPRESSIONS:
        options.append(f"COMPRESSION {found[0][0]}")
    try:
        pairs = [
            f"{_text(bytes(key).decode())}: {_text(bytes(value or b'').decode())}"
            for key, value in engine.execute("SELECT key, value FROM parquet_kv_metadata(?)", [str(path)]).fetchall()
        ]
    except UnicodeDecodeError:
        raise NotThisFormat("its metadata are no text") from None
    return [*options, f"KV_METADATA {{{', '.join(pairs)}}}"] if pairs else options


def _text(words: str) -> str:
    """Returns a text as SQL writes it."""
    return "'" + words.replace("'", "''") + "'"
