"""How a run is shown: the lines after `vfs run`, and those of `vfs runs show`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from vfs.cli.display.version_format import one_line
from vfs.cli.terminal.output import style
from vfs.formats.quantities import human_count, human_size
from vfs.model.ids import SHORT_HEX
from vfs.model.run_record import Metric, Output, RunRecord, Source

_OUTPUTS_SHOWN = 10
_NS = 1_000_000_000
_HOW = {
    "pinned": "exact: the view was this version",
    "working": "exact",
    "snapshot": "exact: uncommitted changes are kept with the run",
    "seen": "by the names that the program used",
    "first-seen": "not exact: equal files in several versions",
}


def duration_text(ns: int) -> str:
    """Returns a duration as `3 min 12 s`."""
    seconds = max(ns, 0) / _NS
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def status_text(record: RunRecord) -> str:
    """Returns `ok`, `failed (exit status 1)`, `running`."""
    if record.status == "failed":
        return f"failed (exit status {record.exit_status})"
    return record.status


def metric_text(value: Metric) -> str:
    """Returns a metric with six significant digits at most."""
    return f"{value:.6g}" if isinstance(value, float) else one_line(str(value))


def metrics_text(record: RunRecord, most: int = 6) -> str:
    """Returns `accuracy 0.931   loss 0.214`."""
    items = list(record.metrics.items())
    more = f"   and {len(items) - most} more" if len(items) > most else ""
    return "   ".join(f"{one_line(name)} {metric_text(value)}" for name, value in items[:most]) + more


def command_text(record: RunRecord) -> str:
    """Returns the command as it could be typed."""
    return one_line(shlex.join(record.command))


def source_name(source: Source) -> str:
    """Returns `main@v12`, or the digits of a commit that is no version of a branch."""
    if source.branch and source.number:
        return one_line(f"{source.branch}@v{source.number}")
    return source.commit[:SHORT_HEX] if source.commit else f"{one_line(source.branch)} before its first version"


def source_lines(record: RunRecord) -> Iterator[tuple[str, str]]:
    """Yields what was read of each source, and how the source is known."""
    for source in record.sources:
        if not (source.opened or source.listed):
            continue
        files = f"{source.opened:,} of {human_count(source.files, 'file')}"
        listed = f", {human_count(source.listed, 'listing')}" if source.listed else ""
        how = _HOW[source.known]
        if source.shared:
            how += f"; {human_count(source.shared, 'file')} also in another version here"
        yield f"{source_name(source)}: {files}{listed}", how


def output_lines(record: RunRecord, most: int = _OUTPUTS_SHOWN) -> Iterator[tuple[str, str]]:
    """Yields what was written, and where."""
    for output in record.outputs[:most]:
        yield _output(output)
    if len(record.outputs) > most:
        yield f"and {len(record.outputs) - most} more", ""


def _output(output: Output) -> tuple[str, str]:
    where = "in the mount" if output.place == "mount" else f"outside, {output.content[:SHORT_HEX]}"
    if output.removed:
        return one_line(output.path), "removed"
    return f"{one_line(output.path)} ({human_size(output.size)})", where


def code_text(record: RunRecord) -> str:
    """Returns `4be1f20 on main, 2 files changed (kept as a patch)`, empty without code."""
    code = record.code
    if not code.commit:
        return ""
    branch = f" on {one_line(code.branch)}" if code.branch else ""
    kept = " (kept as a patch)" if code.has_patch else ""
    changed = f", {human_count(len(code.changed), 'file')} changed{kept}" if code.changed else ""
    return f"{code.commit[:7]}{branch}{changed}"


def summary_lines(record: RunRecord, *, coloured: bool = True) -> Iterator[str]:
    """Yields the lines that tell of a run that has ended."""
    colour = {"ok": "green", "running": "yellow"}.get(record.status, "red")
    words = status_text(record)
    took = f" in {duration_text(record.end_ns - record.start_ns)}" if record.end_ns else ""
    yield f"{record.name} {style(words, colour) if coloured else words}{took}"
    rows: list[tuple[str, str, str]] = []
    rows += [("read", what, how) for what, how in source_lines(record)]
    rows += [("wrote", what, where) for what, where in output_lines(record)]
    if (code := code_text(record)) != "":
        rows.append(("code", code, ""))
    if record.metrics:
        rows.append(("metrics", metrics_text(record), ""))
    rows += [("note", one_line(note), "") for note in record.notes]
    width = max((len(what) for _, what, beside in rows if beside), default=0)
    last = ""
    for label, what, beside in rows:
        shown = label if label != last else ""
        last = label
        yield f"  {shown:<8} {what:<{width}}   {beside}".rstrip() if beside else f"  {shown:<8} {what}"
