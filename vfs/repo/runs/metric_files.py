"""Metrics of a run, out of the files into which programs write them."""

from __future__ import annotations

import os
import stat

from vfs.model.reported_metrics import METRICS_BYTES_MAX, Metrics, parse_metrics
from vfs.model.run_record import METRICS_MAX, Metric, metric_value


def read_metrics(path: str | os.PathLike[str]) -> Metrics:
    """Returns the metrics in a file, those in the end of a long one. Raises OSError, also where it is no regular file.

    The program may have put anything in the file's place: a link and a FIFO are not opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is no regular file")
        # One byte more than is parsed: the parser begins with the first whole line.
        file.seek(max(0, status.st_size - METRICS_BYTES_MAX - 1))
        return parse_metrics(file.read(METRICS_BYTES_MAX + 1))


def recorded(metrics: Metrics) -> dict[str, Metric]:
    """Returns the last value of each metric, as a record has it."""
    found = {name: metric_value(value) for name, value in list(metrics.last.items())[:METRICS_MAX]}
    return {name: value for name, value in found.items() if value is not None}
