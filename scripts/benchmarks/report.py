"""How results are kept and written down: JSON for programs, Markdown tables for people."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.tables import duration, shown, table
from benchmarks.targets import READ_ONLY, Outcome, outcomes

OWN = ("vfs", "vfs, working layer", READ_ONLY)
YARDSTICKS = ("ext4", "empty", "pass-through")
"""Subjects that this filesystem is shown as a multiple of; of other people's programs it is the best one."""
CPU = "-cpu"
"""Ends the names of workloads whose figure is the daemon's processor time."""
READING = "reading"
GROWTH = "growth"
PAGE = "page"
PROVENANCE = "provenance"
SECTIONS = {
    READING: "Saving and reading",
    "writing": "Writing",
    "loading": "Programs that read data sets",
    PAGE: "The page",
    PROVENANCE: "Runs and lineage",
    "remotes": "Remotes: one object server, at 0 and 30 ms",
    GROWTH: "Growth: files, versions, branches",
    f"{GROWTH}-bytes": "Growth: one file",
    f"{GROWTH}-directory": "Growth: one directory",
    f"{GROWTH}-sparse": "Growth: one sparse file",
}
"""The parts that figures belong to, and their headings. Those of growth have sizes for subjects."""


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    name: str
    title: str
    unit: str
    higher_is_better: bool = False


@dataclass(frozen=True)
class Figure:
    """All runs of one workload on one subject."""

    workload: str
    title: str
    subject: str
    unit: str
    higher_is_better: bool
    values: list[float]
    part: str = READING
    """Figures of one part make a table of their own, so that its columns are the subjects that it has."""

    @property
    def median(self) -> float:
        """The figure that tables show."""
        return statistics.median(self.values)


@dataclass
class Report:
    """Everything that one run of the benchmark found."""

    machine: str
    commit: str
    date: str
    scale: float
    data: str
    repetitions: int = 1
    load: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the run lacks, and why."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each part of the run took."""

    def add(self, figure: Figure) -> None:
        """Keeps a figure."""
        self.figures.append(figure)

    @classmethod
    def read(cls, path: Path) -> Report:
        """Returns what `write` has kept."""
        document = json.loads(path.read_text(encoding="utf-8"))
        document.pop("targets")
        for entry in document["figures"]:
            entry.pop("median")
        document["figures"] = [Figure(**entry) for entry in document["figures"]]
        return cls(**document)

    def write(self, directory: Path) -> None:
        """Writes results.json and results.md."""
        directory.mkdir(parents=True, exist_ok=True)
        document = asdict(self)
        for entry, figure in zip(document["figures"], self.figures, strict=True):
            entry["median"] = figure.median
        document["targets"] = [asdict(outcome) for outcome in outcomes(self.figures, self.scale)]
        (directory / "results.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        (directory / "results.md").write_text(self.markdown(), encoding="utf-8")

    def markdown(self, in_full: bool = True) -> str:
        """Returns a table for each part and one of the targets, below the lines that say what was measured where.

        Not in full: without processor times, and of the targets those that were missed.
        """
        taken = ", ".join(f"{part} {_minutes(seconds)}" for part, seconds in self.seconds.items())
        lines = [
            f"{self.date}, commit {self.commit}, scale {self.scale:g}: {self.data}.",
            f"{self.machine}; {', '.join(self.load)}.",
            f"Medians of {self.repetitions}." + (f" It took: {taken}." if taken else ""),
        ]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        parts = dict.fromkeys(figure.part for figure in self.figures)
        shown_figures = [each for each in self.figures if in_full or not each.workload.endswith(CPU)]
        sections = [f"### {SECTIONS[part]}\n\n{_table_of(part, shown_figures)}" for part in parts]
        judged = outcomes(self.figures, self.scale)
        if judged:
            sections.append(_judgements(judged, self.scale, in_full))
        return "\n".join(lines) + "\n\n" + "\n".join(sections)


def _table_of(part: str, figures: Iterable[Figure]) -> str:
    chosen = [figure for figure in figures if figure.part == part]
    return growth_table(chosen) if part.startswith(GROWTH) else comparison(chosen)


def comparison(figures: Iterable[Figure]) -> str:
    """Returns a row for each workload, a column for each subject, then this filesystem as a multiple."""
    rows, subjects = _by_workload(figures)
    subjects.sort(key=lambda name: (name in OWN, name == "empty", name == "pass-through"))
    yardsticks = [name for name in YARDSTICKS if name in subjects]
    others = [name for name in subjects if name not in YARDSTICKS and name not in OWN]
    read_only = [name for name in subjects if name == READ_ONLY and "ext4" in subjects]
    cells = []
    for found in rows.values():
        first = next(iter(found.values()))
        row = [f"{first.title}, {first.unit}" if first.unit else first.title]
        row += [shown(found[subject].median) if subject in found else "" for subject in subjects]
        row += [multiple(found.get("vfs"), found.get(other)) for other in yardsticks]
        row += [multiple(found.get(READ_ONLY), found.get("ext4")) for _ in read_only]
        if others:
            rival = best([found[name] for name in others if name in found])
            quotient = multiple(found.get("vfs"), rival)
            row.append(f"{quotient} ({rival.subject})" if rival is not None and quotient else "")
        cells.append(row)
    heads = [
        "workload",
        *subjects,
        *(f"vfs / {other}" for other in yardsticks),
        *(f"{name} / ext4" for name in read_only),
    ]
    return table([*heads, "vfs / best other"] if others else heads, cells)


def growth_table(figures: Iterable[Figure]) -> str:
    """Returns a row for each question, the figure of the smallest size, and for each larger one the multiple of it."""
    rows, sizes = _by_workload(figures)
    cells = []
    for found in rows.values():
        first = found[next(size for size in sizes if size in found)]
        row = [first.title if first.unit in ("s", "") else f"{first.title}, {first.unit}"]
        for size in sizes:
            figure = found.get(size)
            if figure is None:
                row.append("")
            elif figure is first or not first.median:
                row.append(duration(figure.median) if figure.unit == "s" else shown(figure.median))
            else:
                row.append(f"x{shown(figure.median / first.median)}")
        cells.append(row)
    return table(["", *sizes], cells)


def _by_workload(figures: Iterable[Figure]) -> tuple[dict[str, dict[str, Figure]], list[str]]:
    """Returns the figures by workload and subject, and all subjects, both in the order in which they came."""
    rows: dict[str, dict[str, Figure]] = {}
    subjects: dict[str, None] = {}
    for figure in figures:
        rows.setdefault(figure.workload, {})[figure.subject] = figure
        subjects[figure.subject] = None
    return rows, list(subjects)


def best(figures: Sequence[Figure]) -> Figure | None:
    """Returns the fastest (or smallest) one of the same workload."""
    if not figures:
        return None
    choose = max if figures[0].higher_is_better else min
    return choose(figures, key=lambda figure: figure.median)


def _judgements(judged: Sequence[Outcome], scale: float, in_full: bool) -> str:
    met = sum(each.met for each in judged)
    rows = [
        [each.title, each.target, each.reached, "met" if each.met else "missed"]
        for each in judged
        if in_full or not each.met
    ]
    heading = f"### Targets, at scale {scale:g}: {met} of {len(judged)} met\n"
    return f"{heading}\n{table(['', 'target', 'reached', ''], rows)}" if rows else heading


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def multiple(figure: Figure | None, other: Figure | None) -> str:
    """Returns how many times as fast (or small) `figure` is."""
    if figure is None or other is None or not figure.median or not other.median:
        return ""
    quotient = figure.median / other.median
    return shown(quotient if figure.higher_is_better else 1 / quotient)
