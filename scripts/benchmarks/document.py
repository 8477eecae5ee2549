"""The results in docs/benchmarks.md: generated, so that no figure is copied by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import Report

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
BEGIN = "<!-- Written by `scripts/bench --document`; do not edit. -->"
END = "<!-- The end of what is written. -->"


def write(kept: Sequence[Path]) -> None:
    """Replaces the results in the document by those that runs have kept as JSON."""
    results = "\n".join(unpadded(Report.read(path).markdown(in_full=False)) for path in kept)
    DOCUMENT.write_text(replaced(DOCUMENT.read_text(encoding="utf-8"), results), encoding="utf-8")


def replaced(text: str, results: str) -> str:
    """Returns a document with other results between its two marks; raises ValueError where it lacks them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the document lacks the marks that its results stand between")
    return f"{before}{BEGIN}\n\n{results}\n{END}{after}"


def unpadded(markdown: str) -> str:
    """Returns Markdown with no spaces around the cells of its tables, so that a wider figure changes its row alone."""
    rows = (
        "|".join(cell.strip() for cell in line.split("|")) if line.startswith("|") else line
        for line in markdown.splitlines()
    )
    return re.sub(r"-{4,}", "---", "\n".join(rows)) + "\n"
