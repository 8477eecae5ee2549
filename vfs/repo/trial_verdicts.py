"""What runs of a command on one version say: good, bad, or undecided; by exit status or by a metric.

Exit statuses mean what they mean to `git bisect run`: 0 is good, 125 cannot be tested, others up to 124 are bad, and
126, 127 and what is above 127 (a signal) end the search, as the command itself is at fault.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from vfs.errors import InvalidInput, VfsError
from vfs.history.read_set import ReadSet
from vfs.history.version_search import Verdict

SKIP_STATUS = 125

_SURE_SPREADS = 2.0
"""A mean is sure that is so many standard errors from the threshold."""


class CommandFailed(VfsError):
    """The command itself is at fault: no version is judged by it."""

    code = "command-failed"


class NoMetric(InvalidInput):
    """The command reported no such metric."""

    code = "no-metric"


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run: its exit status (negative: the signal that ended it), metrics (NaN is None), seconds, what it read."""

    status: int
    metrics: dict[str, float | None] = {}
    seconds: float = 0.0
    read: ReadSet | None = None


class Criterion(NamedTuple):
    """What is bad: a status other than 0, or a `metric` below (above, if `is_loss`) a threshold; NaN is bad."""

    metric: str | None = None
    threshold: float = 0.0
    is_loss: bool = False

    def is_bad(self, run: Run) -> bool:
        """Returns True if one run is bad by itself; raises NoMetric."""
        if run.status != 0 or self.metric is None:
            return run.status != 0
        value = metric_of(run, self.metric)
        return math.isnan(value) or (value > self.threshold if self.is_loss else value < self.threshold)


class Judged(NamedTuple):
    """What runs of one version say. `mean` and `spread` (standard deviation) of the metric, where there are such.

    `bad_runs` of `runs`. `is_sure`: False where the spread of the runs could have made it the other way around.
    """

    verdict: Verdict
    runs: int
    bad_runs: int
    mean: float | None = None
    spread: float | None = None
    is_sure: bool = True


def metric_of(run: Run, name: str) -> float:
    """Returns a run's metric. Raises NoMetric, with the names of those that it reported."""
    if name not in run.metrics:
        there = ", ".join(sorted(run.metrics)[:10])
        raise NoMetric(
            f"the command reported no metric {name!r}" + (f"; it reported {there}" if there else ""),
            hint=f"It writes lines like `{name}=0.93`, or JSON, into the file that VFS_METRICS names.",
        )
    value = run.metrics[name]
    return math.nan if value is None else value


def require_command_works(run: Run, where: str) -> None:
    """Raises CommandFailed for a run whose status says that the command itself is at fault."""
    if 0 <= run.status <= SKIP_STATUS:
        return
    how = f"was ended by signal {-run.status}" if run.status < 0 else f"ended with status {run.status}"
    raise CommandFailed(
        f"the command {how} on {where}",
        hint="Statuses 1 to 124 are bad, 125 skips a version. What was run is kept: the same command line goes on.",
    )


def judge(runs: Sequence[Run], criterion: Criterion, spread: float | None = None) -> Judged:
    """Judges the runs of one version; `spread`: the standard deviation of the metric, as other versions show it."""
    if any(run.status == SKIP_STATUS for run in runs):
        return Judged("skip", len(runs), 0)
    bad = sum(map(criterion.is_bad, runs))
    failed = sum(run.status != 0 for run in runs)
    if criterion.metric is None or 2 * failed >= len(runs):
        return Judged("bad" if 2 * bad > len(runs) else "good", len(runs), bad, is_sure=bad in (0, len(runs)))
    values = [metric_of(run, criterion.metric) for run in runs if run.status == 0]
    if not all(map(math.isfinite, values)):
        return Judged("bad" if 2 * bad > len(runs) else "good", len(runs), bad, is_sure=bad in (0, len(runs)))
    mean = statistics.fmean(values)
    own = statistics.stdev(values) if len(values) > 1 else None
    known = max((found for found in (own, spread) if found is not None), default=None)
    is_bad = mean > criterion.threshold if criterion.is_loss else mean < criterion.threshold
    is_sure = known is None or abs(mean - criterion.threshold) > _SURE_SPREADS * known / math.sqrt(len(values))
    return Judged("bad" if is_bad else "good", len(runs), bad, mean, own, is_sure)
