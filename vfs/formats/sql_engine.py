"""The SQL engine, shut off from the machine. The only importer of `duckdb` (the extra `tables`).

It reads one temporary directory and nothing else, loads no extension, and keeps to bounds of memory, disk and time.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

from vfs.formats.detail import MissingExtra, NotThisFormat

_MEMORY = "512 MB"
LINE_BYTES_MAX = 16_000_000
"""The longest record of delimited text that is read."""
_DISK = "8GB"


class OutOfTime(NotThisFormat):
    """A query took longer than it may."""


def quoted(name: str) -> str:
    """Returns a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def open_engine(directory: Path, database: str = ":memory:") -> Any:
    """Opens an engine that reads `directory` and nothing else; the caller closes it.

    Raises MissingExtra, NotThisFormat. Its settings are locked: no query changes them.
    """
    try:
        duckdb = importlib.import_module("duckdb")
    except ImportError:
        raise MissingExtra("tables", "rows and columns of tables") from None
    settings = {
        "memory_limit": _MEMORY,
        "temp_directory": str(directory),
        "max_temp_directory_size": _DISK,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with _in_words(duckdb, directory):
        engine = duckdb.connect(database, config=settings)
        place = str(directory).replace("'", "''")
        engine.execute(
            f"SET allowed_directories = ['{place}']; SET enable_external_access = false; SET lock_configuration = true"
        )
        return engine


@contextmanager
def sql_engine(directory: Path) -> Iterator[Any]:
    """Opens an engine and closes it at the end; what it refuses meanwhile raises NotThisFormat with its reason."""
    engine = open_engine(directory)
    try:
        with engine_errors(directory):
            yield engine
    finally:
        engine.close()


@contextmanager
def engine_errors(directory: Path) -> Iterator[None]:
    """Raises NotThisFormat, with the engine's reason, for what the engine refuses."""
    with _in_words(importlib.import_module("duckdb"), directory):
        yield


@contextmanager
def _in_words(duckdb: Any, directory: Path) -> Iterator[None]:
    try:
        yield
    except duckdb.InterruptException:
        raise OutOfTime("it takes too long") from None
    except duckdb.OutOfMemoryException:
        raise NotThisFormat(f"it takes more memory than the {_MEMORY} that reading a table may take") from None
    except duckdb.Error as error:
        raise NotThisFormat(_reason(str(error), directory)) from None


@contextmanager
def bounded(cursor: Any, seconds: float) -> Iterator[None]:
    """Interrupts what a cursor is doing after some time; it then raises OutOfTime within `engine_errors`."""
    timer = Timer(seconds, cursor.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _reason(message: str, directory: Path) -> str:
    """Returns the engine's words in one line, without the place of the copy."""
    if "Maximum line size" in message:
        return f"a line is longer than {LINE_BYTES_MAX // 1_000_000} MB"
    line = message.strip().split("\n")[0].replace(f"{directory}/", "")
    return f"the reader says {line!r}"
