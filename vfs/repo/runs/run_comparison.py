"""What differs between two runs: data, code, environment, parameters, metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

from vfs.history.diff import diff_trees
from vfs.model.ids import CommitId
from vfs.model.objects import Commit
from vfs.model.run_record import Metric, RunRecord, Source, as_number
from vfs.repo.repository import Repository
from vfs.repo.runs.observed import opened_paths, source_root
from vfs.repo.runs.records import PACKAGES, PATCH, RunRef, load_manifest, load_record, run_file


class Changed(msgspec.Struct, frozen=True):
    """A value that differs; None where a side has none."""

    name: str
    old: str | None
    new: str | None


class MetricChange(msgspec.Struct, frozen=True):
    """A metric of either run; `change` is new minus old, None where a side has no number."""

    name: str
    old: Metric | None
    new: Metric | None
    change: float | None


class DataChange(msgspec.Struct, frozen=True):
    """The data of both runs. `is_same` None: not known, as one of them is gone. `changed`: paths that differ,
    `opened`: how many of these the newer run opened."""

    old: tuple[Source, ...]
    new: tuple[Source, ...]
    is_same: bool | None
    changed: int = 0
    opened: int = 0
    paths: tuple[bytes, ...] = ()


class RunDifference(msgspec.Struct, frozen=True):
    """What differs between two runs."""

    old: RunRecord
    new: RunRecord
    data: DataChange
    is_same_code: bool | None
    environment: tuple[Changed, ...]
    params: tuple[Changed, ...]
    metrics: tuple[MetricChange, ...]


_PATHS_MAX = 1000


def before_of(repo: Repository, run: RunRef, record: RunRecord) -> Commit | None:
    """Returns the snapshot that a run's record has of the working layer, None for none."""
    if not any(source.known == "snapshot" for source in record.sources):
        return None
    parents = repo.store.get_commit(run.commit_id).parents
    return repo.store.get_commit(CommitId(parents[0])) if parents else None


def compare_runs(repo: Repository, old: RunRef, new: RunRef) -> RunDifference:
    """Returns what differs between two runs. Reads the manifest of the newer one and the trees that differ."""
    first, second = load_record(repo, old), load_record(repo, new)
    return RunDifference(
        first,
        second,
        _data(repo, (old, first), (new, second)),
        _is_same_code(repo, (old, first), (new, second)),
        tuple(_environment(repo, (old, first), (new, second))),
        tuple(_changed(first.params, second.params)),
        tuple(_metrics(first.metrics, second.metrics)),
    )


def _data(repo: Repository, old: tuple[RunRef, RunRecord], new: tuple[RunRef, RunRecord]) -> DataChange:
    sides = [[source for source in record.sources if source.opened or source.listed] for _, record in (old, new)]
    first, second = sides
    befores = [before_of(repo, *side) for side in (old, new)]
    roots = [
        [source_root(repo, source, before) for source in side] for side, before in zip(sides, befores, strict=True)
    ]
    changed: set[bytes] = set()
    is_known = len(first) == len(second)
    if is_known:
        for one, other in zip(*roots, strict=True):
            if one is None or other is None:
                is_known = False
            elif (one.content, one.tiny) != (other.content, other.tiny):
                changes = diff_trees(repo.store, one, other)
                changed.update(change.path for change in changes if not change.is_directory)
    opened: set[bytes] = set()
    if changed:
        reads = load_manifest(repo, new[0]).reads
        for source, read in zip(new[1].sources, reads, strict=False):
            opened.update(path for path in opened_paths(repo, source, read, befores[1]) if path in changed)
    return DataChange(
        tuple(first),
        tuple(second),
        not changed if is_known else None,
        len(changed),
        len(opened),
        tuple(sorted(opened or changed)[:_PATHS_MAX]),
    )


def _is_same_code(repo: Repository, old: tuple[RunRef, RunRecord], new: tuple[RunRef, RunRecord]) -> bool | None:
    one, other = old[1].code, new[1].code
    if not one.commit or not other.commit:
        return None
    if one.commit != other.commit or bool(one.changed) != bool(other.changed):
        return False
    if not one.changed:
        return True
    patches = [run_file(repo, run, PATCH) for run, _ in (old, new)]
    return None if None in patches else patches[0] == patches[1]


def _environment(repo: Repository, old: tuple[RunRef, RunRecord], new: tuple[RunRef, RunRecord]) -> Iterable[Changed]:
    one, other = old[1].environment, new[1].environment
    for name in ("python", "system"):
        values = getattr(one, name), getattr(other, name)
        if values[0] != values[1]:
            yield Changed(name, *values)
    if one.gpus != other.gpus:
        yield Changed("gpus", ", ".join(one.gpus), ", ".join(other.gpus))
    if old[1].host != new[1].host:
        yield Changed("host", old[1].host, new[1].host)
    yield from _changed(one.variables, other.variables)
    yield from _changed(*(_packages(run_file(repo, run, PACKAGES) or b"") for run, _ in (old, new)))


def _packages(lines: bytes) -> dict[str, str]:
    pairs = (line.partition(" ") for line in lines.decode("utf-8", "replace").splitlines())
    return {name: version for name, _, version in pairs}


def _changed(old: Mapping[str, str], new: Mapping[str, str]) -> Iterable[Changed]:
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield Changed(name, old.get(name), new.get(name))


def _metrics(old: Mapping[str, Metric], new: Mapping[str, Metric]) -> Iterable[MetricChange]:
    for name in dict.fromkeys([*old, *new]):
        change = as_number(new[name]) - as_number(old[name]) if name in old and name in new else math.nan
        yield MetricChange(name, old.get(name), new.get(name), change if math.isfinite(change) else None)
