"""How results are kept and written down: JSON for programs, Markdown tables for people."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

YARDSTICKS = frozenset(("ext4", "empty", "pass-through"))
"""Subjects that this filesystem is shown as a multiple of; other people's programs are shown beside."""


@dataclass(frozen=True)
class Figure:
    """All runs of one workload on one subject."""

    workload: str
    title: str
    subject: str
    unit: str
    higher_is_better: bool
    values: list[float]
    part: str = ""
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
    load: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def add(self, figure: Figure) -> None:
        """Keeps a figure."""
        self.figures.append(figure)

    def write(self, directory: Path) -> None:
        """Writes results.json and results.md."""
        directory.mkdir(parents=True, exist_ok=True)
        document = asdict(self)
        for entry, figure in zip(document["figures"], self.figures, strict=True):
            entry["median"] = figure.median
        (directory / "results.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        (directory / "results.md").write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        """Returns a table for each part, below the lines that say what was measured where."""
        lines = [
            f"{self.date}, commit {self.commit}, scale {self.scale:g}: {self.data}.",
            f"{self.machine}; {', '.join(self.load)}.",
            "Medians. The multiples are of speed: above 1 this filesystem is the faster one.",
        ]
        parts = dict.fromkeys(figure.part for figure in self.figures)
        return "\n".join(lines) + "\n\n" + "\n".join(self._table_of(part) for part in parts)

    def _table_of(self, part: str) -> str:
        """Returns a row for each workload, a column for each subject, then this filesystem as a multiple."""
        figures = [figure for figure in self.figures if figure.part == part]
        subjects = list(dict.fromkeys(figure.subject for figure in figures))
        subjects.sort(key=lambda name: (name == "vfs", name == "empty"))
        yardsticks = [name for name in subjects if name in YARDSTICKS]
        rows = []
        for name in dict.fromkeys(figure.workload for figure in figures):
            found = {figure.subject: figure for figure in figures if figure.workload == name}
            first = next(iter(found.values()))
            row = [f"{first.title}, {first.unit}"]
            row += [shown(found[subject].median) if subject in found else "" for subject in subjects]
            row += [multiple(found.get("vfs"), found.get(other)) for other in yardsticks]
            rows.append(row)
        heads = ["workload", *subjects, *(f"vfs / {other}" for other in yardsticks)]
        return table(heads, rows)


def shown(value: float) -> str:
    """Returns a figure with about three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def multiple(figure: Figure | None, other: Figure | None) -> str:
    """Returns how many times as fast (or small) `figure` is."""
    if figure is None or other is None or not figure.median or not other.median:
        return ""
    quotient = figure.median / other.median
    return shown(quotient if figure.higher_is_better else 1 / quotient)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table whose columns line up; the first column is text, the others are figures."""
    columns = [list(column) for column in zip(heads, *rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return "| " + " | ".join(padded) + " |"

    ruler = "|" + "-" * (widths[0] + 2) + "|" + "".join("-" * (width + 1) + ":|" for width in widths[1:])
    return "\n".join([line(heads), ruler, *map(line, rows)]) + "\n"
