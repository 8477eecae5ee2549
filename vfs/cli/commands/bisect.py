"""`vfs bisect`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import click

from vfs.cli.arguments.run_versions import run_named, version_or_read
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.display.version_format import first_line, safe_text, short_id
from vfs.cli.opening.open_repository import OpenRepository, open_repository
from vfs.cli.runs.bisection import Bisection, Guilt, Rows, Trial
from vfs.cli.runs.observed_runs import observing
from vfs.cli.runs.trial_runs import Trials, duration_text, mount_of
from vfs.cli.terminal.output import echo, echo_err, echo_json, style, warn
from vfs.errors import InvalidInput
from vfs.formats.quantities import human_count
from vfs.history.boundary_bisection import runs_expected
from vfs.history.composing import Atom, Composition
from vfs.model.ids import CommitId
from vfs.model.names import show_path
from vfs.model.objects import Version
from vfs.repo.resumable_runs import KeptRuns
from vfs.repo.runs.records import load_record
from vfs.repo.runs.secrets import REDACTED
from vfs.repo.trial_verdicts import Criterion, Judged
from vfs.text.row_composition import RowChange, row_ranges

NOT_NARROWED_STATUS = 1
_SHOWN_MAX = 10
_ROW_CHARACTERS_MAX = 60


@vfs_command(
    "bisect",
    "vfs bisect --good v3 --bad v12 -- python test.py --data /mnt/data",
    "vfs bisect --good v3 --bad v12 --metric accuracy --drop 0.02 -- python train.py --data {data}",
    "vfs bisect r17 r18 --metric accuracy             between two runs, with the second one's command",
    "vfs bisect --good v3 --bad v12 --metric loss --rise 0.1 --repeat 3 -- ./train.sh",
    interrupted="What was run is kept: the same command line goes on from there.",
)
@click.option("--good", "goods", multiple=True, metavar="VERSION", help="A version that is good, or a run of it.")
@click.option("--bad", metavar="VERSION", help="A later version that is bad, or a run of it.")
@click.option("--metric", metavar="NAME", help="Judge by a metric that the command reports, not by its exit status.")
@click.option(
    "--drop", type=click.FloatRange(min=0), metavar="X", help="Bad is below the good version's metric minus X."
)
@click.option(
    "--rise", type=click.FloatRange(min=0), metavar="X", help="Bad is above the good version's metric plus X."
)
@click.option("--repeat", type=click.IntRange(1, 1000), default=1, metavar="N", help="Runs of each version, else 1.")
@click.option("--versions-only", is_flag=True, help="Do not look inside the guilty version.")
@click.option("--restart", is_flag=True, help="Forget the runs of an interrupted bisection.")
@click.option("-q", "--quiet", is_flag=True, help="Do not show what the command prints.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@branch_option
@repository_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[RUN RUN] -- CMD...")
@click.pass_obj
def command(
    invocation: Invocation,
    goods: tuple[str, ...],
    bad: str | None,
    metric: str | None,
    drop: float | None,
    rise: float | None,
    repeat: int,
    versions_only: bool,
    restart: bool,
    quiet: bool,
    yes: bool,
    as_json: bool,
    arguments: tuple[str, ...],
) -> int:
    """Find the version, files and rows that made a command fail, or a metric worse.

    The command is run on versions without a checkout: it sees each one as the mount itself, and `{data}` in its
    arguments and VFS_DATA in its environment are the path. Exit status 0 is good, 125 skips the version, 1 to 124 is
    bad. With --metric the command writes lines `NAME=0.93`, or JSON, into the file that VFS_METRICS names; both ends
    are run first, and without --drop and --rise halfway between them is the boundary. Then subsets of the guilty
    version's changes are tried, as views that are no versions, and of a changed text or CSV its rows. The exit status
    is 1 where skipped versions leave several to suspect.
    """
    if metric is None and (drop is not None or rise is not None):
        raise click.UsageError("--drop and --rise need --metric.")
    if drop is not None and rise is not None:
        raise click.UsageError("Name --drop or --rise, not both.")
    with open_repository(invocation) as opened, mount_of(opened) as shown:
        asked = _asked(opened, goods, bad, arguments)
        ends, arguments = asked.ends, asked.command
        question = [*(version.id.hex() for version in ends), str(metric), str(drop), str(rise), os.getcwd(), *arguments]
        kept = KeptRuns(opened.repository, question)
        if restart:
            kept.forget()
        reporter = _Reporter(as_json)
        if kept.count:
            echo_err(f"  {human_count(kept.count, 'run')} of an interrupted bisection count (--restart begins again)")
        trials = Trials(shown.path, arguments, observing=partial(observing, opened, shown.branch), is_quiet=quiet)
        bisection = Bisection(opened.repository, kept, trials.run, Criterion(), repeat, reporter)
        if metric is not None:
            bisection.criterion = _boundary(bisection, ends, metric, drop, rise)
        status = _Search(opened, bisection, reporter, versions_only=versions_only, yes=yes).run(ends[:-1], ends[-1])
        kept.forget()
        return status


class _Asked(NamedTuple):
    """What is searched: the good versions and behind them the bad one, and by which command."""

    ends: list[Version]
    command: tuple[str, ...]


def _asked(opened: OpenRepository, goods: tuple[str, ...], bad: str | None, arguments: tuple[str, ...]) -> _Asked:
    """Returns what is searched: `r17 r18` stand for --good r17 --bad r18, and for the command of r18 if none is given.

    Raises click.UsageError, InvalidInput.
    """
    words = list(arguments)
    if not goods and bad is None and len(words) >= 2 and all(run_named(opened, word) for word in words[:2]):
        goods, bad = (words.pop(0),), words.pop(0)
    if not goods or bad is None:
        raise click.UsageError("Name --good VERSION and --bad VERSION, or two runs: `vfs bisect r17 r18`.")
    if not words:
        run = run_named(opened, bad)
        if run is None:
            raise click.UsageError("Name the command: `vfs bisect … -- CMD`.")
        record = load_record(opened.repository, run)
        if record.is_private or not record.command or any(REDACTED in word for word in record.command):
            raise InvalidInput(f"the record of {run.name} has not all of its command", hint="Name it: -- CMD.")
        words = list(record.command)
    return _Asked([version_or_read(opened, word) for word in (*goods, bad)], tuple(words))


def _boundary(
    bisection: Bisection, ends: list[Version], metric: str, drop: float | None, rise: float | None
) -> Criterion:
    """Runs both ends and returns what is bad. Raises InvalidInput where the bad end is none."""
    # Nothing is bad yet: what is wanted are the means.
    bisection.criterion = Criterion(metric, -float("inf"))
    good, bad = (bisection.measure(version) for version in (ends[0], ends[-1]))
    names = [bisection.name(version) for version in (ends[0], ends[-1])]
    if good.mean is None:
        raise InvalidInput(f"{names[0]} is not good: the command failed there, or reported no number")
    if drop is not None or rise is not None:
        criterion = Criterion(metric, good.mean - (drop or 0.0) + (rise or 0.0), is_loss=rise is not None)
    elif bad.mean is None:
        criterion = Criterion(metric, -float("inf"))
    else:
        criterion = Criterion(metric, (good.mean + bad.mean) / 2, is_loss=bad.mean > good.mean)
    is_bad = bad.mean is None or (
        bad.mean > criterion.threshold if criterion.is_loss else bad.mean < criterion.threshold
    )
    if not is_bad:
        raise InvalidInput(
            f"{names[1]} is not bad: {metric} is {bad.mean:.4g} there and {good.mean:.4g} on {names[0]}",
            hint="Name other versions, or a smaller --drop or --rise.",
        )
    return criterion


class _Reporter:
    """Prints what is judged, one line each."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._expected = 0
        self._done = 0

    def began(self, words: str, runs: int) -> None:
        """Prints the size of a search."""
        self._expected, self._done = runs, 0
        if not self.as_json:
            echo(f"{words}: about {human_count(runs, 'run')}")

    def judged(self, trial: Trial) -> None:
        """Prints a verdict."""
        self._done += not trial.is_end and not trial.same_as
        if self.as_json:
            echo_json({"judged": _trial_document(trial)})
            return
        judged = trial.judged
        words = {"good": ("good", "green"), "bad": ("bad", "red"), "skip": ("skipped", "yellow")}[judged.verdict]
        if trial.is_end:
            words = ("", "")
        cells = [trial.words.ljust(24), style(words[0].ljust(7), *filter(None, words[1:]))]
        if judged.mean is not None:
            cells.insert(1, f"{judged.mean:<8.4g}")
        cells.append(f"{self._done}/{self._expected}" if self._expected and not trial.is_end else "")
        if trial.same_as:
            cells.append(f"as {trial.same_as}: nothing differs that the command reads")
        else:
            cells.append(duration_text(trial.seconds))
        if judged.runs > 1:
            spread = f", ± {judged.spread:.2g}" if judged.spread is not None else ""
            cells.append(f"{judged.bad_runs} of {judged.runs} runs bad{spread}")
        if not judged.is_sure:
            cells.append("not sure")
        echo("  " + "  ".join(filter(None, cells)))


