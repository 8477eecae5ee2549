"""`vfs crosscheck`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from vfs.cli.arguments.run_versions import version_or_read
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.opening.open_repository import OpenRepository, open_repository
from vfs.cli.runs.code_trees import code_trees
from vfs.cli.runs.trial_runs import Trials, duration_text, mount_of
from vfs.cli.terminal.columns import echo_table
from vfs.cli.terminal.output import echo, echo_err, echo_json
from vfs.errors import InvalidInput, NotFound
from vfs.formats.quantities import human_count
from vfs.model.names import show_path
from vfs.model.objects import Version
from vfs.repo.metric_effects import Effects, effects
from vfs.repo.resumable_runs import KeptRuns
from vfs.repo.trial_verdicts import SKIP_STATUS, CommandFailed, Run, metric_of

MODEL, MODEL_PLACE = "VFS_MODEL", "{model}"
CODE, CODE_PLACE = "VFS_CODE", "{code}"


class Side(NamedTuple):
    """Old or new code, or model: how it is called, the directory to run in, and what the command gets.

    `identity`: what is the same where it is the same code or model.
    """

    name: str
    directory: Path | None
    variable: str
    place: str
    value: str
    identity: str


@vfs_command(
    "crosscheck",
    "vfs crosscheck --data v10 v11 --code HEAD~1 HEAD --metric accuracy -- python train.py --data {data}",
    "vfs crosscheck --data v10 v11 --model old.pt new.pt --metric loss -- python eval.py --model {model} --data {data}",
    interrupted="What was run is kept: the same command line goes on from there.",
)
@click.option("--data", nargs=2, required=True, metavar="OLD NEW", help="Two versions of the data.")
@click.option("--code", nargs=2, metavar="OLD NEW", help="Two commits of the code, checked out temporarily.")
@click.option("--model", nargs=2, metavar="OLD NEW", help="Two models: files or directories.")
@click.option("--metric", required=True, metavar="NAME", help="The metric that the command reports.")
@click.option("--repeat", type=click.IntRange(2, 1000), default=3, metavar="N", help="Runs of each pair, else 3.")
@click.option("--restart", is_flag=True, help="Forget the runs of an interrupted crosscheck.")
@json_option
@branch_option
@repository_option
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
@click.pass_obj
def command(
    invocation: Invocation,
    data: tuple[str, str],
    code: tuple[str, str] | None,
    model: tuple[str, str] | None,
    metric: str,
    repeat: int,
    restart: bool,
    as_json: bool,
    arguments: tuple[str, ...],
) -> None:
    """Say whether the data or the code changed a metric, from all four pairs of old and new; or the data or the model.

    Each pair runs several times; what the runs of one pair differ by is the noise. The verdict is data, code, both,
    interaction (neither does it alone), nothing, or cannot tell where the noise is larger than the effects. Code is
    checked out into git work trees, in which the command runs; `{code}` and VFS_CODE, or `{model}` and VFS_MODEL,
    say which one it is, `{data}` and VFS_DATA where the version is.
    """
    if (code is None) == (model is None):
        raise click.UsageError("Name two of either: --code OLD NEW or --model OLD NEW.")
    with open_repository(invocation) as opened, mount_of(opened) as shown:
        versions = [version_or_read(opened, word) for word in data]
        with _code_sides(code) if code is not None else _model_sides(model or ("", "")) as sides:
            kept = [_kept(opened, arguments, side, restart=restart) for side in sides]
            if count := sum(runs.count for runs in kept):
                echo_err(f"  {human_count(count, 'run')} of an interrupted crosscheck count (--restart begins again)")
            values = [
                [
                    _runs(shown.path, arguments, version, f"{side.name} with {word}", side, metric, repeat, runs)
                    for version, word in zip(versions, data, strict=True)
                ]
                for side, runs in zip(sides, kept, strict=True)
            ]
            for runs in kept:
                runs.forget()
    found = effects(values)
    what = "code" if code is not None else "model"
    if as_json:
        echo_json(_document(found, values, [side.name for side in sides], list(data), what, metric))
    else:
        _say(found, values, [side.name for side in sides], list(data), what, metric, repeat)


@contextmanager
def _code_sides(code: tuple[str, str]) -> Iterator[list[Side]]:
    with code_trees(code, Path.cwd()) as trees:
        yield [
            Side(f"code {tree.short}", tree.directory, CODE, CODE_PLACE, str(tree.directory), tree.commit)
            for tree in trees
        ]


@contextmanager
def _model_sides(model: tuple[str, str]) -> Iterator[list[Side]]:
    for word in model:
        if not os.path.exists(word):
            raise NotFound(
                f"there is no model at {show_path(os.fsencode(word))}", hint="Name two files or directories."
            )
    yield [Side(f"model {word}", None, MODEL, MODEL_PLACE, os.path.abspath(word), _state(word)) for word in model]


def _state(model: str) -> str:
    """Returns path, size and time of a model's files: with others it is another model."""
    below = [os.path.join(above, name) for above, _, names in os.walk(model) for name in names]
    status = [(path, os.lstat(path)) for path in sorted([model, *below])]
    return repr([(os.path.abspath(path), each.st_size, each.st_mtime_ns) for path, each in status])


