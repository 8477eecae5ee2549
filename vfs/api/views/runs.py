"""Runs as a table of what differs, one run, two compared, their curves, and what a run or version comes from."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypedDict

import msgspec

from vfs.api.documents import iso_time
from vfs.api.run_documents import RunDifferenceDocument, RunDocument, run_difference_document, run_document
from vfs.api.views.viewed_repository import LINK_HEX, ViewedRepository
from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.model.run_record import Metric, RunRecord, as_number
from vfs.repo.lineage.origins import makers_of, versions_made_by
from vfs.repo.lineage.trees_read_by_runs import Trees, reads_of
from vfs.repo.runs.records import (
    METRICS,
    RunRef,
    find_run,
    list_runs,
    load_record,
    run_file,
)
from vfs.repo.runs.run_comparison import compare_runs
from vfs.repo.runs.run_tables import KnownRun

RUNS_A_PAGE = 50
_COLUMNS_MAX = 24
_POINTS_MAX = 600
"""Points of a curve: its smallest and largest value in so many parts, which is more than a screen shows."""
CURVES_MAX = 12
_NEIGHBOURS_MAX = 50
_STEPS = ("step", "epoch", "iteration")
_LINE = msgspec.json.Decoder()


class RunRow(TypedDict):
    """A run in the table."""

    name: str
    ref: str
    status: str
    start: str
    seconds: float | None
    command: str
    reads: list[str]
    values: dict[str, float | str]


class RunsDocument(TypedDict):
    """A page of the runs, newest first or by a column. `columns`: those whose values differ among these runs."""

    runs: list[RunRow]
    columns: list[str]
    columns_hidden: int
    constant: dict[str, float | str]
    first: int
    runs_in_all: int
    order: str
    query: str


class NeighbourDocument(TypedDict):
    """What a run or version comes from, and what came of it. `more` counts those that are not listed."""

    title: str
    sources: list[NodeDocument]
    results: list[NodeDocument]
    more_sources: int
    more_results: int


class NodeDocument(TypedDict):
    """A run, a version or a file in the neighbourhood; `link` is empty for a file outside."""

    kind: str
    title: str
    link: str
    detail: str


class CurveDocument(TypedDict):
    """A metric of a run: points as (step, value), thinned; `values` is how many there are."""

    run: str
    metric: str
    points: list[tuple[float, float]]
    values: int


class _Listed(NamedTuple):
    """What is kept of a record for the table."""

    run: RunRef
    record: RunRecord


def runs(viewed: ViewedRepository, first: int = 0, order: str = "", query: str = "") -> RunsDocument:
    """Returns a page of the runs. `order`: a metric or parameter, with `-` before it for the largest first.

    Without order and query a page reads its own records alone.
    """
    everything = list_runs(viewed.repository)
    if order or query:
        found = [_Listed(*pair) for pair in viewed.records(everything)]
        words = query.casefold().split()
        found = [each for each in found if all(word in _text(each.record) for word in words)]
        total = len(found)
        if order:
            found = _ordered(found, order)
        found = found[first : first + RUNS_A_PAGE]
    else:
        total = len(everything)
        found = [_Listed(*pair) for pair in viewed.records(everything[first : first + RUNS_A_PAGE])]
    values = [_values(each.record) for each in found]
    names = Counter(name for each in values for name in each)
    differing = [name for name in names if names[name] < len(values) or len({each[name] for each in values}) > 1]
    differing.sort(key=lambda name: (-names[name], name))
    shown = differing[:_COLUMNS_MAX]
    constant = {name: values[0][name] for name in names if name not in set(differing)} if len(values) > 1 else {}
    if len(values) == 1:
        shown = list(values[0])[:_COLUMNS_MAX]
    return {
        "runs": [_row(each, {name: each_values[name] for name in shown if name in each_values})
                 for each, each_values in zip(found, values, strict=True)],
        "columns": shown,
        "columns_hidden": max(len(differing) - len(shown), 0),
        "constant": constant,
        "first": first,
        "runs_in_all": total,
        "order": order,
        "query": query,
    }  # fmt: skip


def _values(record: RunRecord) -> dict[str, Metric]:
    return {**{f"param {name}": value for name, value in record.params.items()}, **record.metrics}


def _text(record: RunRecord) -> str:
    return " ".join([record.name, record.status, record.user, *record.command]).casefold()


def _ordered(found: list[_Listed], order: str) -> list[_Listed]:
    name, is_down = order.removeprefix("-"), order.startswith("-")

    def key(each: _Listed) -> tuple[bool, float]:
        number = as_number(_values(each.record).get(name, "nan"))
        return math.isnan(number), (-number if is_down else number) if not math.isnan(number) else 0.0

    return sorted(found, key=key)


def _row(each: _Listed, values: dict[str, float | str]) -> RunRow:
    record = each.record
    return {
        "name": record.name,
        "ref": f"r{each.run.ref}",
        "status": record.status,
        "start": iso_time(record.start_ns),
        "seconds": (record.end_ns - record.start_ns) / 1e9 if record.end_ns else None,
        "command": " ".join(record.command)[:300],
        "reads": [_title(source.number, source.commit) for source in record.sources if source.opened or source.listed],
        "values": values,
    }


def _title(number: int, commit: str) -> str:
    return f"v{number}" if number else commit[:8] or "working layer"


class OneRunDocument(TypedDict):
    """One run: its record, its neighbourhood, and the curves of its metrics."""

    run: RunDocument
    ref: str
    neighbours: NeighbourDocument
    curves: list[CurveDocument]
    stdout: str


def one_run(viewed: ViewedRepository, name: str) -> OneRunDocument:
    """Returns a run. Raises NotFound, Conflict where several have the name, Corrupt."""
    run = find_run(viewed.repository, name)
    record = load_record(viewed.repository, run)
    output = run_file(viewed.repository, run, b"stdout") or b""
    return {
        "run": run_document(record),
        "ref": f"r{run.ref}",
        "neighbours": _of_run(viewed, run, record),
        "curves": curves(viewed, [run]),
        "stdout": output[-20_000:].decode("utf-8", "replace"),
    }


class TwoRunsDocument(TypedDict):
    """Two runs: what differs, and the curves of both."""

    difference: RunDifferenceDocument
    curves: list[CurveDocument]
    data_links: list[str]


def two_runs(viewed: ViewedRepository, old: str, new: str) -> TwoRunsDocument:
    """Returns what differs between two runs. Raises NotFound, Conflict, Corrupt."""
    sides = [find_run(viewed.repository, name) for name in (old, new)]
    difference = compare_runs(viewed.repository, *sides)
    commits = [
        next((source.commit for source in side if source.commit), "")
        for side in (difference.data.old, difference.data.new)
    ]
    return {
        "difference": run_difference_document(difference),
        "curves": curves(viewed, sides),
        "data_links": [commit[:LINK_HEX] for commit in commits] if all(commits) else [],
    }


def curves(viewed: ViewedRepository, found: Sequence[RunRef]) -> list[CurveDocument]:
    """Returns the metrics that runs wrote more than once, thinned, those of one name side by side."""
    made: list[CurveDocument] = []
    for run in found:
        series = viewed.kept_curves(run.commit_id)
        if series is None:
            whole = _series(run_file(viewed.repository, run, METRICS) or b"")
            series = {name: (len(points), _thinned(points)) for name, points in whole.items() if len(points) > 1}
            viewed.keep_curves(run.commit_id, series)
        for name, (count, points) in series.items():
            made.append({"run": run.name, "metric": name, "points": points, "values": count})
    counts = Counter(curve["metric"] for curve in made)
    shown = {name for name, _ in counts.most_common(CURVES_MAX)}
    return sorted((curve for curve in made if curve["metric"] in shown), key=lambda curve: curve["metric"])


def _series(data: bytes) -> dict[str, list[tuple[float, float]]]:
    """Returns the points of each metric: by the step that its line names, else by the number of the line."""
    found: dict[str, list[tuple[float, float]]] = {}
    for number, line in enumerate(data.splitlines()):
        try:
            values = _LINE.decode(line)
        except msgspec.DecodeError:
            # It may have values that are no numbers, which Python writes as NaN.
            try:
                values = json.loads(line)
            except ValueError:
                continue
        if not isinstance(values, Mapping):
            continue
        step = next((values[name] for name in _STEPS if isinstance(values.get(name), (int, float))), number)
        for name, value in values.items():
            if name not in _STEPS and isinstance(value, (int, float)) and math.isfinite(value):
                found.setdefault(name, []).append((float(step), float(value)))
    return found


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns at most so many points: of each part of the curve its smallest and largest value, in their order."""
    if len(points) <= _POINTS_MAX:
        return points
    width = math.ceil(len(points) / (_POINTS_MAX // 2))
    kept = []
    for start in range(0, len(points), width):
        part = points[start : start + width]
        low, high = min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])
        kept += [low] if low == high else sorted((low, high))
    return kept