class _Search:
    """The steps of one bisection, and what is said between them."""

    def __init__(
        self, opened: OpenRepository, bisection: Bisection, reporter: _Reporter, *, versions_only: bool, yes: bool
    ) -> None:
        self._opened = opened
        self._bisection = bisection
        self._reporter = reporter
        self._versions_only = versions_only
        self._yes = yes

    def run(self, goods: list[Version], bad: Version) -> int:
        """Looks for the version, then inside it; returns the exit status."""
        suspects = self._bisection.first_bad(goods, bad)
        if len(suspects) > 1:
            return self._several(suspects)
        (found,) = suspects
        guilt: Guilt | None = None
        if found.commit.parents and not self._versions_only:
            parent = self._bisection.version(CommitId(found.commit.parents[0]))
            if not self._opened.repository.refs.is_forgotten(parent.id):
                guilt = self._inside(parent, found)
        elif not self._reporter.as_json:
            self._say_found(found)
        if self._reporter.as_json:
            echo_json({"result": self._document(found, guilt)})
        self._say_noise()
        return 0

    def _several(self, suspects: list[Version]) -> int:
        names = [self._bisection.name(version) for version in suspects]
        if self._reporter.as_json:
            echo_json({"suspects": [_version_document(self._bisection, version) for version in suspects]})
        else:
            echo(f"One of these {len(names)} versions made it bad; the rest was skipped: {', '.join(names)}")
        return NOT_NARROWED_STATUS

    def _say_found(self, found: Version) -> None:
        name, digits = self._bisection.name(found), short_id(found.id)
        words = [style(name, "bold"), *([digits] if digits != name else []), repr(first_line(found.commit.message))]
        echo(f"{' '.join(words)} made it bad.")

    def _inside(self, parent: Version, found: Version) -> Guilt | None:
        composition = self._bisection.composition(parent, found)
        count = len(composition.atoms)
        if not self._reporter.as_json:
            self._say_found(found)
        if not count or not self._is_wanted(count):
            return None
        self._reporter.began(
            f"Inside {self._bisection.name(found)}, {human_count(count, 'change')}", runs_expected(count)
        )
        guilt = self._bisection.guilty(parent, found, composition)
        if not self._reporter.as_json:
            self._say_guilt(guilt, composition)
        return guilt

    def _is_wanted(self, count: int) -> bool:
        if self._yes or count == 1 or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return True
        question = f"Look inside? {human_count(count, 'change')}, about {human_count(runs_expected(count), 'run')}."
        return click.confirm(question, default=True, err=True)

    def _say_guilt(self, guilt: Guilt, composition: Composition) -> None:
        groups = [*((atom,) for atom in guilt.atoms), *guilt.unsure]
        if len(groups) == 1:
            echo(f"1 of {human_count(guilt.of, 'change')} is enough:" if guilt.of > 1 else "Its one change:")
        else:
            echo(f"{len(groups)} of {human_count(guilt.of, 'change')} are needed together:")
        rows = {found.path: found for found in guilt.rows}
        for atom in guilt.atoms:
            echo(f"  {_atom_words(atom)}")
            for path in atom.paths:
                if path in rows:
                    _say_rows(rows[path])
        for group in guilt.unsure:
            echo(f"  one or several of {len(group)} more, which were not told apart:")
            for atom in group[:_SHOWN_MAX]:
                echo(f"    {_atom_words(atom)}")
            if len(group) > _SHOWN_MAX:
                echo(f"    and {len(group) - _SHOWN_MAX} more")

    def _say_noise(self) -> None:
        spread = self._bisection.spread()
        unsure = sum(not judged.is_sure for judged in self._bisection.trials)
        if unsure:
            noise = f" (runs of the same data differ by ± {spread:.2g})" if spread is not None else ""
            warn(f"{human_count(unsure, 'verdict')} could be otherwise{noise}: a larger --repeat makes it sure")

    def _document(self, found: Version, guilt: Guilt | None) -> dict[str, Any]:
        made = _version_document(self._bisection, found)
        made["runs"] = self._bisection.runs_made
        made["unsure"] = sum(not judged.is_sure for judged in self._bisection.trials)
        if guilt is not None:
            rows = {rows.path: rows for rows in guilt.rows}
            made["of"] = guilt.of
            made["changes"] = [
                {
                    "paths": [os.fsdecode(path) for path in atom.paths],
                    "rows": [_row_document(row) for path in atom.paths if path in rows for row in rows[path].changes],
                    "among_rows": [
                        _row_document(row) for path in atom.paths if path in rows for row in rows[path].among
                    ],
                    "rows_unknown": next((rows[path].reason for path in atom.paths if path in rows), "") or None,
                }
                for atom in guilt.atoms
            ]
            made["untested"] = [
                [[os.fsdecode(path) for path in atom.paths] for atom in group] for group in guilt.unsure
            ]
        return made