def _kept(opened: OpenRepository, arguments: tuple[str, ...], side: Side, *, restart: bool) -> KeptRuns:
    """Returns the runs with some code or model that an interrupted crosscheck left."""
    kept = KeptRuns(opened.repository, ["crosscheck", side.variable, side.identity, os.getcwd(), *arguments])
    if restart:
        kept.forget()
    return kept


def _runs(
    mountpoint: Path,
    arguments: tuple[str, ...],
    version: Version,
    where: str,
    side: Side,
    metric: str,
    repeat: int,
    kept: KeptRuns,
) -> list[float]:
    """Runs one pair, but for kept runs, and returns the metric of each run. Raises CommandFailed, NoMetric."""
    words = [word.replace(side.place, side.value) for word in arguments]
    trials = Trials(mountpoint, words, directory=side.directory, variables={side.variable: side.value})
    values: list[float] = []
    seconds = 0.0
    before = list(kept.of(version.id))
    while len(values) < repeat:
        run: Run = before[len(values)] if len(values) < len(before) else trials.run(version.id, where)
        if run.status != 0:
            raise CommandFailed(
                f"the command ended with status {run.status} on {where}",
                hint="All four pairs have to run; bisect skips with 125." if run.status == SKIP_STATUS else "",
            )
        value = metric_of(run, metric)
        if not math.isfinite(value):
            raise InvalidInput(f"{metric} is no finite number on {where}", hint="Choose a metric that always is one.")
        if len(values) >= len(before):
            kept.add(version.id, run)
        values.append(value)
        seconds += run.seconds
    echo_err(f"  {where}: {', '.join(f'{value:.4g}' for value in values)}  {duration_text(seconds)}")
    return values


def _say(
    found: Effects,
    values: list[list[list[float]]],
    sides: list[str],
    data: list[str],
    what: str,
    metric: str,
    repeat: int,
) -> None:
    rows = [["", *(f"data {word}" for word in data)]]
    rows += [[name, *(f"{sum(runs) / len(runs):.4g}" for runs in row)] for name, row in zip(sides, values, strict=True)]
    echo_table(rows)
    echo(f"± {found.spread:.2g} between runs of one pair, {repeat} runs each")
    echo(_verdict(found, what, metric))


def _verdict(found: Effects, what: str, metric: str) -> str:
    data, code = f"{found.data:+.4g}", f"{found.code:+.4g}"
    noise = "within the noise" if found.spread else "nothing"
    weak_code = noise if not found.is_real[1] else "little beside it"
    weak_data = noise if not found.is_real[0] else "little beside it"
    if found.blame == "data":
        return f"The data: it moves {metric} by {data} with either {what}; the {what} by {code}, {weak_code}."
    if found.blame == "code":
        return f"The {what}: it moves {metric} by {code} with either data; the data by {data}, {weak_data}."
    if found.blame == "both":
        return f"Both: the data moves {metric} by {data}, the {what} by {code}."
    if found.blame == "interaction":
        return (
            f"Neither alone: the new data with the new {what} moves {metric} otherwise than each does by itself "
            f"(by {found.interaction:+.4g})."
        )
    if found.blame == "nothing":
        return f"Nothing: {metric} is the same with all four pairs."
    return (
        f"Cannot tell: the data moves {metric} by {data}, the {what} by {code}, and noise makes up to "
        f"{found.noise:.2g} of that. A larger --repeat makes smaller effects visible."
    )


def _document(
    found: Effects, values: list[list[list[float]]], sides: list[str], data: list[str], what: str, metric: str
) -> dict[str, object]:
    return {
        "verdict": what if found.blame == "code" else found.blame,
        "metric": metric,
        "data_effect": found.data,
        f"{what}_effect": found.code,
        "interaction": found.interaction,
        "noise": found.noise,
        "spread": found.spread,
        "pairs": [
            {what: side, "data": word, "values": runs}
            for side, row in zip(sides, values, strict=True)
            for word, runs in zip(data, row, strict=True)
        ],
    }