# Lineage: what a run or version comes from, and what came of it.


def lineage(viewed: ViewedRepository, version: Version) -> NeighbourDocument:
    """Returns which runs wrote a version and which read it."""
    with viewed.run_tables() as tables:
        makers = list(makers_of(version, {run.record.id: run for run in tables.runs.values()}))
        reads = {read.run.commit_id: read for read in reads_of(Trees(viewed.repository, tables), version)}
    sources = [_node(run, "wrote what it commits") for run in makers]
    shown = list(reads.values())[:_NEIGHBOURS_MAX]
    results = [_node(read.run, f"opened {read.source.opened:,} files") for read in shown]
    sources += [
        {"kind": "version", "title": viewed.repository.describe(CommitId(parent)), "link": parent.hex()[:LINK_HEX],
         "detail": "the version before it" if at == 0 else "merged into it"}
        for at, parent in enumerate(version.commit.parents)
    ]  # fmt: skip
    title = viewed.repository.describe(version.id)
    return {
        "title": title,
        "sources": sources[:_NEIGHBOURS_MAX],
        "results": results,
        "more_sources": max(len(sources) - _NEIGHBOURS_MAX, 0),
        "more_results": len(reads) - len(results),
    }


def _node(run: KnownRun, detail: str) -> NodeDocument:
    words = " ".join(run.record.command)[:80]
    return {"kind": "run", "title": run.record.name, "link": f"r{run.ref.ref}", "detail": f"{detail} · {words}"}