def _version_document(bisection: Bisection, version: Version) -> dict[str, Any]:
    return {"version": bisection.name(version), "commit": version.id.hex(), "message": version.commit.message}


def _trial_document(trial: Trial) -> dict[str, Any]:
    judged: Judged = trial.judged
    return {
        "commit": trial.commit_id.hex(),
        "words": trial.words,
        "verdict": None if trial.is_end else judged.verdict,
        "runs": judged.runs,
        "bad_runs": judged.bad_runs,
        "mean": judged.mean,
        "spread": judged.spread,
        "sure": judged.is_sure,
        "seconds": round(trial.seconds, 3),
        "same_as": trial.same_as or None,
    }


def _row_document(row: RowChange) -> dict[str, Any]:
    return {
        "old_row": row.old_row,
        "new_row": row.new_row,
        "old": row.old.decode("utf-8", "surrogateescape"),
        "new": row.new.decode("utf-8", "surrogateescape"),
    }


def _atom_words(atom: Atom) -> str:
    paths = [show_path(path) or "the root directory" for path in atom.paths]
    kinds = {change.kind for change in atom.changes}
    kind = kinds.pop() if len(kinds) == 1 else "changed together"
    more = f" and {len(paths) - _SHOWN_MAX} more" if len(paths) > _SHOWN_MAX else ""
    return f"{', '.join(paths[:_SHOWN_MAX])}{more} ({kind})"


def _say_rows(rows: Rows) -> None:
    if rows.reason:
        echo(f"    which of its rows is not known: {rows.reason}")
    if rows.changes:
        of = f", of {human_count(rows.of, 'changed row')}" if rows.of > len(rows.changes) else ""
        echo(f"    {_row_numbers(rows.changes)}{of}")
    for row in rows.changes[:_SHOWN_MAX]:
        echo(f"      {_row_text(row.old) or '(none)'} → {_row_text(row.new) or '(none)'}")
    if rows.among:
        echo(f"    and some of {len(rows.among)} more: {_row_numbers(rows.among)}")


def _row_numbers(changes: Sequence[RowChange]) -> str:
    numbers = [row.new_row for row in changes if row.new_row is not None]
    gone = [row.old_row for row in changes if row.new_row is None and row.old_row is not None]
    words = [row_ranges(numbers)] if numbers else []
    words += [f"{row_ranges(gone)} of before, which went"] if gone else []
    return " and ".join(words)


def _row_text(row: bytes) -> str:
    text = safe_text(row.rstrip(b"\r\n").decode("utf-8", "surrogateescape"))
    return text if len(text) <= _ROW_CHARACTERS_MAX else text[: _ROW_CHARACTERS_MAX - 1] + "…"
