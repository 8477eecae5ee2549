"""`vfs.log`: metrics from a Python program into the record of its run. Standard library alone, imported in no time."""

from __future__ import annotations

import os

VARIABLE = "VFS_METRICS"
"""The environment variable that names the file into which a run's metrics are written, one JSON object a line."""


def log(**metrics: float) -> None:
    """Appends metrics, such as `log(accuracy=0.93, step=3)`, to the record of the run; does nothing outside a run.

    Several processes may do it at once. Values that are no numbers are written as texts. It never raises for a file
    that cannot be written: a training does not end for its log.
    """
    path = os.environ.get(VARIABLE)
    if not path or not metrics:
        return
    import json

    line = json.dumps({name: _plain(value) for name, value in metrics.items()}) + "\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except OSError:
        return


def _plain(value: object) -> object:
    """Returns a value that JSON has: numbers of other libraries as float."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(value)
    return number if number - number == 0 else str(number)