def _of_run(viewed: ViewedRepository, run: RunRef, record: RunRecord) -> NeighbourDocument:
    sources: list[NodeDocument] = [
        {
            "kind": "version",
            "title": _title(source.number, source.commit),
            "link": source.commit[:LINK_HEX],
            "detail": f"opened {source.opened:,} of {source.files:,} files"
            + (f" of {source.branch}" if source.branch else ""),
        }
        for source in record.sources
        if source.opened or source.listed
    ]
    results: list[NodeDocument] = [
        {
            "kind": "file",
            "title": output.path,
            "link": "",
            "detail": "removed" if output.removed else f"{output.size:,} bytes",
        }
        for output in record.outputs
    ]
    made: list[NodeDocument] = [
        {
            "kind": "version",
            "title": viewed.repository.describe(version.id),
            "link": version.id.hex()[:LINK_HEX],
            "detail": "commits what it wrote",
        }
        for version in versions_made_by(viewed.repository, run)
    ]
    results = [*reversed(made), *results]
    return {
        "title": record.name,
        "sources": sources[:_NEIGHBOURS_MAX],
        "results": results[:_NEIGHBOURS_MAX],
        "more_sources": max(len(sources) - _NEIGHBOURS_MAX, 0),
        "more_results": max(len(results) - _NEIGHBOURS_MAX, 0),
    }
