"""Tables: columns and rows of CSV, TSV, JSON Lines and Parquet. The only importer of `duckdb` (the extra `tables`).

The engine reads copies in a temporary directory, spills there when a table passes its memory, and fetches nothing from
anywhere. Values of CSV are compared as they are written, others by their types.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from vfs.cli.formats.detail import (
    EXAMPLES_MAX,
    PIECE_BYTES,
    Detail,
    MissingExtra,
    NotThisFormat,
    Readable,
    more_than_shown,
    too_large,
)
from vfs.cli.formats.text import shown_line
from vfs.cli.output import human_count
from vfs.errors import InvalidInput

QUICK_BYTES_MAX = 32 * 1024 * 1024
"""Tables up to this size are compared in some seconds at most."""
TABLE_BYTES_MAX = 256 * 1024 * 1024
_MEMORY = "512MB"
_KEYS_TRIED = 8
_VALUE_CHARACTERS_MAX = 40
_READERS = {
    b".csv": "read_csv(?, all_varchar=true, header=true)",
    b".tsv": "read_csv(?, all_varchar=true, header=true, delim='\t')",
    b".jsonl": "read_json(?, format='newline_delimited', sample_size=-1)",
    b".ndjson": "read_json(?, format='newline_delimited', sample_size=-1)",
    b".parquet": "read_parquet(?)",
}
ENDINGS = tuple(_READERS)
"""The endings of names that this module knows."""


class Table(NamedTuple):
    """A table as rows of plain values."""

    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]


class _Columns(NamedTuple):
    """Columns of both sides, by name: what came and went, what has another type, what can be compared."""

    added: list[str]
    removed: list[str]
    retyped: dict[str, tuple[str, str]]
    common: list[str]


def describe(name: bytes, old: Readable, new: Readable, key: str | None = None, *, patient: bool = False) -> Detail:
    """Returns the columns and rows that differ; of larger tables only where somebody is `patient`.

    Rows are followed by `key`, else by the first column whose values are unique on both sides, else compared whole.
    Raises MissingExtra, NotThisFormat, InvalidInput for a key that is no column.
    """
    limit_bytes = TABLE_BYTES_MAX if patient else QUICK_BYTES_MAX
    large = too_large(old, new, limit_bytes, "row by row")
    if large is not None:
        is_possible = max(old.size, new.size) <= TABLE_BYTES_MAX
        return replace(large, lines=[*large.lines, "--full compares them all the same"]) if is_possible else large
    with _engine() as (engine, directory):
        _load(engine, directory, name, "o", old)
        _load(engine, directory, name, "n", new)
        columns = _columns(engine)
        if key is not None and key not in columns.common:
            raise InvalidInput(
                f"{key!r} is no column of both tables", hint=f"Choose one of: {', '.join(columns.common)}."
            )
        found = key if key is not None else _unique_column(engine, columns.common)
        before, after = (_one(engine, f"SELECT count(*) FROM {side}")[0] for side in ("o", "n"))
        lines = _column_lines(columns)
        value: dict[str, Any] = {
            "columns": {
                "added": columns.added,
                "removed": columns.removed,
                "retyped": {name: {"old": was, "new": now} for name, (was, now) in columns.retyped.items()},
            },
            "key": found,
            "rows": {"old": before, "new": after},
        }
        rows, examples, shown = _by_key(engine, columns, found) if found else _whole_rows(engine, columns)
    value["rows"] |= rows
    value["examples"] = examples
    counts = ", ".join(f"{count:,} {word}" for word, count in rows.items() if word != "by_column" and count)
    total = human_count(after, "row") if before == after else f"{before:,} → {human_count(after, 'row')}"
    by = f" (by {shown_line(found.encode())})" if found else ""
    return Detail("table", [f"{total}: {counts or 'the same rows'}{by}", *lines, *shown], value)


def read_rows(name: bytes, source: Readable) -> Table:
    """Returns all of a table. Raises MissingExtra, NotThisFormat; for callers that have looked at the size."""
    with _engine() as (engine, directory):
        _load(engine, directory, name, "t", source)
        columns = [row[0] for row in _all(engine, "DESCRIBE t")]
        return Table(columns, [tuple(map(_plain, row)) for row in _all(engine, "SELECT * FROM t")])


@contextmanager
def _engine() -> Iterator[tuple[Any, Path]]:
    try:
        duckdb = importlib.import_module("duckdb")
    except ImportError:
        raise MissingExtra("tables", "rows and columns") from None
    with tempfile.TemporaryDirectory(prefix="vfs-tables-") as directory:
        settings = {
            "memory_limit": _MEMORY,
            "temp_directory": directory,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        engine = duckdb.connect(":memory:", config=settings)
        try:
            yield engine, Path(directory)
        except duckdb.Error:
            # A table that the engine cannot read: damaged, or of another shape than its name says.
            raise NotThisFormat from None
        finally:
            engine.close()


def _load(engine: Any, directory: Path, name: bytes, side: str, source: Readable) -> None:
    ending = next(ending for ending in ENDINGS if name.lower().endswith(ending))
    path = directory / (side + ending.decode("ascii"))
    with path.open("wb") as file:
        for offset in range(0, source.size, PIECE_BYTES):
            file.write(source.read(offset, PIECE_BYTES))
    engine.execute(f"CREATE TABLE {side} AS SELECT * FROM {_READERS[ending]}", [str(path)])
    path.unlink()


def _all(engine: Any, query: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = engine.execute(query).fetchall()
    return found


def _one(engine: Any, query: str) -> tuple[Any, ...]:
    return _all(engine, query)[0]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _columns(engine: Any) -> _Columns:
    old, new = ({row[0]: row[1] for row in _all(engine, f"DESCRIBE {side}")} for side in ("o", "n"))
    retyped = {name: (old[name], new[name]) for name in old if name in new and old[name] != new[name]}
    return _Columns(
        [name for name in new if name not in old],
        [name for name in old if name not in new],
        retyped,
        [name for name in old if name in new and name not in retyped],
    )


def _unique_column(engine: Any, columns: Sequence[str]) -> str | None:
    """Returns the first column that has no value twice on either side, and some value on both."""
    for name in columns[:_KEYS_TRIED]:
        column = _quoted(name)
        is_unique = f"count(*) > 0 AND count(*) = count(DISTINCT {column})"
        if (
            _one(engine, f"SELECT {is_unique} FROM o")[0]
            and _one(engine, f"SELECT {is_unique} FROM n")[0]
            and _one(engine, f"SELECT count(*) FROM o SEMI JOIN n USING ({column})")[0]
        ):
            return name
    return None


def _by_key(engine: Any, columns: _Columns, key: str) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    k = _quoted(key)
    others = [name for name in columns.common if name != key]
    differs = {name: f"o.{_quoted(name)} IS DISTINCT FROM n.{_quoted(name)}" for name in others}
    any_differs = " OR ".join(differs.values()) or "false"
    # A mark tells a row that is there from a key that is NULL.
    joined = (
        f"(SELECT true AS here, * FROM o) AS o FULL JOIN (SELECT true AS here, * FROM n) AS n"
        f" ON o.{k} IS NOT DISTINCT FROM n.{k}"
    )
    both = "o.here AND n.here"
    sums = [
        "count(*) FILTER (o.here IS NULL)",
        "count(*) FILTER (n.here IS NULL)",
        f"count(*) FILTER ({both} AND ({any_differs}))",
        *(f"count(*) FILTER ({both} AND {test})" for test in differs.values()),
    ]
    added, removed, changed, *by_column = _one(engine, f"SELECT {', '.join(sums)} FROM {joined}")
    fields = [f"o.{_quoted(name)}, n.{_quoted(name)}" for name in others]
    query = (
        f"SELECT coalesce(o.{k}, n.{k}), o.here, n.here{''.join(', ' + pair for pair in fields)} FROM {joined}"
        f" WHERE o.here IS NULL OR n.here IS NULL OR {any_differs} ORDER BY 1 LIMIT {EXAMPLES_MAX}"
    )
    examples = [_example(row, key, others) for row in _all(engine, query)]
    rows = {
        "added": added,
        "removed": removed,
        "changed": changed,
        "by_column": {name: count for name, count in zip(others, by_column, strict=True) if count},
    }
    lines = [_example_line(example, key) for example in examples]
    return rows, examples, lines + more_than_shown(added + removed + changed, "rows")


def _example(row: tuple[Any, ...], key: str, others: Sequence[str]) -> dict[str, Any]:
    value, was_there, is_there, *cells = row
    pairs = {name: (_plain(cells[2 * at]), _plain(cells[2 * at + 1])) for at, name in enumerate(others)}
    if was_there and is_there:
        changes = {name: {"old": was, "new": now} for name, (was, now) in pairs.items() if was != now}
        return {"change": "changed", "key": _plain(value), "cells": changes}
    side = 0 if was_there else 1
    whole = {key: _plain(value)} | {name: pair[side] for name, pair in pairs.items()}
    return {"change": "removed" if was_there else "added", "row": whole}


def _example_line(example: dict[str, Any], key: str) -> str:
    if example["change"] == "changed":
        cells = ", ".join(
            f"{_shown(name)} {_shown(cell['old'])} → {_shown(cell['new'])}" for name, cell in example["cells"].items()
        )
        return f"~ {_shown(example['key'])}: {cells}"
    sign = "+" if example["change"] == "added" else "-"
    row = dict(example["row"])
    return f"{sign} {_shown(row.pop(key))}: {', '.join(f'{_shown(name)} {_shown(cell)}' for name, cell in row.items())}"


def _whole_rows(engine: Any, columns: _Columns) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """Compares rows as a whole and without their order, by the columns that both sides have."""
    if not columns.common:
        return {"added": 0, "removed": 0}, [], ["no column is on both sides"]
    names = ", ".join(map(_quoted, columns.common))
    rows: dict[str, Any] = {}
    examples: list[dict[str, Any]] = []
    lines: list[str] = []
    for word, sign, ours, theirs in (("added", "+", "n", "o"), ("removed", "-", "o", "n")):
        only = f"(SELECT {names} FROM {ours} EXCEPT ALL SELECT {names} FROM {theirs})"
        rows[word] = _one(engine, f"SELECT count(*) FROM {only}")[0]
        for row in _all(engine, f"SELECT * FROM {only} ORDER BY ALL LIMIT {EXAMPLES_MAX}"):
            cells = dict(zip(columns.common, map(_plain, row), strict=True))
            examples.append({"change": word, "row": cells})
            lines.append(f"{sign} " + ", ".join(f"{_shown(name)} {_shown(cell)}" for name, cell in cells.items()))
        lines += more_than_shown(rows[word], f"rows {word}")
    return rows, examples, lines


def _column_lines(columns: _Columns) -> list[str]:
    lines = [f"~ column {_shown(name)}: {was} → {now}" for name, (was, now) in columns.retyped.items()]
    lines += [f"+ column {_shown(name)}" for name in columns.added]
    return lines + [f"- column {_shown(name)}" for name in columns.removed]


def _plain(value: Any) -> Any:
    """Returns a value that JSON has; others as text."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _shown(value: Any) -> str:
    text = shown_line(str(value).replace("\n", "\\n").encode("utf-8", "surrogatepass"))
    return text if len(text) <= _VALUE_CHARACTERS_MAX else text[: _VALUE_CHARACTERS_MAX - 1] + "…"
