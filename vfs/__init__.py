"""Versioned data as directories: every version of a dataset is a path, and can be opened from Python.

    repo = vfs.open("/data/repo")
    repo["v12"].read_bytes("labels.csv")

These names are the stable ones; each is imported when it is first used. See docs/python.md.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
"""True to type checkers alone. `typing` and `importlib` take longer than all else here: a training that imports this
package for `vfs.log` waits for neither."""

if TYPE_CHECKING:
    from typing import Any

    from vfs.metric_logging import log
    from vfs.python.datasets import Files
    from vfs.python.entries import Entry
    from vfs.python.repositories import BlamedLine, Log, PathChange, Repository, init
    from vfs.python.repositories import open_repository as open  # noqa: A004  `vfs.open` is its name.
    from vfs.python.version_changes import Change, Counts, Diff, RowChange, TableChange, diff
    from vfs.python.version_files import File
    from vfs.python.versions import Version
    from vfs.python.working_layer import WorkingLayer

_EXPORTS = {
    "open": "repositories:open_repository",
    "init": "repositories:init",
    "diff": "version_changes:diff",
    "Repository": "repositories:Repository",
    "Version": "versions:Version",
    "Entry": "entries:Entry",
    "File": "version_files:File",
    "Log": "repositories:Log",
    "Diff": "version_changes:Diff",
    "Change": "version_changes:Change",
    "Counts": "version_changes:Counts",
    "TableChange": "version_changes:TableChange",
    "RowChange": "version_changes:RowChange",
    "PathChange": "repositories:PathChange",
    "BlamedLine": "repositories:BlamedLine",
    "WorkingLayer": "working_layer:WorkingLayer",
    "Files": "datasets:Files",
}
"""The stable names: where each is below `vfs.python`. `log` stands apart from that package: it imports nothing else."""

__all__ = [
    "__version__",
    "open",
    "init",
    "diff",
    "Repository",
    "Version",
    "Entry",
    "File",
    "Log",
    "Diff",
    "Change",
    "Counts",
    "TableChange",
    "RowChange",
    "PathChange",
    "BlamedLine",
    "WorkingLayer",
    "Files",
    "log",
]


def __getattr__(name: str) -> Any:
    if name == "log":
        from vfs.metric_logging import log

        globals()[name] = log
        return log
    where = _EXPORTS.get(name)
    if where is None:
        raise AttributeError(f"module 'vfs' has no attribute {name!r}")
    from importlib import import_module

    module, _, attribute = where.partition(":")
    value = getattr(import_module(f"vfs.python.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
