"""`vfs runs`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice

import click

from vfs.api.run_documents import run_difference_document, run_document
from vfs.api.run_exports.formats import FORMATS, exported
from vfs.cli.arguments.author import author
from vfs.cli.arguments.version_or_path import version_of
from vfs.cli.command import CountType, Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.display.run_output import (
    code_text,
    command_text,
    duration_text,
    metric_text,
    metrics_text,
    source_name,
    summary_lines,
)
from vfs.cli.display.version_format import one_line
from vfs.cli.opening.open_repository import OpenRepository, open_repository
from vfs.cli.terminal.columns import echo_table
from vfs.cli.terminal.output import echo, echo_err, echo_json, human_time, style
from vfs.cli.terminal.progress import StageBar
from vfs.errors import Corrupt
from vfs.formats.quantities import human_count
from vfs.model.run_record import RunRecord
from vfs.repo.runs.records import RunRef, find_run, load_record
from vfs.repo.runs.removal import remove_runs
from vfs.repo.runs.run_comparison import Changed, RunDifference, compare_runs
from vfs.repo.runs.run_tables import listed_records
from vfs.repo.runs.sealing import seal_abandoned

_PACKAGES_SHOWN = 12


@vfs_command(
    "runs",
    "vfs runs                        all runs, newest first",
    "vfs runs --metric accuracy      with this metric, the best first",
    "vfs runs --read v12             those that read version 12",
    "vfs runs show r17               one run",
    "vfs runs diff r17 r18           what differs: data, code, environment, parameters, metrics",
    "vfs runs export r17 --format ro-crate    for other programs; also `vfs run export r17 --format ...`",
    "vfs runs remove r3 r4           takes their records away; `vfs undo` restores them",
    "vfs runs --json | jq .metrics   for programs: one JSON object a line",
    is_paged=True,
)
@click.argument("words", metavar="[show RUN | diff RUN RUN | export RUN | remove RUN...]", nargs=-1)
@click.option("-n", "--max-count", type=CountType(min=1), help="Stop after this many runs.")
@click.option("--metric", metavar="NAME", help="Only runs with this metric, the largest value first.")
@click.option("--read", "read", metavar="VERSION", help="Only runs that read this version.")
@click.option(
    "--status", type=click.Choice(["ok", "failed", "interrupted", "running"]), help="Only runs with this status."
)
@click.option("--grep", metavar="TEXT", help="Only runs whose command has this text, in any case.")
@click.option("--format", "exported_as", type=click.Choice(FORMATS), help="The format of an exported run.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation,
    words: tuple[str, ...],
    max_count: int | None,
    metric: str | None,
    read: str | None,
    status: str | None,
    grep: str | None,
    exported_as: str | None,
    as_json: bool,
) -> None:
    """List the runs, newest first; show one, or compare two.

    A run is called r17. Where clones have recorded runs of their own, a number may stand for several; r17-3f9a says
    which. With --json one object a run, whose `record` is the file `run.json`. An exported run is one line of JSON, as
    events of OpenLineage one line for each. A statement of in-toto is not signed. `vfs undo` restores a removed
    record; once it no longer can, `vfs gc` removes what that record alone kept.
    """
    action = words[0] if words else "list"
    counts = {"list": 0, "show": 2, "diff": 3, "export": 2, "remove": max(2, len(words))}
    if len(words) != counts.get(action, -1):
        raise click.UsageError(
            "Write `vfs runs`, or it with `show RUN`, `diff RUN RUN`, `export RUN` or `remove RUN...`."
        )
    if (action == "export") != (exported_as is not None):
        raise click.UsageError(f"`export RUN` goes with --format: {', '.join(FORMATS)}.")
    if action != "list" and (max_count or metric or read or status or grep):
        raise click.UsageError(f"{action} takes runs alone: filters are for the list.")
    with open_repository(invocation) as opened:
        seal_abandoned(opened.repository, author(), timeout_s=0.0)
        if action == "export" and exported_as is not None:
            for line in exported(load_record(opened.repository, find_run(opened.repository, words[1])), exported_as):
                echo(line)
        elif action == "show":
            _show(opened, words[1], as_json=as_json)
        elif action == "diff":
            old, new = (find_run(opened.repository, word) for word in words[1:])
            difference = compare_runs(opened.repository, old, new)
            if as_json:
                echo_json(run_difference_document(difference))
            else:
                _echo_difference(difference)
        elif action == "remove":
            _remove(opened, words[1:], as_json=as_json)
        else:
            commit = version_of(opened, read).id.hex() if read is not None else None
            _list(opened, max_count, metric, commit, status, grep, as_json=as_json)


def _remove(opened: OpenRepository, words: tuple[str, ...], *, as_json: bool) -> None:
    runs = list(dict.fromkeys(find_run(opened.repository, word) for word in words))
    remove_runs(opened.repository, runs, author())
    if as_json:
        echo_json({"removed": [{"name": run.name, "id": run.id} for run in runs]})
    else:
        echo(f"Removed {', '.join(run.name for run in runs)}. `vfs undo` restores what was removed last.")


def _list(
    opened: OpenRepository,
    max_count: int | None,
    metric: str | None,
    commit: str | None,
    status: str | None,
    grep: str | None,
    *,
    as_json: bool,
) -> None:
    with StageBar() as bar:
        records = listed_records(opened.repository, lambda done, total: bar("reading records of runs", done, total))
        # The tables are updated before the first run is known.
        first = next(records, None)
    found: Iterator[tuple[RunRef, RunRecord]] = chain([first] if first is not None else [], records)
    if status is not None:
        found = (pair for pair in found if pair[1].status == status)
    if grep is not None:
        found = (pair for pair in found if grep.casefold() in command_text(pair[1]).casefold())
    if commit is not None:
        found = (pair for pair in found if any(source.commit == commit for source in pair[1].sources))
    if metric is not None:
        having = [pair for pair in found if metric in pair[1].metrics]
        found = iter(sorted(having, key=lambda pair: _order(pair[1], metric), reverse=True))
    wanted = islice(found, max_count)
    if as_json:
        for run, _ in wanted:
            with suppress(Corrupt):
                echo_json(run_document(load_record(opened.repository, run)))
        return
    rows = [_row(record, metric) for _, record in wanted]
    if not rows:
        echo_err("No runs. `vfs run -- COMMAND` records one.")
    echo_table(rows, styles=("yellow", "", "dim", "", "cyan", ""), droppable=(2, 4))


def _order(record: RunRecord, metric: str) -> tuple[bool, float]:
    value = record.metrics[metric]
    return isinstance(value, (int, float)), float(value) if isinstance(value, (int, float)) else 0.0


def _row(record: RunRecord, metric: str | None) -> list[str]:
    read = ", ".join(source_name(source) for source in record.sources if source.opened or source.listed)
    values = f"{metric} {metric_text(record.metrics[metric])}" if metric is not None else metrics_text(record, 2)
    took = duration_text(record.end_ns - record.start_ns) if record.end_ns else ""
    return [
        record.name,
        record.status if record.exit_status in (0, None) else f"failed {record.exit_status}",
        human_time(record.start_ns),
        took,
        read,
        "  ".join(filter(None, [values, command_text(record)])),
    ]


def _show(opened: OpenRepository, name: str, *, as_json: bool) -> None:
    record = load_record(opened.repository, find_run(opened.repository, name))
    if as_json:
        echo_json(run_document(record))
        return
    first, *rest = summary_lines(record)
    echo(first)
    rows = [
        ("command", command_text(record)),
        ("id", record.id),
        ("in", one_line(record.cwd)),
        ("by", one_line(record.user)),
        ("host", one_line(record.host)),
        ("started", human_time(record.start_ns)),
        ("python", f"{one_line(record.environment.python)}, {human_count(record.environment.packages, 'package')}"),
        ("gpus", one_line(", ".join(record.environment.gpus))),
        ("around", one_line(record.parent)),
        ("steps", one_line(" ".join(record.steps))),
    ]
    for label, text in rows:
        if text:
            echo(f"  {label:<8} {text}")
    for line in rest:
        echo(line)
    for key, value in record.params.items():
        echo(f"  {'param':<8} {one_line(key)}  {one_line(value)}")
    if record.others_changed:
        others = human_count(record.others_changed, "path")
        echo(f"  {'others':<8} changed {others} of the working layer meanwhile")


def _echo_difference(difference: RunDifference) -> None:
    old, new, data = difference.old, difference.new, difference.data
    names = [", ".join(map(source_name, side)) or "nothing" for side in (data.old, data.new)]
    if data.is_same:
        _line("data", f"same ({names[1]})")
    elif data.is_same is None:
        _line("data", f"{names[0]} → {names[1]}: what differs is not known")
    else:
        changed = human_count(data.changed, "path")
        _line("data", f"{names[0]} → {names[1]}: {changed} changed, of which {new.name} opened {data.opened:,}")
    codes = [code_text(record) or "not known" for record in (old, new)]
    same = {True: f"same ({codes[1]})", False: f"{codes[0]} → {codes[1]}", None: f"{codes[0]} → {codes[1]} (not known)"}
    _line("code", same[difference.is_same_code])
    _changes("environment", difference.environment)
    _changes("parameters", difference.params)
    for metric in difference.metrics:
        values = [metric_text(value) if value is not None else "none" for value in (metric.old, metric.new)]
        change = f"  ({metric.change:+.6g})" if metric.change is not None else ""
        _line(one_line(metric.name), f"{values[0]} → {values[1]}{change}")


def _changes(label: str, changes: tuple[Changed, ...]) -> None:
    if not changes:
        _line(label, "same")
    for change in changes[:_PACKAGES_SHOWN]:
        sides = [one_line(value) if value is not None else "none" for value in (change.old, change.new)]
        _line(label, f"{one_line(change.name)} {sides[0]} → {sides[1]}")
        label = ""
    if len(changes) > _PACKAGES_SHOWN:
        _line("", f"and {len(changes) - _PACKAGES_SHOWN} more (`--json` has all)")


def _line(label: str, text: str) -> None:
    echo(f"{style(f'{label:<12}', 'bold')} {text}")
