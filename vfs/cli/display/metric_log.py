"""The metric of each version, for `vfs log --metric`: of runs that read it, its own metadata, or runs that made it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vfs.cli.display.run_output import metric_text
from vfs.model.objects import Version
from vfs.model.run_record import as_number, metric_value
from vfs.repo.runs.records import MADE_BY
from vfs.repo.runs.run_tables import RunTables

_PLOT_WIDTH = 24
_EXACT = frozenset({"pinned", "working", "seen"})


@dataclass(frozen=True, slots=True)
class VersionMetric:
    """A version's metric: the newest value, of which runs it is, and how these know the version.

    `how`: *read* (runs read the version), *by* (runs wrote what it commits), *meta* (the version's own metadata).
    """

    value: float
    values: tuple[float, ...]
    runs: tuple[str, ...]
    how: str

    @property
    def text(self) -> str:
        """The value, with the number and the range of several."""
        shown = metric_text(self.value)
        if len(set(self.values)) > 1:
            shown += f" ({metric_text(min(self.values))} to {metric_text(max(self.values))} of {len(self.values)})"
        return shown

    @property
    def origin(self) -> str:
        """Where it is from: `r17`, `by r17`, `meta`."""
        if self.how == "meta":
            return "meta"
        return f"by {self.runs[0]}" if self.how == "by" else self.runs[0]

    def document(self, name: str) -> dict[str, Any]:
        """Returns the JSON document."""
        value = self.value if math.isfinite(self.value) else None
        return {"name": name, "value": value, "runs": list(self.runs), "how": self.how}


class VersionMetrics:
    """One metric of all versions."""

    def __init__(self, tables: RunTables, name: str) -> None:
        self.name = name
        self._read: dict[str, list[tuple[int, str, float]]] = {}
        self._by_id: dict[str, tuple[int, str, float]] = {}
        for run in tables.runs.values():
            record = run.record
            if name not in record.metrics:
                continue
            found = record.start_ns, record.name, as_number(record.metrics[name])
            self._by_id[record.id] = found
            for source in record.sources:
                if source.commit and source.known in _EXACT and (source.opened or source.listed):
                    self._read.setdefault(source.commit, []).append(found)

    def of(self, version: Version) -> VersionMetric | None:
        """Returns the metric of a version, None where nothing is known."""
        if found := self._read.get(version.id.hex()):
            return _newest(found, "read")
        meta = dict(version.commit.meta)
        value = metric_value(meta[self.name]) if self.name in meta else None
        if value is not None:
            number = as_number(value)
            return VersionMetric(number, (number,), (), "meta")
        ids = [word.partition("-")[2] for word in meta.get(MADE_BY, "").split()]
        made = [self._by_id[each] for each in ids if each in self._by_id]
        return _newest(made, "by") if made else None


def _newest(found: list[tuple[int, str, float]], how: str) -> VersionMetric:
    ordered = sorted(found, reverse=True)
    return VersionMetric(
        ordered[0][2], tuple(value for _, _, value in ordered), tuple(name for _, name, _ in ordered), how
    )


def plotted(values: Sequence[VersionMetric | None]) -> Iterator[str]:
    """Yields a line of dots for each value, from the smallest on the left to the largest; empty without a number."""
    numbers = [each.value for each in values if each is not None and math.isfinite(each.value)]
    low, high = (min(numbers), max(numbers)) if numbers else (0.0, 0.0)
    # Halves first: the difference of the largest numbers is infinite.
    span = high / 2 - low / 2
    for each in values:
        if each is None or not math.isfinite(each.value):
            yield ""
            continue
        part = (each.value / 2 - low / 2) / span if span else 1.0
        yield "·" * round(part * (_PLOT_WIDTH - 1)) + "●"
